"""Figures of the utility and leakage of differentially private victims over the claimed epsilon."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from seg_mia.results.audit import Victim
from seg_mia.results.base import Measure
from seg_mia.results.charts.drawing import (
    DASHES,
    INK,
    Chart,
    Drawing,
    Key,
    colour,
    ends,
    framed,
    marker,
    stroke,
    style,
)
from seg_mia.results.membership import MembershipResult
from seg_mia.results.privacy import DPGuarantee
from seg_mia.results.tables import interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUBSETS = {"nonmembers": "non-members", "members": "members"}
NEAR = 0.09
"""Fraction of the axis occupied by the label of an epsilon."""
APART, BESIDE = 0.2, 0.08
"""Distance of victims without a finite epsilon from the largest one, and from each other; as a fraction of
the finite range, but of at least a decade.
"""
SIDE = 0.015
"""Offset of series as a fraction of the axis, so that their intervals do not overlap."""


class Scale(NamedTuple):
    """Positions of victims along the axis.

    Attributes:
        positions: one per victim, the decimal logarithm of epsilon if it is finite.
        finite: whether it is finite.
        ticks: positions and their labels.
        edge: left end of the positions without a finite epsilon, None if all are finite.
        ends: of the axis.
    """

    positions: list[float]
    finite: list[bool]
    ticks: dict[float, str]
    edge: float | None
    ends: tuple[float, float]


def epsilon_charts(victims: Sequence[Victim], results: Sequence[MembershipResult]) -> list[Chart]:
    """Return Dice and AUC over the claimed epsilon, for one seed's victims and each unit of guarantees.

    An epsilon per patient is not comparable with one per image: guarantees of different units have separate
    axes. At least two guarantees are required, one of them finite: otherwise there is no axis, and a single
    point shows no change. Two victims with the same guarantee are one point of the axis.
    """
    rows = sorted(victims, key=lambda victim: victim.row)
    guarantees = [victim.privacy for victim in rows if victim.privacy is not None]
    units = dict.fromkeys(
        guarantee.unit
        for guarantee in guarantees
        if guarantee.epsilon is not None and _has_position(guarantee, guarantee.unit)
    )
    charts = list[Chart]()
    for unit in units:
        comparable = [victim for victim in rows if _has_position(victim.privacy, unit)]
        if len({_epsilon(victim.privacy) for victim in comparable}) > 1:
            charts += _charts(comparable, results, unit)
    return charts


def _charts(rows: Sequence[Victim], results: Sequence[MembershipResult], unit: str) -> Iterator[Chart]:
    dice = {name: [Measure(victim.dice(subset)) for victim in rows] for subset, name in SUBSETS.items()}
    attacks = [result for result in results if result.role == "attack"]
    aucs = {
        label: [
            next(
                (result.auc for result in attacks if result.key == victim.key and result.label == label),
                Measure(None),
            )
            for victim in rows
        ]
        for label in dict.fromkeys(result.label for result in attacks)
    }
    names = [victim.defence for victim in rows]
    epsilons = [_epsilon(victim.privacy) for victim in rows]
    for measures, series in (("Dice", dice), ("AUC of attacks", aucs)):
        measured = {
            name: values
            for name, values in series.items()
            if sum(measure.value is not None for measure in values) > 1
        }
        if measured:
            drawing = epsilon_drawing(measured, epsilons, names, measures=measures)
            yield Chart(f"{measures} over epsilon per {unit}", drawing)


def epsilon_drawing(
    series: Mapping[str, Sequence[Measure]],
    epsilons: Sequence[float | None],
    names: Sequence[str],
    *,
    measures: str,
) -> Drawing:
    """Return some numbers of victims over their claimed epsilon, on a logarithmic axis.

    Args:
        series: a number per victim by a line's label.
        epsilons: one per victim; infinite without noise, None without a guarantee.
        names: names of the victims.
        measures: name of the numbers; for an AUC, the line of guessing is added.
    """
    scale = scaled(epsilons)
    is_auc = measures.startswith("AUC")
    with style():
        figure, axes = framed(3.0)
        if is_auc:
            axes.axhline(0.5, color=INK, lw=1, ls=(0, (1, 2)))
        if scale.edge is not None:
            axes.axvspan(scale.edge, scale.ends[1], color=INK, alpha=0.08, lw=0)
        for number, values in enumerate(series.values()):
            _draw(axes, scale, values, number, apart=number - (len(series) - 1) / 2)
        lows = [
            ends(measure)[1] for values in series.values() for measure in values if measure.value is not None
        ]
        bottom = min(0.4, *lows) - 0.02 if is_auc else 0.0
        axes.set(
            xlabel="guaranteed epsilon, logarithmic", ylabel=measures, xlim=scale.ends, ylim=(bottom, 1.0)
        )
        axes.set_xticks(list(scale.ticks), list(scale.ticks.values()))
    keys = [
        Key(label, colour(number), stroke(number), marker(number), filled=True, joined=True)
        for number, label in enumerate(series)
    ]
    title = f"{measures} over epsilon. {_description(series, epsilons, names)}"
    return Drawing(figure, title, keys, _caption(scale, names, is_auc=is_auc))


def _caption(scale: Scale, names: Sequence[str], *, is_auc: bool) -> str:
    parts = ["More privacy to the left."]
    stand = sorted(zip(scale.positions, scale.finite, names, strict=True))
    if unbounded := [f'"{name}"' for _, finite, name in stand if not finite]:
        parts.append(f"Shaded: no finite guarantee, from left to right {', '.join(unbounded)}.")
    return " ".join([*parts, "Bars: 95 % intervals. Dotted: guessing."] if is_auc else parts)


def scaled(epsilons: Sequence[float | None]) -> Scale:
    """Return the positions of victims, at least one of which has a finite epsilon."""
    finite = [epsilon is not None and math.isfinite(epsilon) for epsilon in epsilons]
    positions = [
        math.log10(epsilon) if epsilon is not None and math.isfinite(epsilon) else math.nan
        for epsilon in epsilons
    ]
    logs = [position for position in positions if not math.isnan(position)]
    lowest, highest = min(logs), max(logs)
    width = max(highest - lowest, 1.0)
    ticks, right = dict[float, str](), highest
    for name, kind in (("infinite", math.inf), ("none", None)):
        unplaced = [number for number, epsilon in enumerate(epsilons) if epsilon == kind]
        for number in unplaced:
            right += (APART if number == unplaced[0] else BESIDE) * width
            positions[number] = right
        if unplaced:
            ticks[(positions[unplaced[0]] + right) / 2] = name
    span = (lowest - width * APART / 2, right + width * APART / 2)
    edge = highest + width * APART / 2 if ticks else None
    return Scale(positions, finite, _of_finite(positions, epsilons, span) | ticks, edge, span)


def _of_finite(
    positions: Sequence[float], epsilons: Sequence[float | None], span: tuple[float, float]
) -> dict[float, str]:
    """Return ticks at finite epsilons; of overlapping labels only the first is kept."""
    ticks, last = dict[float, str](), -math.inf
    for position, epsilon in sorted(
        (position, epsilon)
        for position, epsilon in zip(positions, epsilons, strict=True)
        if epsilon is not None
    ):
        if math.isfinite(epsilon):
            apart = position - last > NEAR * (span[1] - span[0])
            ticks.setdefault(position, f"{epsilon:.3g}" if apart else "")
            last = position if apart else last
    return ticks


def _draw(axes: "Axes", scale: Scale, values: Sequence[Measure], number: int, *, apart: float) -> None:
    """Draw one series: points with intervals, joined over the finite epsilons."""
    # Aside, so that the intervals of two series at one epsilon do not hide each other.
    shift = apart * SIDE * (scale.ends[1] - scale.ends[0])
    points = sorted(
        (position + shift, finite, *ends(measure))
        for position, finite, measure in zip(scale.positions, scale.finite, values, strict=True)
        if measure.value is not None
    )
    shade, shape = colour(number), marker(number)
    joined = [(position, value) for position, finite, value, _, _ in points if finite]
    dash = DASHES[number % len(DASHES)]
    axes.plot([x for x, _ in joined], [y for _, y in joined], color=shade, ls=dash, lw=1.2, clip_on=False)
    for position, _, value, low, high in points:
        bars = [[max(0.0, value - low)], [max(0.0, high - value)]]
        axes.errorbar(
            position, value, yerr=bars, color=shade, marker=shape, ms=5, capsize=2, lw=1.2, clip_on=False
        )


def _description(
    series: Mapping[str, Sequence[Measure]], epsilons: Sequence[float | None], names: Sequence[str]
) -> str:
    """Return a description of the figure in words, victim by victim."""
    return "; ".join(
        f"{name}, {_epsilon_in_words(epsilon)}: "
        + ", ".join(
            f"{label} {'not measured' if values[index].value is None else interval(values[index])}"
            for label, values in series.items()
        )
        for index, (name, epsilon) in enumerate(zip(names, epsilons, strict=True))
    )


def _epsilon_in_words(epsilon: float | None) -> str:
    if epsilon is None:
        return "no guarantee"
    return f"epsilon {epsilon:.3g}" if math.isfinite(epsilon) else "epsilon infinite"


def _has_position(guarantee: DPGuarantee | None, unit: str) -> bool:
    """Return whether a guarantee, or its absence, has a position on a unit's logarithmic axis."""
    if guarantee is None:
        return True
    return guarantee.unit == unit and (guarantee.epsilon is None or guarantee.epsilon > 0)


def _epsilon(guarantee: DPGuarantee | None) -> float | None:
    """Return a guarantee's epsilon, infinite without noise; None without a guarantee."""
    if guarantee is None:
        return None
    return math.inf if guarantee.epsilon is None else guarantee.epsilon
