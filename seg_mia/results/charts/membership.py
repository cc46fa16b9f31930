"""Figures of ROC curves and scores of membership attacks."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from seg_mia.membership.compare import Scored
from seg_mia.membership.roc import Roc, roc
from seg_mia.results.charts.drawing import (
    COLOURS,
    DASHES,
    INK,
    WIDTH,
    Drawing,
    Key,
    colour,
    framed,
    stroke,
    style,
)
from seg_mia.results.membership import FPRS, MembershipSummary
from seg_mia.results.tables import interval, membership_outcome

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MEMBER, NONMEMBER = COLOURS[0], COLOURS[1]
BINS = 31
"""Odd, so that equal scores fill the bin in the middle."""
THRESHOLD = (0, (1.5, 2.5))


def roc_of(results: Sequence[MembershipSummary], scores: Mapping[str, Scored]) -> Drawing:
    """Return the ROCs of several attacks, with their AUC and rates.

    Args:
        results: results of the attacks.
        scores: scores by attack label, in the order of `results`.
    """
    labels = dict(zip(scores, results, strict=True))
    aucs = {label: interval(result.auc) for label, result in labels.items()}
    descriptions = {label: membership_outcome(result) for label, result in labels.items()}
    return roc_drawing(scores, aucs, descriptions)


def lowest_rate(nonmembers: int) -> float:
    """Return the lower end of a ROC's axes; a logarithmic axis has no 0, half a non-member stands for it."""
    return min(0.001, 0.5 / nonmembers)


def roc_axes(nonmembers: int) -> "tuple[Figure, Axes]":
    """Return logarithmic axes of a ROC: chance, usual rates, and those that so many non-members resolve."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    low = lowest_rate(nonmembers)
    figure, axes = framed(4.4)
    axes.set(xscale="log", yscale="log", xlim=(low, 1), ylim=(low, 1))
    axes.set(xlabel="false positive rate", ylabel="true positive rate")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.axvspan(low, 1 / nonmembers, color=INK, alpha=0.08, lw=0)
    for rate in FPRS:
        axes.axvline(rate, color=INK, alpha=0.25, lw=0.6)
    axes.plot([low, 1], [low, 1], color=INK, lw=1, ls=(0, (1, 2)))
    return figure, axes


def roc_drawing(
    curves: Mapping[str, Scored], aucs: Mapping[str, str], descriptions: Mapping[str, str]
) -> Drawing:
    """Return the ROCs of several attacks.

    Args:
        curves: scores by attack label.
        aucs: AUC by label, for the legend.
        descriptions: all numbers in words, by label.
    """
    points = {name: roc(scored.scores, scored.members) for name, scored in curves.items()}
    nonmembers = min(int((~scored.members).sum()) for scored in curves.values())
    low = lowest_rate(nonmembers)
    with style():
        figure, axes = roc_axes(nonmembers)
        for number, curve in enumerate(points.values()):
            axes.plot(
                *staircase(curve, low),
                color=colour(number),
                ls=DASHES[number % len(DASHES)],
                lw=WIDTH,
                clip_on=False,
            )
    words = "; ".join(f"{name}: {descriptions[name]}" for name in curves)
    keys = [
        Key(name, colour(number), stroke(number), "", filled=True, note=aucs[name])
        for number, name in enumerate(curves)
    ]
    caption = (
        f"True against false positive rate, both logarithmic. Dotted: guessing. Thin lines: {percents()} "
        f"false positives. Shaded: fewer than one of {nonmembers} non-members, where curves have no false "
        "positive."
    )
    return Drawing(figure, f"ROC curves on logarithmic axes. {words}", keys, caption)


def staircase(curve: Roc, low: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the corners of the best TPR at FPR <= x, nothing below `low`, nothing interpolated.

    The line between two points is reached only by a random choice of the two (Fawcett 2006).
    """
    fpr = np.maximum(curve.fpr, low)
    x = np.unique(fpr)
    best = curve.tpr[np.searchsorted(fpr, x, side="right") - 1]
    corners, heights = np.repeat(x, 2)[1:], np.maximum(np.repeat(best, 2)[:-1], low)
    start = max(0, int((heights == low).sum()) - 1)
    return corners[start:], heights[start:]


def histogram_drawing(scored: Scored, description: str, *, threshold: float | None = None) -> Drawing:
    """Return the score distributions of members and non-members.

    Args:
        scored: the scores.
        description: their numbers, in words.
        threshold: lowest score called a member.
    """
    from matplotlib.ticker import MaxNLocator

    low, high = _range(scored.scores)
    edges = np.linspace(low, high, BINS + 1)
    keys = []
    with style():
        figure, axes = framed(2.6)
        for name, chosen, shade, dash in (
            ("members", scored.members, MEMBER, "-"),
            ("non-members", ~scored.members, NONMEMBER, (0, (4, 2))),
        ):
            side = np.clip(scored.scores[chosen], low, high)
            share = np.histogram(side, edges)[0] / max(1, len(side))
            axes.stairs(share, edges, fill=True, color=shade, alpha=0.22, lw=0)
            axes.stairs(share, edges, color=shade, lw=1.4, ls=dash)
            keys.append(Key(f"{name} ({len(side)})", shade, "" if dash == "-" else "5.6 2.8", "", True))
        if threshold is not None:
            axes.axvline(min(max(threshold, low), high), color=INK, lw=1, ls=THRESHOLD)
            off = "" if low <= threshold <= high else " (off scale)"
            keys.append(Key(f"threshold {threshold:.3g}{off}", INK, "1.5 2.5", "", True))
        axes.set(xlabel="membership score", ylabel="share of members or non-members", ylim=(0, None))
        axes.margins(x=0.02)
        axes.xaxis.set_major_locator(MaxNLocator(6))
    caption = "Higher scores indicate members; the outermost bins hold all scores beyond."
    return Drawing(figure, f"Histogram of membership scores. {description}", keys, caption)


def percents() -> str:
    """Return the false positive rates of tables and figures, in words."""
    percents = [f"{100 * rate:g} %" for rate in FPRS]
    return f"{', '.join(percents[:-1])} and {percents[-1]}"


def _range(scores: NDArray[np.float64]) -> tuple[float, float]:
    """Return the range of the bins: the central 99 %, or around the value if all are equal."""
    for tail in (0.5, 0.0):
        low, high = np.percentile(scores, [tail, 100 - tail]).tolist()
        if high - low > 1e-9 * max(abs(low), abs(high)):
            return low, high
    return low - 0.5, high + 0.5
