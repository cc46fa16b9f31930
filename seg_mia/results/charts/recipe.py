"""Figures of attacks on a recipe: ROC over all decisions, risk of patients, number of networks."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from seg_mia.membership.roc import Roc
from seg_mia.results.base import Measure
from seg_mia.results.charts.drawing import (
    ACROSS,
    COLOURS,
    DASHES,
    INK,
    WIDTH,
    Drawing,
    Key,
    colour,
    ends,
    framed,
    marker,
    stroke,
    style,
)
from seg_mia.results.charts.membership import lowest_rate, percents, roc_axes, staircase
from seg_mia.results.recipe import RecipeResult
from seg_mia.results.tables import counted, interval, resolved

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BAND = 0.16
"""Opacity of what no leakage would give."""
APART = 0.05
"""Distance of attacks at one number of networks, in octaves."""


def recipe_roc_drawing(results: Sequence[RecipeResult]) -> Drawing:
    """Return the ROCs of attacks on one recipe over all decisions, on logarithmic axes."""
    nonmembers = min(result.nonmembers for result in results)
    low = lowest_rate(nonmembers)
    with style():
        figure, axes = roc_axes(nonmembers)
        axes.axvspan(low, 5 / nonmembers, color=INK, alpha=0.05, lw=0)
        for number, result in enumerate(results):
            points = np.array(result.roc.fpr), np.array(result.roc.tpr)
            axes.plot(
                *staircase(Roc(*points, np.zeros(len(points[0]))), low),
                color=colour(number),
                ls=DASHES[number % len(DASHES)],
                lw=WIDTH,
                clip_on=False,
            )
    keys = [
        Key(result.label, colour(number), stroke(number), "", filled=True, note=interval(result.auc))
        for number, result in enumerate(results)
    ]
    words = "; ".join(
        f"{result.label}: AUC {interval(result.auc)}, TPR {resolved(result.tpr_at_1)} at FPR 1 %"
        for result in results
    )
    caption = (
        "True against false positive rate over all networks and patients, both logarithmic. Dotted: "
        f"guessing. Thin lines: {percents()} false positives. Shaded: fewer than one (dark) and five (light) "
        f"of {nonmembers} decisions on patients outside the training."
    )
    return Drawing(figure, f"ROC curves of the recipe on logarithmic axes. {words}", keys, caption)


def survival_drawing(result: RecipeResult) -> Drawing:
    """Return the fraction of patients with at least a given AUC, against its band without leakage."""
    curve, risk = result.risk.survival, result.risk
    with style():
        figure, axes = framed(3.2)
        axes.fill_between(curve.at, curve.low, curve.high, color=INK, alpha=BAND, lw=0)
        axes.axvline(0.5, color=INK, lw=1, ls=(0, (1, 2)))
        axes.plot(curve.at, curve.share, color=COLOURS[0], lw=WIDTH, clip_on=False)
        axes.set(xlabel="AUC of a patient, or more", ylabel="share of patients", xlim=(0, 1), ylim=(0, 1))
    keys = [
        Key(f"signals of {result.label}, {result.patients} patients", COLOURS[0], "", "", filled=True),
        Key("without leakage, 95 % of fleets", COLOURS[-1], "", "s", filled=True),
    ]
    words = ", ".join(
        f"{_share(curve.at, curve.share, at):.0%} at {at:g} or more (without leakage up to "
        f"{_share(curve.at, curve.high, at):.0%})"
        for at in (0.7, 0.8, 0.9)
    )
    title = (
        f"Share of patients by their AUC, by the signals of {result.label}: {words}; {risk.significant} "
        "significant"
    )
    caption = (
        "Share of patients with at least this AUC: how well networks trained on the patient are "
        "separated from others by the attack's signals, without its comparison with other networks. Grey: "
        "the same if nothing leaked. Dotted: guessing. A curve above the grey "
        "band at the right shows exposed patients."
    )
    return Drawing(figure, title, keys, caption)


def network_drawing(results: Sequence[RecipeResult]) -> Drawing:
    """Return AUC and TPR at 1 % FPR over the number of the attacker's networks.

    Args:
        results: attacks on one recipe, those without a curve are left out.
    """
    from matplotlib.ticker import NullLocator

    curves = [result for result in results if result.curve]
    counts = sorted({point.references for result in curves for point in result.curve})
    with style():
        figure, (upper, lower) = _stacked(4.6)
        upper.axhline(0.5, color=INK, lw=1, ls=(0, (1, 2)))
        lower.axhline(0.01, color=INK, lw=1, ls=(0, (1, 2)))
        for number, result in enumerate(curves):
            shift = 2 ** (APART * (number - (len(curves) - 1) / 2))
            at = [point.references * shift for point in result.curve]
            _series(upper, at, [point.auc for point in result.curve], number)
            _series(lower, at, [point.tpr for point in result.curve], number)
        lows = [ends(point.auc)[1] for result in curves for point in result.curve]
        upper.set(ylabel="AUC", ylim=(min(0.45, *lows) - 0.02, 1.0))
        tops = [ends(point.tpr)[2] for result in curves for point in result.curve if _shown(point.tpr)]
        lower.set(
            ylabel="TPR at 1 % FPR",
            ylim=(0, min(1.0, 1.1 * max([0.05, *tops]))),
            xlabel="networks of the attacker, logarithmic",
        )
        for axes in (upper, lower):
            axes.set(xscale="log", xlim=(counts[0] / 2**0.3, counts[-1] * 2**0.3))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_xticks(counts, [str(count) for count in counts] if axes is lower else [""] * len(counts))
    keys = [
        Key(result.label, colour(number), stroke(number), marker(number), filled=True, joined=True)
        for number, result in enumerate(curves)
    ]
    words = "; ".join(
        f"{result.label}: "
        + ", ".join(
            f"{counted(point.references, 'network')} AUC {interval(point.auc)}, TPR {resolved(point.tpr)}"
            for point in result.curve
        )
        for result in curves
    )
    caption = (
        "The same attack by an attacker with fewer networks. Bars: 95 % intervals. Dotted: guessing. A curve "
        "that still rises at its right end is not the strongest attack there is. Unresolved rates "
        "are left out."
    )
    return Drawing(figure, f"AUC and TPR over the number of networks. {words}", keys, caption)


def _shown(measure: Measure) -> bool:
    return measure.value is not None and measure.resolvable


def _series(axes: "Axes", at: Sequence[float], measures: Sequence[Measure], number: int) -> None:
    """Draw one attack: points joined by lines, with intervals."""
    points = [(x, *ends(measure)) for x, measure in zip(at, measures, strict=True) if _shown(measure)]
    if not points:
        return
    shade = colour(number)
    places, values, lows, highs = map(list, zip(*points, strict=True))
    bars = [
        [max(0.0, value - low) for value, low in zip(values, lows, strict=True)],
        [max(0.0, high - value) for value, high in zip(values, highs, strict=True)],
    ]
    axes.plot(places, values, color=shade, ls=DASHES[number % len(DASHES)], lw=1.2, clip_on=False)
    axes.errorbar(
        places,
        values,
        yerr=bars,
        color=shade,
        marker=marker(number),
        ms=5,
        capsize=2,
        lw=1.2,
        ls="none",
        clip_on=False,
    )


def _stacked(height: float) -> "tuple[Figure, tuple[Axes, Axes]]":
    """Return a figure of two axes, one above the other, with margins for numbers and names."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(ACROSS, height))
    left, right, bottom, gap, top = 0.66, 0.12, 0.48, 0.22, 0.12
    tall = (height - bottom - gap - top) / 2
    across, width = left / ACROSS, 1 - (left + right) / ACROSS
    lower = figure.add_axes((across, bottom / height, width, tall / height))
    upper = figure.add_axes((across, (bottom + tall + gap) / height, width, tall / height))
    return figure, (upper, lower)


def _share(at: Sequence[float], shares: Sequence[float], auc: float) -> float:
    """Return the share at an AUC of the grid, or the next below."""
    return shares[max(index for index, x in enumerate(at) if x <= auc + 1e-9)]
