"""Figures of the Dice that is left, and of the images that survive, over the size of the change."""

from collections.abc import Mapping

import numpy as np

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
"""Sizes are shown in grey levels of 8 bits."""


def curve_drawing(curves: Mapping[str, RobustnessCurve]) -> Drawing:
    """Return the mean Dice (y axis) over the radius of the ball in 1/255 (x axis), a line for each label."""
    keys, words = [], []
    radii = sorted({point.radius for curve in curves.values() for point in curve.points})
    with style():
        figure, axes = framed(3.4)
        for number, (label, curve) in enumerate(curves.items()):
            at = [point.radius for point in curve.points]
            middle, low, high = np.array([ends(point.measure) for point in curve.points]).T
            axes.fill_between(at, low, high, color=colour(number), alpha=0.12, lw=0)
            axes.plot(
                at, middle, color=colour(number), ls=DASHES[number % len(DASHES)], lw=WIDTH,
                marker=marker(number), ms=4, clip_on=False,
            )  # fmt: skip
            keys.append(Key(label, colour(number), stroke(number), marker(number), filled=True, joined=True))
            numbers = (f"{interval(point.measure)} at {point.radius:g}/255" for point in curve.points)
            words.append(f"{label}: {', '.join(numbers)}")
        smallest = min((radius for radius in radii if radius), default=1.0)
        axes.set_xscale("symlog", base=2, linthresh=smallest, linscale=1)
        axes.set_xticks(radii, [f"{radius:g}" for radius in radii])
        axes.minorticks_off()
        axes.set(xlabel="radius of the ball, in 1/255", ylabel="Dice with the truth", ylim=(0, 1))
        axes.set_xlim(0, radii[-1])
    caption = (
        "Worst case of each image; lower is a stronger attack. Bands: 95 % intervals over patients. The axis "
        "is linear up to the smallest radius, then logarithmic."
    )
    return Drawing(figure, f"Dice over the radius of the ball. {'; '.join(words)}", keys, caption)


def norms_drawing(distributions: Mapping[str, MinimalNorms]) -> Drawing:
    """Return the share of images that survive (y axis) every change up to a size in 1/255 (x axis)."""
    keys, words = [], []
    with style():
        figure, axes = framed(3.4)
        for number, (label, norms) in enumerate(distributions.items()):
            distances = [LEVELS * norm for norm in norms.norms if norm is not None]
            shares = [1 - rank / norms.images for rank in range(len(distances) + 1)]
            axes.step(
                [0.0, *distances], shares, where="post", color=colour(number),
                ls=DASHES[number % len(DASHES)], lw=WIDTH, clip_on=False,
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
