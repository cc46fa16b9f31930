"""Defences beside each other: what each costs, and what each keeps from leaking."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from seg_mia.audit.privacy import finite, over_epsilon
from seg_mia.membership.compare import compare
from seg_mia.results.files import write_bytes, write_text
from seg_mia.results.membership_figures import LINES
from seg_mia.results.pictures import png, rendered
from seg_mia.results.text import aligned, interval, lost, permits_at_1

Row = Mapping[str, Any]
NOTHING = "none, which proves nothing"
"""What a table says where no epsilon is proved, which is no sign of privacy."""
MARKERS = "osD^vP*Xph<>"


def outcome(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a comparison needs of an attack's summary."""
    results = result["results"]
    measures = (
        ("auc", "tpr_at_fpr_0.1", "tpr_at_fpr_0.01") if "auc" in results else ("iou", "dice_adversarial")
    )
    own = {name: results[name] for name in measures}
    if "certified" in result:
        own["certified"] = result["certified"]
    return {name: result[name] for name in ("name", "sees", "folder")} | own


def compared_to_first(rows: Sequence[dict[str, Any]]) -> None:
    """Add to each membership outcome its AUC minus that on the first row's victim, with its interval."""
    for row in rows[1:]:
        for mine, first in zip(row["attacks"], rows[0]["attacks"], strict=True):
            if "auc" in mine:
                mine["difference"] = asdict(compare(mine["folder"], first["folder"]))


def defence_table(rows: Sequence[Row]) -> list[str]:
    """Return the comparison as lines of aligned columns, one per defence."""
    cells = [_header(rows), *(_cells(row, promised=private(rows)) for row in rows)]
    return aligned(cells) + triggers(rows)


def triggers(rows: Sequence[Row]) -> list[str]:
    """Return a line for each poisoned victim: what its trigger does to non-members."""
    lines = []
    for row in rows:
        own = row["utility"]["nonmembers"]
        if "triggered_area" in own:
            change = lost(own["area"], own["triggered_area"], own["triggered_success"])
            lines.append(f"{row['defence']}: {change}; Dice {own['dice']:.3f} -> {own['triggered_dice']:.3f}")
    return lines


def write_matrix(folder: Path, seed: int, rows: Sequence[Row]) -> None:
    """Write the comparison as `defences_seed_N.md` and, where members were guessed, `.png`.

    Where some victim's training was differentially private, also `privacy_seed_N.png`.
    """
    body = [_cells(row, promised=private(rows)) for row in rows]
    lines = [_header(rows), ["---"] * len(_header(rows)), *body]
    text = "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
    notes = "".join(f"\n{line}\n" for line in triggers(rows))
    write_text(folder / f"defences_seed_{seed}.md", f"{text}\n{notes}")
    if any("auc" in attack for attack in rows[0]["attacks"]):
        write_bytes(folder / f"defences_seed_{seed}.png", png(trade_off(rows)))
        if any(map(finite, rows)):
            write_bytes(folder / f"privacy_seed_{seed}.png", png(over_epsilon(rows)))


def trade_off(rows: Sequence[Row]) -> NDArray[np.uint8]:
    """Return utility against leakage (H, W, 3): a panel per membership attack, a point per defence.

    Args:
        rows: of one seed; Dice on non-members lies right, AUC with its 95 % interval up.
    """
    attacks = [number for number, attack in enumerate(rows[0]["attacks"]) if "auc" in attack]
    figure = Figure(figsize=(4.4 * len(attacks) + 1.8, 4.2), dpi=110, layout="constrained")
    panels = figure.subplots(1, len(attacks), squeeze=False, sharey=True)[0]
    for axes, number in zip(panels, attacks, strict=True):
        _panel(axes, rows, number)
    panels[0].set_ylabel("AUC of membership inference")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=8, frameon=False)
    return rendered(figure)


def _panel(axes: Axes, rows: Sequence[Row], number: int) -> None:
    for place, row in enumerate(rows):
        auc, dice = row["attacks"][number]["auc"], row["utility"]["nonmembers"]["dice"]
        filled = row["shadow"] != "defended"
        colour = LINES[place % len(LINES)]
        axes.errorbar(
            dice,
            auc["value"],
            yerr=[[auc["value"] - auc["low"]], [auc["high"] - auc["value"]]],
            fmt=MARKERS[place % len(MARKERS)],
            color=colour,
            mfc=colour if filled else "white",
            capsize=2,
            lw=1,
            label=row["defence"] + ("" if filled else ", attacker knows"),
        )
    lowest = min(attack["auc"]["low"] for row in rows for attack in row["attacks"] if "auc" in attack)
    axes.axhline(0.5, color="0.3", ls=":", lw=1.2)
    axes.set(
        title=rows[0]["attacks"][number]["name"],
        xlabel="Dice on non-members",
        ylim=(min(0.4, lowest - 0.02), 1.02),
    )
    axes.margins(x=0.15)


def _header(rows: Sequence[Row]) -> list[str]:
    header = ["defence", "shadow", "Dice, others", "Dice, members"]
    if private(rows):
        header.append("epsilon promised")
    for attack in rows[0]["attacks"]:
        name = attack["name"]
        if "auc" in attack:
            header += [f"{name}: AUC", "TPR at 10 %, 1 % FPR", f"difference to {rows[0]['defence']}"]
            if private(rows):
                header.append("epsilon proved (at most)")
        else:
            header.append(f"{name}: IoU with its target")
    return header


def private(rows: Sequence[Row]) -> bool:
    """Return whether any victim promised differential privacy."""
    return any(row.get("privacy") for row in rows)


def _promised(row: Row) -> str:
    promise = row.get("privacy")
    if not promise:
        return "none"
    permitted = f", permits {permits_at_1(promise['permitted'])}" if "permitted" in promise else ""
    return f"{promise['epsilon']:.3g} at delta {promise['delta']:.2g} per {promise['unit']}{permitted}"


def _cells(row: Row, *, promised: bool) -> list[str]:
    dice = [f"{row['utility'][subset]['dice']:.3f}" for subset in ("nonmembers", "members")]
    cells = [row["defence"], row["shadow"] or "none", *dice]
    if promised:
        cells.append(_promised(row))
    for attack in row["attacks"]:
        if "auc" in attack:
            low = [attack[name] for name in ("tpr_at_fpr_0.1", "tpr_at_fpr_0.01")]
            rates = ", ".join(f"{tpr['value']:.2f}{'' if tpr['resolvable'] else '*'}" for tpr in low)
            difference = attack.get("difference")
            cells += [interval(attack["auc"]), rates, interval(difference) if difference else ""]
            if promised:
                proved = attack["certified"]
                shown = f"{proved['epsilon']:.2f} ({proved['most']:.2f})"
                cells.append(shown if proved["epsilon"] else NOTHING)
        else:
            cells.append(f"{attack['iou']['mean']:.3f}")
    return cells
