"""Figures of utility against leakage of several victims."""

from collections.abc import Sequence
from typing import NamedTuple

from seg_mia.results.audit import Victim
from seg_mia.results.base import Measure
from seg_mia.results.charts.drawing import INK, Chart, Drawing, Key, colour, ends, framed, marker, style
from seg_mia.results.membership import MembershipResult
from seg_mia.results.tables import interval

NEAR = 0.03
"""Fraction of the Dice range within which markers would overlap."""
ASIDE = 8.0
"""Distance of markers placed side by side, in points."""


class Point(NamedTuple):
    """One defence in a plot of utility against leakage."""

    label: str
    dice: float
    auc: Measure
    filled: bool


def trade_offs(victims: Sequence[Victim], results: Sequence[MembershipResult]) -> list[Chart]:
    """Return a figure for each attack run on several victims of one seed.

    Args:
        victims: victims of one seed.
        results: results of membership attacks, on these and others.
    """
    rows = sorted(victims, key=lambda victim: victim.row)
    charts = []
    for label in dict.fromkeys(result.label for result in results if result.role == "attack"):
        points = [
            Point(victim.defence + _knows(victim), dice, result.auc, victim.shadow != "defended")
            for victim in rows
            for result in results
            if (result.key, result.label) == (victim.key, label)
            and (dice := victim.dice("nonmembers")) is not None
        ]
        if len(points) > 1:
            description = "; ".join(
                f"{point.label}: Dice {point.dice:.3f}, AUC {interval(point.auc)}" for point in points
            )
            charts.append(Chart(label, trade_off_drawing(points, f"{label}. {description}")))
    return charts


def _knows(victim: Victim) -> str:
    return " (attacker knows)" if victim.shadow == "defended" else ""


def trade_off_drawing(points: Sequence[Point], description: str) -> Drawing:
    """Return Dice on non-members (x axis) against an attack's AUC (y axis), a point per defence."""
    from matplotlib.transforms import ScaledTranslation

    keys = []
    with style():
        figure, axes = framed(3.4)
        axes.axhline(0.5, color=INK, lw=1, ls=(0, (1, 2)))
        lowest = 0.5
        aside = offsets([point.dice for point in points])
        for number, point in enumerate(points):
            value, low, high = ends(point.auc)
            moved = ScaledTranslation(aside[number] / 72, 0, figure.dpi_scale_trans)
            axes.errorbar(
                point.dice,
                value,
                yerr=[[max(0.0, value - low)], [max(0.0, high - value)]],
                marker=marker(number),
                ms=6,
                color=colour(number),
                mfc=colour(number) if point.filled else "none",
                capsize=2,
                lw=1.2,
                clip_on=False,
                transform=axes.transData + moved,
            )
            axes.update_datalim([(point.dice, value)])  # which an offset hides from autoscaling
            lowest = min(lowest, low)
            keys.append(Key(point.label, colour(number), "", marker(number), point.filled))
        axes.set(
            xlabel="Dice on non-members", ylabel="AUC of the attack", ylim=(min(0.4, lowest - 0.02), 1.0)
        )
        axes.margins(x=0.12)
    caption = "Lower right is better. Bars: 95 % intervals. Dotted: guessing."
    caption += " Victims of nearly equal Dice are shifted apart." if any(aside) else ""
    return Drawing(figure, f"Utility against leakage. {description}", keys, caption)


def offsets(values: Sequence[float]) -> list[float]:
    """Return the horizontal offset of each marker, in points: side by side around a shared position."""
    order = sorted(range(len(values)), key=lambda number: values[number])
    near = NEAR * (max(values) - min(values))
    shifts = [0.0] * len(values)
    cluster = list[int]()
    for position, number in enumerate(order):
        cluster.append(number)
        if position + 1 == len(order) or values[order[position + 1]] - values[number] > near:
            for rank, index in enumerate(cluster):
                shifts[index] = ASIDE * (rank - (len(cluster) - 1) / 2)
            cluster = []
    return shifts
