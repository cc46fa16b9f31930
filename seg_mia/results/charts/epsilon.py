"""What differential privacy costs and keeps, drawn over the promised epsilon."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes

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

SUBSETS = {"nonmembers": "non-members", "members": "members"}
NEAR = 0.09
"""Share of the axis that the label of an epsilon takes."""
APART, BESIDE = 0.2, 0.08
"""How far what has no finite epsilon stands from the largest one, and from others of its kind; in shares of
what finite ones span, but at least of a decade."""
SIDE = 0.015
"""Share of the axis that series stand apart, so that their intervals do not hide each other."""


class Scale(NamedTuple):
    """Where victims stand from left to right.

    Attributes:
        places: one per victim, the decimal logarithm of epsilon where it is finite.
        finite: whether it is.
        ticks: places and what is written below.
        edge: left end of what has no finite epsilon, None where all have one.
        ends: of the axis.
    """

    places: list[float]
    finite: list[bool]
    ticks: dict[float, str]
    edge: float | None
    ends: tuple[float, float]


def epsilon_charts(victims: Sequence[Victim], results: Sequence[MembershipResult]) -> list[Chart]:
    """Return Dice and AUC over the promised epsilon, for one seed's victims and each unit of promises.

    An epsilon per patient is no epsilon per image: promises of different units share no axis. Two promises
    are needed, one of them finite: without it there is no axis, and one point alone shows no change. Two
    victims that promise the same are one point of the axis.
    """
    rows = sorted(victims, key=lambda victim: victim.row)
    promises = [victim.privacy for victim in rows if victim.privacy is not None]
    units = dict.fromkeys(one.unit for one in promises if one.epsilon is not None and _stands(one, one.unit))
    charts = list[Chart]()
    for unit in units:
        own = [victim for victim in rows if _stands(victim.privacy, unit)]
        if len({_epsilon(victim.privacy) for victim in own}) > 1:
            charts += _charts(own, results, unit)
    return charts


def _charts(rows: Sequence[Victim], results: Sequence[MembershipResult], unit: str) -> Iterator[Chart]:
    dice = {name: [Measure(victim.dice(subset)) for victim in rows] for subset, name in SUBSETS.items()}
    attacks = [one for one in results if one.role == "attack"]
    aucs = {
        label: [
            next(
                (one.auc for one in attacks if one.key == victim.key and one.label == label),
                Measure(None),
            )
            for victim in rows
        ]
        for label in dict.fromkeys(one.label for one in attacks)
    }
    names = [victim.defence for victim in rows]
    epsilons = [_epsilon(victim.privacy) for victim in rows]
    for measures, series in (("Dice", dice), ("AUC of attacks", aucs)):
        shown = {
            name: values
            for name, values in series.items()
            if sum(one.value is not None for one in values) > 1
        }
        if shown:
            drawing = epsilon_drawing(shown, epsilons, names, measures=measures)
            yield Chart(f"{measures} over epsilon per {unit}", drawing)


def epsilon_drawing(
    series: Mapping[str, Sequence[Measure]],
    epsilons: Sequence[float | None],
    names: Sequence[str],
    *,
    measures: str,
) -> Drawing:
    """Return some numbers of victims over the epsilon that each promises, logarithmic.

    Args:
        series: a line's label to a number per victim.
        epsilons: one per victim; infinite where there was no noise, None where nothing is promised.
        names: the victims'.
        measures: what the numbers are; of an AUC, guessing is drawn, too.
    """
    scale = scaled(epsilons)
    guessed = measures.startswith("AUC")
    with style():
        figure, axes = framed(3.0)
        if guessed:
            axes.axhline(0.5, color=INK, lw=1, ls=(0, (1, 2)))
        if scale.edge is not None:
            axes.axvspan(scale.edge, scale.ends[1], color=INK, alpha=0.08, lw=0)
        for number, values in enumerate(series.values()):
            _draw(axes, scale, values, number, apart=number - (len(series) - 1) / 2)
        lows = [ends(one)[1] for values in series.values() for one in values if one.value is not None]
        bottom = min(0.4, *lows) - 0.02 if guessed else 0.0
        axes.set(xlabel="promised epsilon, logarithmic", ylabel=measures, xlim=scale.ends, ylim=(bottom, 1.0))
        axes.set_xticks(list(scale.ticks), list(scale.ticks.values()))
    keys = [
        Key(label, colour(number), stroke(number), marker(number), filled=True, joined=True)
        for number, label in enumerate(series)
    ]
    title = f"{measures} over epsilon. {_told(series, epsilons, names)}"
    return Drawing(figure, title, keys, _caption(scale, names, guessed=guessed))


def _caption(scale: Scale, names: Sequence[str], *, guessed: bool) -> str:
    parts = ["More privacy to the left."]
    stand = sorted(zip(scale.places, scale.finite, names, strict=True))
    if endless := [f'"{name}"' for _, finite, name in stand if not finite]:
        parts.append(f"Shaded: no finite promise, from left to right {', '.join(endless)}.")
    return " ".join([*parts, "Bars: 95 % intervals. Dotted: guessing."] if guessed else parts)


def scaled(epsilons: Sequence[float | None]) -> Scale:
    """Return where victims stand, of which one at least promises a finite epsilon."""
    finite = [one is not None and math.isfinite(one) for one in epsilons]
    places = [math.log10(one) if one is not None and math.isfinite(one) else math.nan for one in epsilons]
    logs = [place for place in places if not math.isnan(place)]
    least, most = min(logs), max(logs)
    wide = max(most - least, 1.0)
    ticks, right = dict[float, str](), most
    for name, kind in (("infinite", math.inf), ("none", None)):
        own = [number for number, one in enumerate(epsilons) if one == kind]
        for number in own:
            right += (APART if number == own[0] else BESIDE) * wide
            places[number] = right
        if own:
            ticks[(places[own[0]] + right) / 2] = name
    span = (least - wide * APART / 2, right + wide * APART / 2)
    edge = most + wide * APART / 2 if ticks else None
    return Scale(places, finite, _of_finite(places, epsilons, span) | ticks, edge, span)


def _of_finite(
    places: Sequence[float], epsilons: Sequence[float | None], span: tuple[float, float]
) -> dict[float, str]:
    """Return ticks at finite epsilons; of those whose labels would overlap the first has one."""
    ticks, last = dict[float, str](), -math.inf
    for place, epsilon in sorted(
        (place, one) for place, one in zip(places, epsilons, strict=True) if one is not None
    ):
        if math.isfinite(epsilon):
            apart = place - last > NEAR * (span[1] - span[0])
            ticks.setdefault(place, f"{epsilon:.3g}" if apart else "")
            last = place if apart else last
    return ticks


def _draw(axes: Axes, scale: Scale, values: Sequence[Measure], number: int, *, apart: float) -> None:
    """Draw one series: points with intervals, joined from one finite epsilon to the next."""
    shift = apart * SIDE * (scale.ends[1] - scale.ends[0])
    shown = sorted(
        (place + shift, finite, *ends(one))
        for place, finite, one in zip(scale.places, scale.finite, values, strict=True)
        if one.value is not None
    )
    shade, shape = colour(number), marker(number)
    joined = [(place, value) for place, finite, value, _, _ in shown if finite]
    dash = DASHES[number % len(DASHES)]
    axes.plot([x for x, _ in joined], [y for _, y in joined], color=shade, ls=dash, lw=1.2, clip_on=False)
    for place, _, value, low, high in shown:
        bars = [[max(0.0, value - low)], [max(0.0, high - value)]]
        axes.errorbar(
            place, value, yerr=bars, color=shade, marker=shape, ms=5, capsize=2, lw=1.2, clip_on=False
        )


def _told(
    series: Mapping[str, Sequence[Measure]], epsilons: Sequence[float | None], names: Sequence[str]
) -> str:
    """Return all that is drawn in words, victim by victim."""
    return "; ".join(
        f"{name}, {_said(epsilon)}: "
        + ", ".join(f"{label} {_number(values[place])}" for label, values in series.items())
        for place, (name, epsilon) in enumerate(zip(names, epsilons, strict=True))
    )


def _said(epsilon: float | None) -> str:
    if epsilon is None:
        return "no promise"
    return f"epsilon {epsilon:.3g}" if math.isfinite(epsilon) else "epsilon infinite"


def _number(measure: Measure) -> str:
    value, low, high = ends(measure)
    if measure.value is None:
        return "not measured"
    return f"{value:.3f}" if measure.low is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _stands(promise: DPGuarantee | None, unit: str) -> bool:
    """Return whether a promise, or its lack, has a place on a unit's logarithmic axis."""
    if promise is None:
        return True
    return promise.unit == unit and (promise.epsilon is None or promise.epsilon > 0)


def _epsilon(promise: DPGuarantee | None) -> float | None:
    """Return a promise's epsilon, infinite without noise; None without a promise."""
    if promise is None:
        return None
    return math.inf if promise.epsilon is None else promise.epsilon
