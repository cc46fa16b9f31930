"""Statistics of decoded samples, for detection of uninformative images and masks."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_mia.atomic import written_whole
from seg_mia.data.cache import Cached
from seg_mia.data.patches import class_counts
from seg_mia.data.source import Source
from seg_mia.metrics.labels import IGNORE

_FILE = "contents_1.npy"  # another number when equal samples are described otherwise than before


class SampleFacts:
    """Statistics of n samples.

    Args:
        table: one record per sample, (n,), see `sample_facts`.

    Attributes:
        low: each image's smallest value in [0, 1], (n,).
        high: its largest, (n,).
        spread: the difference of the two within the channel where it is largest, in levels of 255, (n,).
        common: share of the pixels that have the most common of 256 levels, in the channel where it is
            smallest, (n,).
        white: share of the pixels at the upper end of the range in all channels, (n,).
        pixels: how many pixels of each class a mask has, and last how many to ignore, (n, classes + 1).
        lost: the largest value of a mask's file that decoding made background where nothing else was in it,
            0 where there is none, (n,).
    """

    def __init__(self, table: NDArray[Any]) -> None:
        self.low: NDArray[np.float64] = table["low"]
        self.high: NDArray[np.float64] = table["high"]
        self.spread: NDArray[np.float64] = table["spread"]
        self.common: NDArray[np.float64] = table["common"]
        self.white: NDArray[np.float64] = table["white"]
        self.pixels: NDArray[np.int64] = table["pixels"]
        self.lost: NDArray[np.int64] = table["lost"]

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """Return which masks have a pixel that is not to be ignored, (n,)."""
        return np.asarray(self.pixels[:, :-1].any(1), dtype=np.bool_)

    @property
    def foreground(self) -> NDArray[np.int64]:
        """Return how many pixels of each mask are of a class other than 0, (n,)."""
        return np.asarray(self.pixels[:, 1:-1].sum(1))

    @property
    def empty(self) -> NDArray[np.bool_]:
        """Return which masks have labelled pixels, all of them background, (n,)."""
        return np.asarray(self.labelled & (self.foreground == 0), dtype=np.bool_)


def sample_facts(
    cached: Cached, source: Source, progress: Callable[[int, int], None] | None = None
) -> SampleFacts:
    """Return statistics of all samples, stored beside the cache or computed in one pass.

    Args:
        cached: the decoded samples.
        source: source of the samples, used to inspect the files of empty masks.
        progress: called with the samples done and their total after each.
    """
    kind = np.dtype(
        [
            *((name, np.float64) for name in ("low", "high", "spread", "common", "white")),
            ("pixels", np.int64, (source.classes + 1,)),
            ("lost", np.int64),
        ]
    )
    file = cached.folder / _FILE
    with suppress(OSError, ValueError, EOFError):  # not there, or damaged: look
        stored = np.load(file, allow_pickle=False)
        if stored.dtype == kind and stored.shape == (len(source),):
            return SampleFacts(stored)
    table = np.zeros(len(source), kind)
    for index in range(len(source)):
        table[index] = _facts(
            np.asarray(cached.images[index]), np.asarray(cached.masks[index]), source, index
        )
        if progress is not None:
            progress(index + 1, len(source))
    _keep(file, table)
    return SampleFacts(table)


def _facts(image: NDArray[Any], mask: NDArray[np.uint8], source: Source, index: int) -> tuple[Any, ...]:
    is_integer = image.dtype == np.uint8
    scale = 255.0 if is_integer else 1.0
    values = image.reshape(-1, image.shape[-1])
    low, high = values.min(0) / scale, values.max(0) / scale
    levels = values if is_integer else _rounded(values)
    common = min(class_counts(channel).max() / len(levels) for channel in levels.T)
    white = np.count_nonzero((levels == 255).all(1)) / len(levels)
    histogram = class_counts(mask)
    pixels = np.append(histogram[: source.classes], histogram[IGNORE])
    empty = pixels[0] > 0 and not pixels[1:-1].any()
    lost = source.lost(index) if empty else 0
    return low.min(), high.max(), float((high - low).max() * 255), common, white, pixels, lost


def _rounded(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return values in [0, 1] in 255 levels, with one copy in floats: a volume may fill the memory."""
    scaled = values * np.float32(255)
    np.rint(scaled, out=scaled)
    return scaled.astype(np.uint8)


def _keep(path: Path, table: NDArray[Any]) -> None:
    """Write the file in one step; a cache that cannot be written is looked through again."""
    with suppress(OSError), written_whole(path) as file:
        np.save(file, table, allow_pickle=False)
