"""Statistics, hashes and near duplicates of decoded samples."""

import hashlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_mia.data.cache import Cached
from seg_mia.data.resize import by_area
from seg_mia.errors import InputError
from seg_mia.metrics.labels import IGNORE

Hashes = NDArray[np.bool_]
BITS = 64

_SIDE = 32
_BLOCK = 1024


@dataclass(frozen=True, eq=False)
class Survey:
    """Statistics of n samples.

    Attributes:
        low: each image's smallest value in [0, 1], (n,).
        high: each image's largest value, (n,).
        pixels: how many pixels of each class a mask has, and last how many to ignore, (n, classes + 1).
        digests: of each decoded image; equal for equal pixels alone.
        hashes: see `difference_hash`, (n, 64).
        thumbnails: each image in grey at 32x32, its mean taken off, of length 1, or 0 where it is constant,
            (n, 1024).
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    pixels: NDArray[np.int64]
    digests: tuple[str, ...]
    hashes: Hashes
    thumbnails: NDArray[np.float16]

    @property
    def labelled(self) -> NDArray[np.int64]:
        """Return how many pixels of each mask are not to be ignored, (n,)."""
        return np.asarray(self.pixels[:, :-1].sum(1))


class Pair(NamedTuple):
    """Two similar samples: number of differing hash bits, and correlation of their pixels."""

    first: int
    second: int
    distance: int
    similarity: float


def survey(cached: Cached, classes: int, *, progress: Callable[[int, int], None] | None = None) -> Survey:
    """Look at every sample of a cache.

    Args:
        cached: the decoded samples.
        classes: how many there are, background included.
        progress: called with the samples done and their total after each.
    """
    count = len(cached.images)
    limits = np.empty((2, count))
    pixels = np.empty((count, classes + 1), np.int64)
    thumbnails = np.empty((count, _SIDE * _SIDE), np.float16)
    hashes = np.empty((count, BITS), bool)
    digests = list[str]()
    scale = 255 if cached.images.dtype == np.uint8 else 1
    for index in range(count):
        image, mask = np.array(cached.images[index]), np.array(cached.masks[index])
        limits[:, index] = image.min() / scale, image.max() / scale
        histogram = np.bincount(mask.ravel(), minlength=256)
        pixels[index] = *histogram[:classes], histogram[IGNORE]
        small = thumbnail(image)
        hashes[index], thumbnails[index] = difference_hash(small), _unit(small)
        digests.append(hashlib.sha256(np.ascontiguousarray(image).data).hexdigest())
        if progress is not None:
            progress(index + 1, count)
    return Survey(limits[0], limits[1], pixels, tuple(digests), hashes, thumbnails)


def thumbnail(image: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.float32]:
    """Return an image (H, W, C) in grey at 32x32, by area; of a volume (D, H, W, C) four slabs of 16x16."""
    if image.ndim == 4:
        slabs = [_slab(image, quarter) for quarter in range(4)]
        return np.block([[slabs[0], slabs[1]], [slabs[2], slabs[3]]])
    small = np.asarray(by_area(image, _SIDE, _SIDE), np.float32)
    return np.asarray(small.reshape(_SIDE, _SIDE, -1).mean(2))


def _slab(volume: NDArray[np.uint8] | NDArray[np.float32], quarter: int) -> NDArray[np.float32]:
    """Return the mean of a quarter of a volume's slices in grey at 16x16; of fewer than four, the nearest."""
    depth = len(volume)
    start = min(quarter * depth // 4, depth - 1)
    slices = volume[start : max((quarter + 1) * depth // 4, start + 1)]
    mean = slices.astype(np.float32).mean((0, 3))
    return np.asarray(cv2.resize(mean, (_SIDE // 2, _SIDE // 2), interpolation=cv2.INTER_AREA), np.float32)


def difference_hash(small: NDArray[np.float32]) -> Hashes:
    """Return 64 bits of a grey image: which of 9 columns in 8 rows are brighter than their left neighbour.

    Brightness, contrast, noise and compression hardly change them.
    """
    cells = np.asarray(cv2.resize(small, (9, 8), interpolation=cv2.INTER_AREA))
    return np.asarray((cells[:, 1:] > cells[:, :-1]).ravel())


def near_pairs(
    hashes: Hashes, thumbnails: NDArray[np.float16], *, distance: int, similarity: float
) -> list[Pair]:
    """Return all pairs of similar samples, most similar first.

    Pairs with few differing hash bits are verified by the correlation of their thumbnails: 64 bits alone do
    not distinguish images of one kind. Every sample is compared with every other, in blocks.

    Args:
        hashes: 64 bits of each sample, (n, 64).
        thumbnails: of length 1, or 0 for what resembles nothing, (n, 1024).
        distance: the most bits that may differ, 0 to 64.
        similarity: the least correlation, above 0 and at most 1.

    Raises:
        InputError: if a number is out of range.
    """
    if not 0 <= distance <= BITS or not 0 < similarity <= 1:
        raise InputError(
            f"distance must be 0 to {BITS} and similarity above 0 and at most 1, got {distance} and "
            f"{similarity}; change them"
        )
    signs = hashes.astype(np.float32) * 2 - 1
    near = list[Pair]()
    for start in range(0, len(signs), _BLOCK):
        rows = signs[start : start + _BLOCK]
        for begin in range(start, len(signs), _BLOCK):
            differing = (BITS - rows @ signs[begin : begin + _BLOCK].T) / 2
            positions = np.argwhere(differing <= distance) + np.array([start, begin])
            first, second = positions[positions[:, 0] < positions[:, 1]].T
            similarities = _correlation(thumbnails, first, second)
            similar = similarities >= similarity
            bits = differing[first[similar] - start, second[similar] - begin].astype(int).tolist()
            columns = (
                first[similar].tolist(),
                second[similar].tolist(),
                bits,
                similarities[similar].tolist(),
            )
            near += [Pair(*values) for values in zip(*columns, strict=True)]
    return sorted(near, key=lambda pair: (-pair.similarity, pair.first, pair.second))


def equal(values: Sequence[Hashable]) -> list[list[int]]:
    """Return the places of each value that there is more than once, ascending."""
    by_value = dict[Hashable, list[int]]()
    for index, value in enumerate(values):
        by_value.setdefault(value, []).append(index)
    return [indices for indices in by_value.values() if len(indices) > 1]


def _correlation(
    thumbnails: NDArray[np.float16], first: NDArray[np.int64], second: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the correlation of pairs, (n,), a few thousand at a time."""
    close = np.empty(len(first))
    for start in range(0, len(first), _BLOCK):
        part = slice(start, start + _BLOCK)
        left_images, right_images = (
            thumbnails[indices[part]].astype(np.float32) for indices in (first, second)
        )
        close[part] = (left_images * right_images).sum(1)
    return np.minimum(close.round(4), 1)  # half precision leaves 1 +- 0.0003 of a pair of equal images


def _unit(small: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return an image without its mean, of length 1; 0 where it is constant."""
    centred = small.ravel() - small.mean()
    length = float(np.linalg.norm(centred))
    return np.asarray(centred / length if length > 1e-6 * small.size else np.zeros_like(centred))
