"""Figure of the images that survive, over the size of the change."""

from collections.abc import Mapping

from seg_mia.results.charts.drawing import (
    DASHES,
    WIDTH,
    Drawing,
    Key,
    colour,
    framed,
    stroke,
    style,
)
from seg_mia.results.robustness import MinimalNorms

LEVELS = 255
"""Sizes are shown in grey levels of 8 bits."""


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
