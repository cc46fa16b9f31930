"""What a membership attack found, drawn: ROC on log axes, scores by class, the most exposed samples."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter
from numpy.typing import NDArray

from seg_mia.results.pictures import COLOURS, Tile, draw, rendered

MEMBER, NONMEMBER = COLOURS[3].tolist(), COLOURS[2].tolist()

LINES = [COLOURS[number].tolist() for number in (3, 2, 1, 4, 5, 6)]
"""Colours of curves; yellow is left out, it is too faint on white."""

DASHES = ("-", (0, (6, 3)), (0, (3, 3)), (0, (6, 2, 1, 2)), (0, (9, 2, 1, 2, 1, 2)))
"""Strokes of curves, each with gaps through which an equal curve below is seen."""

RATES = (0.1, 0.01, 0.001)
"""False positive rates at which the field reports a true positive rate."""

BINS = 31
"""An odd number: scores that are all equal then fill the bin in the middle."""

TITLES = ("image", "truth", "prediction")


class Curve(NamedTuple):
    """Points of a ROC and what the legend says of it."""

    fpr: NDArray[np.float64]
    tpr: NDArray[np.float64]
    label: str


def roc_figure(curves: Mapping[str, Curve], nonmembers: int) -> NDArray[np.uint8]:
    """Return the ROCs on log-log axes (H, W, 3), where a few samples told with certainty can be seen.

    Args:
        curves: an attack's name to its curve; the points may come in any order.
        nonmembers: how many non-members were scored, 1 or more; no FPR lies between 0 and 1 / nonmembers.
    """
    return rendered(_roc(curves, nonmembers))


def score_histogram(
    scores: NDArray[np.float64],
    members: NDArray[np.bool_],
    threshold: float | None,
    xlabel: str = "membership score",
) -> NDArray[np.uint8]:
    """Return the densities (H, W, 3) of members' and non-members' scores (n,), higher for members."""
    _check(scores, members)
    return rendered(_histogram(scores, members, threshold, xlabel))


def exposed_sheet(rows: Sequence[Sequence[Tile]], names: Sequence[str]) -> NDArray[np.uint8]:
    """Return a sheet (H, W, 3) of samples, each a row of image, truth and prediction."""
    return draw(TITLES, rows, names)


def extremes(
    scores: NDArray[np.float64], members: NDArray[np.bool_], count: int
) -> dict[str, NDArray[np.int64]]:
    """Return the positions of at most `count` samples of each kind, the most extreme first, ties in order."""
    _check(scores, members)
    if count < 0:
        raise ValueError(f"count must be 0 or more, got {count}")
    inside, outside = np.flatnonzero(members), np.flatnonzero(~members)
    return {
        "members most exposed": _sorted(inside, -scores)[:count],
        "members least exposed": _sorted(inside, scores)[:count],
        "non-members taken for members": _sorted(outside, -scores)[:count],
    }


def _sorted(positions: NDArray[np.int64], keys: NDArray[np.float64]) -> NDArray[np.int64]:
    return positions[np.argsort(keys[positions], kind="stable")].astype(np.int64)


def _check(scores: NDArray[np.float64], members: NDArray[np.bool_]) -> None:
    if members.dtype != np.bool_:
        raise TypeError(f"members must be of type bool, got {members.dtype}; use members.astype(bool)")
    if scores.ndim != 1 or scores.shape != members.shape or not scores.size:
        raise ValueError(
            f"scores and members must both have shape (n,), n > 0, got {scores.shape} and {members.shape}"
        )
    if np.isnan(scores).any():
        raise ValueError(f"scores must be numbers, got {np.isnan(scores).sum()} NaN; drop or replace them")


def _roc(curves: Mapping[str, Curve], nonmembers: int) -> Figure:
    if nonmembers < 1:
        raise ValueError(f"a ROC needs at least one non-member, got {nonmembers}")
    low = min(0.001, 0.5 / nonmembers)
    figure = Figure(figsize=(5.4, 5.4), dpi=110, layout="constrained")
    axes = figure.subplots()
    axes.set(xscale="log", yscale="log", xlim=(low, 1), ylim=(low, 1), box_aspect=1)
    axes.set(xlabel="false positive rate", ylabel="true positive rate")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.axvspan(low, 1 / nonmembers, color="0.9", lw=0, zorder=0)
    axes.text(0, 1.015, "shaded: fewer than one non-member (FPR 0)", transform=axes.transAxes, size=7.5)
    for rate in RATES:
        axes.axvline(rate, color="0.6", lw=0.7, zorder=1)
    for number, (name, curve) in enumerate(curves.items()):
        axes.plot(
            *_staircase(curve, low),
            color=LINES[number % len(LINES)],
            ls=DASHES[number % len(DASHES)],
            lw=1.8,
            clip_on=False,  # a TPR of 1 lies on the frame
            zorder=3,
            label=f"{name}: {curve.label}" if curve.label else name,
        )
    axes.plot([low, 1], [low, 1], ":", color="0.3", lw=1.2, label="chance")
    axes.legend(loc="lower right", fontsize=7.5, framealpha=1, handlelength=3).set_zorder(4)
    return figure


def _staircase(curve: Curve, low: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the corners of the best TPR at FPR <= x, from where it exceeds `low`; a lower FPR is put there.

    Every ROC holds (0, 0) and (1, 1). Between two points only a random choice of the two reaches their
    line (Fawcett 2006, "Interpolating classifiers"), so none is drawn.
    """
    fpr, tpr = np.append(curve.fpr, [0.0, 1.0]), np.append(curve.tpr, [0.0, 1.0])
    order = np.argsort(fpr)
    x = np.unique(np.maximum(fpr, low))
    best = np.maximum.accumulate(tpr[order])[np.searchsorted(fpr[order], x, side="right") - 1]
    x, y = np.repeat(x, 2)[1:], np.maximum(np.repeat(best, 2)[:-1], low)
    start = max(0, int((y == low).sum()) - 1)
    return x[start:], y[start:]


def _histogram(
    scores: NDArray[np.float64], members: NDArray[np.bool_], threshold: float | None, xlabel: str
) -> Figure:
    low, high = _range(scores)
    edges = np.linspace(low, high, BINS + 1)
    figure = Figure(figsize=(5.6, 3.8), dpi=110, layout="constrained")
    axes = figure.subplots()
    for name, chosen, colour in (("members", members, MEMBER), ("non-members", ~members, NONMEMBER)):
        counts, _ = np.histogram(np.clip(scores[chosen], low, high), edges)
        density = counts / (max(1, counts.sum()) * np.diff(edges))
        density[counts == 0] = np.nan  # no outline along the bottom
        fill, label = (*colour, 0.35), f"{name} ({counts.sum()})"
        axes.stairs(density, edges, fill=True, facecolor=fill, edgecolor=colour, lw=1.6, label=label)
    if threshold is not None:
        label = f"threshold {threshold:.3g}" + " (off scale)" * (not low <= threshold <= high)
        axes.axvline(min(max(threshold, low), high), color="k", ls="--", lw=1.3, label=label)
    clipped = int(((scores < low) | (scores > high)).sum())
    note = f"\nouter bins also hold {clipped} of {scores.size} scores from beyond"
    axes.set(xlabel=xlabel + note * (clipped > 0), ylabel="density per class")
    margin = 0.03 * (high - low)
    axes.set(xlim=(low - margin, high + margin), ylim=(0, None))
    axes.legend(
        loc="lower left",  # above the axes, where it hides no bar
        bbox_to_anchor=(0, 1),
        ncols=3,
        fontsize=7.5,
        frameon=False,
        handlelength=1.5,
        columnspacing=1,
    )
    return figure


def _range(scores: NDArray[np.float64]) -> tuple[float, float]:
    """Return where the bins begin and end: the central 99 %, or all where those are one value."""
    finite = scores[np.isfinite(scores)]
    if not finite.size:
        return -0.5, 0.5
    for tail in (0.5, 0):
        low, high = np.percentile(finite, [tail, 100 - tail]).tolist()
        if high - low > 1e-9 * max(abs(low), abs(high)):
            return low, high
    return low - 0.5, high + 0.5
