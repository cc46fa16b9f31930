"""The table of an audit's results in Markdown, an attack a line, a victim a column: audit_table.py RUN.

RUN is an audit's folder, whose report.json is read: runs/NAME/version_N, or runs/NAME for the newest.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from seg_mia.membership.tradeoff import Permitted
from seg_mia.results.text import permits_at_1

Entry = Mapping[str, Any]


def interval(measure: Entry | None) -> str:
    """Return a number and its interval."""
    if measure is None or measure["value"] is None:
        return ""
    low, high = measure["low"], measure["high"]
    mark = "" if measure.get("resolvable", True) else "*"
    return f"{measure['value']:.3f}{mark}" + (f" [{low:.3f}, {high:.3f}]" if low is not None else "")


def guessed(result: Entry) -> str:
    """Return how well members were told, over images and, where there are several of them, over patients."""
    over = f"; patients {interval(result['groups']['auc'])}" if result["groups"] else ""
    measures = result["results"]
    return f"AUC {interval(measures['auc'])}, TPR {interval(measures['tpr_at_fpr_0.01'])}{over}"


def fooled(result: Entry) -> str:
    """Return what a perturbation did."""
    mean = {name: measure["mean"] for name, measure in result["results"].items()}
    iou_change = f"IoU {mean['iou_before']:.3f} to {mean['iou']:.3f}, " if result["is_targeted"] else ""
    rows = [row for row in result["success"] if row["loss"] == "fused"]
    succeeded = f", success {interval(rows[0] | {'value': rows[0]['rate']})}" if rows else ""
    return (
        f"{iou_change}Dice {mean['dice_clean']:.3f} to {mean['dice_adversarial']:.3f}{succeeded}, "
        f"SSIM {mean['ssim']:.2f}"
    )


def lines(report: Entry) -> Iterator[Sequence[str]]:
    """Yield the cells of each line, the header first."""
    victims = sorted(report["victims"], key=lambda victim: victim["row"])
    yield "", *(victim["defence"] for victim in victims)
    for part in ("nonmembers", "members"):
        yield f"Dice on {part}", *(f"{victim['utility'][part]['dice']:.3f}" for victim in victims)
    yield "epsilon promised", *(_promise(victim["privacy"]) for victim in victims)
    groups: tuple[tuple[str, Callable[[Entry], str]], ...] = (
        ("membership", guessed),
        ("perturbations", fooled),
    )
    for name, describe in groups:
        cells_of_attack: dict[str, dict[int, str]] = {}
        for result in report[name]:
            cells_of_attack.setdefault(result["label"], {})[result["row"]] = describe(result)
        for label, cells in cells_of_attack.items():
            yield f"`{label}`", *(cells.get(victim["row"], "") for victim in victims)
    for question in ("leak", "robustness"):
        judged = {row["row"]: row[question]["word"].lower() for row in report["verdicts"]}
        yield f"verdict: {question}", *(judged[victim["row"]] for victim in victims)


def _promise(promise: Entry | None) -> str:
    if promise is None:
        return "none"
    epsilon = "infinite" if promise["epsilon"] is None else f"{promise['epsilon']:.3g}"
    permitted = promise.get("permitted")
    permits = f", permits {permits_at_1(Permitted(**permitted))}" if permitted else ""
    return f"{epsilon} per {promise['unit']}{permits}"


def newest(run: Path) -> Path:
    """Return the report of an audit's folder, or of the newest version in it."""
    versions = sorted(run.glob("version_*/report.json"), key=lambda file: (len(str(file)), file))
    for file in (run / "report.json", *reversed(versions)):
        if file.is_file():
            return file
    raise FileNotFoundError(f"{run} holds no report.json, nor does a version_N in it; name an audit's folder")


def main() -> None:
    """Print the table, and below it on what and when it was measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    try:
        report = json.loads(newest(parser.parse_args().run).read_text())
    except (OSError, ValueError) as error:
        parser.exit(2, f"audit_table.py: error: {error}\n")
    header, *rows = lines(report)
    for cells in (header, ["---"] * len(header), *rows):
        print(f"| {' | '.join(cells)} |")
    tool = report["tool"] or {}
    print(
        f"\n{report['seconds'] / 60:.0f} minutes of computing, {report['created'] or 'date unknown'}, {tool}"
    )


if __name__ == "__main__":
    main()
