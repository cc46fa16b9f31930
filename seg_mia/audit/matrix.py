"""Comparison of defences: their cost in utility, and their effect on leakage."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from seg_mia.membership.compare import compare
from seg_mia.results.audit import Victim
from seg_mia.results.base import Measure
from seg_mia.results.charts.defences import trade_offs
from seg_mia.results.charts.epsilon import epsilon_charts
from seg_mia.results.charts.png import beside
from seg_mia.results.files import write_bytes, write_text
from seg_mia.results.membership import MembershipResult
from seg_mia.results.perturbation import PerturbationResult
from seg_mia.results.pictures import png
from seg_mia.results.tables import aligned, interval, markdown, mask_lost
from seg_mia.results.text import permits_at_1

AttackResult = MembershipResult | PerturbationResult
NOTHING = "none (no evidence of privacy)"
"""Table text if no epsilon is shown, which does not indicate privacy."""


class Compared(NamedTuple):
    """One victim, with the results of the attacks run on all victims."""

    victim: Victim
    results: list[AttackResult]


def side_by_side(victims: Sequence[Victim], results: Sequence[AttackResult]) -> list[Compared]:
    """Return victims with their attacks; baselines and controls, run on the first only, are omitted."""
    met = [
        result for result in results if not isinstance(result, MembershipResult) or result.role == "attack"
    ]
    return [Compared(victim, [result for result in met if result.key == victim.key]) for victim in victims]


def with_differences(results: Sequence[AttackResult]) -> list[AttackResult]:
    """Return results, each membership attack with its AUC minus that on the first victim of its seed."""
    firsts = {(result.round, result.label): result for result in results if result.row == 0}
    compared = list[AttackResult]()
    for result in results:
        first = firsts.get((result.round, result.label))
        if isinstance(result, MembershipResult) and result.row and first is not None:
            difference = Measure(**asdict(compare(result.folder, first.folder)))
            compared.append(result.model_copy(update={"difference": difference}))
        else:
            compared.append(result)
    return compared


def defence_table(rows: Sequence[Compared]) -> list[str]:
    """Return the comparison as lines of aligned columns, one per defence."""
    return aligned(_table(rows)) + triggers([row.victim for row in rows])


def triggers(victims: Sequence[Victim]) -> list[str]:
    """Return a line for each poisoned victim: the effect of its trigger on non-members."""
    lines = []
    for victim in victims:
        dice = victim.utility.get("nonmembers", {})
        if "triggered_area" in dice:
            numbers = {name: value or 0.0 for name, value in dice.items()}
            change = mask_lost(numbers["area"], numbers["triggered_area"], numbers["triggered_success"])
            lines.append(
                f"{victim.defence}: {change}; Dice {numbers['dice']:.3f} -> {numbers['triggered_dice']:.3f}"
            )
    return lines


def write_matrix(folder: Path, seed: int, rows: Sequence[Compared]) -> None:
    """Write the comparison as `defences_seed_N.md` and, for membership attacks, `.png`.

    If guarantees of differential privacy differ, also `privacy_seed_N.png`.
    """
    victims = [row.victim for row in rows]
    notes = "".join(f"\n{line}\n" for line in triggers(victims))
    write_text(folder / f"defences_seed_{seed}.md", f"{markdown(_table(rows))}\n{notes}")
    inferred = [result for row in rows for result in row.results if isinstance(result, MembershipResult)]
    for name, charts in (
        ("defences", trade_offs(victims, inferred)),
        ("privacy", epsilon_charts(victims, inferred)),
    ):
        if charts:
            sheet = beside([chart.drawing for chart in charts])
            write_bytes(folder / f"{name}_seed_{seed}.png", png(sheet))


def _table(rows: Sequence[Compared]) -> list[list[str]]:
    promised = any(row.victim.privacy for row in rows)
    return [_header(rows[0], promised=promised), *(_cells(row, promised=promised) for row in rows)]


def _header(first: Compared, *, promised: bool) -> list[str]:
    header = ["defence", "shadow", "Dice, non-members", "Dice, members"]
    header += ["epsilon guaranteed"] if promised else []
    for result in first.results:
        if isinstance(result, MembershipResult):
            header += [f"{result.name}: AUC", "TPR at 10 %, 1 % FPR"]
            header.append(f"difference to {first.victim.defence}")
            header += ["epsilon at least, if samples are independent (largest possible)"] if promised else []
        else:
            header.append(f"{result.name}: IoU with its target")
    return header


def _cells(row: Compared, *, promised: bool) -> list[str]:
    victim = row.victim
    cells = [victim.defence, victim.shadow or "none"]
    cells += [_number(victim.dice(subset)) for subset in ("nonmembers", "members")]
    cells += [_promise(victim)] if promised else []
    for result in row.results:
        if isinstance(result, MembershipResult):
            low = (result.results.tpr_at_10, result.results.tpr_at_1)
            rates = ", ".join(f"{_number(tpr.value, 2)}{'' if tpr.resolvable else '*'}" for tpr in low)
            difference = "" if result.difference is None else interval(result.difference)
            cells += [interval(result.auc), rates, difference, *([_proof(result)] if promised else [])]
        else:
            cells.append(_number(result.mean("iou")))
    return cells


def _promise(victim: Victim) -> str:
    privacy = victim.privacy
    if privacy is None:
        return "none"
    epsilon = "inf" if privacy.epsilon is None else f"{privacy.epsilon:.3g}"
    delta = "" if privacy.delta is None else f" at delta {privacy.delta:.2g}"
    permitted = "" if privacy.permitted is None else f", permits {permits_at_1(privacy.permitted)}"
    return f"{epsilon}{delta} per {privacy.unit}{permitted}"


def _proof(result: MembershipResult) -> str:
    bounds = [bound for bound in result.bounds.values() if bound.epsilon]
    if not bounds:
        return NOTHING
    largest = max(bounds, key=lambda bound: bound.epsilon or 0.0)
    return f"{largest.epsilon:.2f} ({largest.attainable or 0.0:.2f})"


def _number(value: float | None, digits: int = 3) -> str:
    return "none" if value is None else f"{value:.{digits}f}"
