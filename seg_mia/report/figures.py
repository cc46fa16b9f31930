"""The report's figures: ROC on logarithmic axes, scores by class, utility against leakage."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter
from matplotlib.transforms import ScaledTranslation
from numpy.typing import NDArray

from seg_mia.membership.compare import Scored
from seg_mia.membership.roc import Roc, roc
from seg_mia.report.svg import INK, inline, style
from seg_mia.results.membership_figures import BINS, DASHES, RATES
from seg_mia.results.model import Measure

COLOURS = ("#0072b2", "#d55e00", "#00885f", "#a3559b", "#86700a", "#757575")
"""As `membership_figures.LINES`, darkened where needed: 3 to 1 against white and near-black."""
MARKERS = ("o", "s", "D", "^", "v", "P")
MEMBER, NONMEMBER = COLOURS[0], COLOURS[1]
WIDTH = 1.8
ACROSS = 4.7
"""Inches; at nine points text is as large as the page's on a telephone."""
NEAR = 0.03
"""Share of all Dice in a figure within which markers would hide each other."""
ASIDE = 8.0
"""Points from one marker to the next of those that stand side by side."""


class Key(NamedTuple):
    """How one series is drawn, for a legend beside the figure; `dash` as SVG says it.

    One with a marker has no line in the legend, unless it is `joined`.
    """

    label: str
    colour: str
    dash: str
    marker: str
    filled: bool
    note: str = ""
    joined: bool = False


class Drawing(NamedTuple):
    """A figure, its legend, and the sentence below it."""

    svg: Markup
    keys: list[Key]
    caption: str


class Chart(NamedTuple):
    """A figure below its heading."""

    heading: str
    drawing: Drawing


class Point(NamedTuple):
    """One defence in a plot of utility against leakage."""

    label: str
    dice: float
    auc: Measure
    filled: bool


def colour(number: int) -> str:
    """Return a series' colour; dashes and markers repeat at another pace."""
    return COLOURS[number % len(COLOURS)]


def roc_drawing(curves: Mapping[str, Scored], said: Mapping[str, str], *, prefix: str) -> Drawing:
    """Return the ROCs of several attacks.

    Args:
        curves: an attack's label to its scores.
        said: its label to its numbers, in words.
        prefix: of ids.
    """
    points = {name: roc(scored.scores, scored.members) for name, scored in curves.items()}
    nonmembers = min(int((~scored.members).sum()) for scored in curves.values())
    low = min(0.001, 0.5 / nonmembers)
    with style():
        figure, axes = framed(4.4)
        axes.set(xscale="log", yscale="log", xlim=(low, 1), ylim=(low, 1))
        axes.set(xlabel="false positive rate", ylabel="true positive rate")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}"))
            axis.set_minor_formatter(NullFormatter())
        axes.axvspan(low, 1 / nonmembers, color=INK, alpha=0.08, lw=0)
        for rate in RATES:
            axes.axvline(rate, color=INK, alpha=0.25, lw=0.6)
        axes.plot([low, 1], [low, 1], color=INK, lw=1, ls=(0, (1, 2)))
        for number, curve in enumerate(points.values()):
            axes.plot(
                *staircase(curve, low),
                color=colour(number),
                ls=DASHES[number % len(DASHES)],
                lw=WIDTH,
                clip_on=False,
            )
        told = "; ".join(f"{name}: {said[name]}" for name in curves)
        svg = inline(figure, prefix=prefix, title=f"ROC curves on logarithmic axes. {told}")
    keys = [Key(name, colour(number), stroke(number), "", True) for number, name in enumerate(curves)]
    caption = (
        f"True against false positive rate, both logarithmic. Dotted: guessing. Thin lines: {_percents()} "
        f"false positives. Shaded: fewer than one of {nonmembers} non-members, where curves have no false "
        "positive."
    )
    return Drawing(svg, keys, caption)


def staircase(curve: Roc, low: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the corners of the best TPR at FPR <= x, nothing below `low`, nothing interpolated.

    Between two points only a random choice of the two reaches their line (Fawcett 2006).
    """
    fpr = np.maximum(curve.fpr, low)
    x = np.unique(fpr)
    best = curve.tpr[np.searchsorted(fpr, x, side="right") - 1]
    corners, heights = np.repeat(x, 2)[1:], np.maximum(np.repeat(best, 2)[:-1], low)
    start = max(0, int((heights == low).sum()) - 1)
    return corners[start:], heights[start:]


def histogram_drawing(scored: Scored, said: str, *, prefix: str) -> Drawing:
    """Return how the scores of members and non-members lie."""
    edges = np.linspace(*_range(scored.scores), BINS + 1)
    keys = []
    with style():
        figure, axes = framed(2.6)
        for name, chosen, shade, dash in (
            ("members", scored.members, MEMBER, "-"),
            ("non-members", ~scored.members, NONMEMBER, (0, (4, 2))),
        ):
            own = np.clip(scored.scores[chosen], edges[0], edges[-1])
            share = np.histogram(own, edges)[0] / max(1, len(own))
            axes.stairs(share, edges, fill=True, color=shade, alpha=0.22, lw=0)
            axes.stairs(share, edges, color=shade, lw=1.4, ls=dash)
            keys.append(Key(f"{name} ({len(own)})", shade, "" if dash == "-" else "5.6 2.8", "", True))
        axes.set(xlabel="membership score", ylabel="share of its side", ylim=(0, None))
        axes.margins(x=0.02)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        svg = inline(figure, prefix=prefix, title=f"Histogram of membership scores. {said}")
    return Drawing(
        svg, keys, "Higher scores are more like members; the outermost bins hold what lies beyond."
    )


def trade_off_drawing(points: Sequence[Point], said: str, *, prefix: str) -> Drawing:
    """Return Dice on non-members (right) against an attack's AUC (up), a point per defence."""
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
                marker=MARKERS[number % len(MARKERS)],
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
            keys.append(Key(point.label, colour(number), "", MARKERS[number % len(MARKERS)], point.filled))
        axes.set(
            xlabel="Dice on non-members", ylabel="AUC of the attack", ylim=(min(0.4, lowest - 0.02), 1.0)
        )
        axes.margins(x=0.12)
        svg = inline(figure, prefix=prefix, title=f"Utility against leakage. {said}")
    caption = "Lower right is better. Bars: 95 % intervals. Dotted: guessing."
    caption += " Victims of nearly the same Dice are drawn side by side." if any(aside) else ""
    return Drawing(svg, keys, caption)


def offsets(values: Sequence[float]) -> list[float]:
    """Return how far to the right each is drawn, in points: side by side around what they share."""
    order = sorted(range(len(values)), key=lambda number: values[number])
    near = NEAR * (max(values) - min(values))
    found = [0.0] * len(values)
    together = list[int]()
    for place, number in enumerate(order):
        together.append(number)
        if place + 1 == len(order) or values[order[place + 1]] - values[number] > near:
            for rank, one in enumerate(together):
                found[one] = ASIDE * (rank - (len(together) - 1) / 2)
            together = []
    return found


def framed(height: float) -> tuple[Figure, Axes]:
    """Return a figure of so many inches, and axes with room for numbers and names beside them."""
    figure = Figure(figsize=(ACROSS, height))
    left, bottom, right, top = 0.66, 0.48, 0.12, 0.12
    box = (left / ACROSS, bottom / height, 1 - (left + right) / ACROSS, 1 - (bottom + top) / height)
    return figure, figure.add_axes(box)


def _percents() -> str:
    shown = [f"{100 * rate:g} %" for rate in RATES]
    return f"{', '.join(shown[:-1])} and {shown[-1]}"


def stroke(number: int) -> str:
    """Return a stroke as SVG's stroke-dasharray says it, empty where it has no gaps."""
    dash = DASHES[number % len(DASHES)]
    return "" if isinstance(dash, str) else " ".join(f"{WIDTH * part:g}" for part in dash[1])


def ends(measure: Measure) -> tuple[float, float, float]:
    """Return a number and the ends of its interval, the number itself where there is none."""
    value = math.nan if measure.value is None else measure.value
    return (
        value,
        value if measure.low is None else measure.low,
        value if measure.high is None else measure.high,
    )


def _range(scores: NDArray[np.float64]) -> tuple[float, float]:
    """Return where bins begin and end: the central 99 %, or around the one value that all have."""
    for tail in (0.5, 0.0):
        low, high = np.percentile(scores, [tail, 100 - tail]).tolist()
        if high - low > 1e-9 * max(abs(low), abs(high)):
            return low, high
    return low - 0.5, high + 0.5
