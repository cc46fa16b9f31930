"""Figures of the Dice that is left, and of the images that survive, over the size of the change."""

from collections.abc import Mapping, Sequence

from seg_mia.results.charts.drawing import (
    DASHES,
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
from seg_mia.results.robustness import MinimalNorms, RobustnessCurve
from seg_mia.results.tables import interval

LEVELS = 255
"""Radii are shown in grey levels of 8 bits."""


def robustness_drawing(curves: Sequence[RobustnessCurve]) -> Drawing:
    """Return the mean Dice left (y axis) over the radius of the ball in 1/255 (x axis), a line per attack."""
    keys, words = [], []
    with style():
        figure, axes = framed(3.4)
        for number, curve in enumerate(curves):
            shown = [point for point in curve.points if point.dice is not None]
            at = [LEVELS * point.epsilon for point in shown]
            measures = [ends(point.measure) for point in shown]
            bars = [[max(0.0, value - low) for value, low, _ in measures]]
            bars += [[max(0.0, high - value) for value, _, high in measures]]
            axes.errorbar(
                at, [value for value, _, _ in measures], yerr=bars, color=colour(number), lw=1.2, capsize=2,
                ls=DASHES[number % len(DASHES)], marker=marker(number), ms=4, clip_on=False,
            )  # fmt: skip
            keys.append(
                Key(curve.label, colour(number), stroke(number), marker(number), filled=True, joined=True)
            )
            values = ", ".join(
                f"{interval(point.measure)} at {LEVELS * point.epsilon:g}/255" for point in shown
            )
            words.append(f"{curve.label}: {values}")
        axes.set(xlabel="radius, in 1/255", ylabel="Dice with the truth", ylim=(0, 1), xlim=(0, None))
    caption = "Lower is a stronger attack. Bars: 95 % intervals over patients."
    return Drawing(figure, f"Dice over the radius of the ball. {'; '.join(words)}", keys, caption)


def norms_drawing(distributions: Mapping[str, MinimalNorms]) -> Drawing:
    """Return the share of images that survive (y axis) every change up to a size in 1/255 (x axis)."""
    keys, words = [], []
    with style():
        figure, axes = framed(3.4)
        for number, (label, norms) in enumerate(distributions.items()):
            found = [LEVELS * norm for norm in norms.norms if norm is not None]
            shares = [1 - rank / norms.images for rank in range(len(found) + 1)]
            axes.step(
                [0.0, *found], shares, where="post", color=colour(number), ls=DASHES[number % len(DASHES)],
                lw=WIDTH, clip_on=False,
            )  # fmt: skip
            keys.append(Key(label, colour(number), stroke(number), "", filled=True))
            median = norms.quantiles["0.5"]
            middle = "infinite" if median is None else f"{LEVELS * median:.2f}/255"
            words.append(f"{label}: median {middle}, {norms.found} of {norms.images} images fooled")
        axes.set(xlabel="size of the change, in 1/255", ylabel="share of images not fooled", ylim=(0, 1))
        axes.set_xlim(0, None)
    caption = "Lower is a stronger attack. Images that no change fooled survive every size."
    return Drawing(
        figure, f"Images not fooled, over the size of the change. {'; '.join(words)}", keys, caption
    )
