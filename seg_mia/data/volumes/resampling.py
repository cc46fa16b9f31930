"""Volumes on a grid of stated spacing and size: linear for images, nearest for labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from seg_mia.data.source import Image, Mask
from seg_mia.errors import InputError
from seg_mia.metrics.labels import IGNORE

Around = Literal["centre", "foreground"]
AnyArray = TypeVar("AnyArray", bound=NDArray[Any])
_LARGEST = 2048
"""Voxels along an axis, at most: a spacing in another unit would ask for millions."""


@dataclass(frozen=True, kw_only=True)
class Shaping:
    """Grid of a volume as a sample.

    Attributes:
        spacing: distance of voxels along [D, H, W] in mm; None keeps the volume's.
        size: number of voxels along [D, H, W]; larger volumes are cropped, smaller ones padded with black
            that is ignored (255 in the mask), evenly on both sides. None keeps the volume's.
        around: what a crop is centred on: the volume, or the box that its foreground fills.
    """

    spacing: tuple[float, ...] | None = None
    size: tuple[int, ...] | None = None
    around: Around = "centre"

    def __post_init__(self) -> None:
        spacing, size = self.spacing, self.size
        if spacing is not None and (len(spacing) != 3 or not all(0 < step < np.inf for step in spacing)):
            raise InputError(
                f"spacing must be three distances above 0 in mm, [D, H, W], got {list(spacing)}; leave it "
                "out to keep that of the volumes"
            )
        if size is not None and (len(size) != 3 or not all(1 <= side <= _LARGEST for side in size)):
            raise InputError(
                f"size must be three numbers of voxels from 1 to {_LARGEST}, [D, H, W], got {list(size)}; "
                "leave it out to keep that of the volumes"
            )

    def length(self, axis: int, count: int, step: float) -> int:
        """Return the number of voxels along an axis after resampling, before cropping or padding.

        Args:
            axis: 0 to 2 for D, H, W.
            count: voxels of the volume.
            step: their distance in mm.

        Raises:
            InputError: more than 2048 voxels.
        """
        if self.spacing is None:
            return count
        length = max(1, round(count * step / self.spacing[axis]))
        if length > _LARGEST:
            raise InputError(
                f"spacing must give at most {_LARGEST} voxels along an axis, got {length} of {count} voxels "
                f"{step:.4g} mm apart at {self.spacing[axis]:.4g} mm; raise --data.spacing, or correct the "
                "header"
            )
        return length

    def shaped(self, image: Image, mask: Mask, voxel: Sequence[float]) -> tuple[Image, Mask]:
        """Return an image (D, H, W, C) and its mask (D, H, W) of class ids on the grid.

        Both grids have the same centre. Values between voxels are linear; beyond the outermost voxels'
        centres, by at most half a new voxel, they are the outermost ones. A label is that of the nearest
        voxel.

        Args:
            image: uint8, or float32 in [0, 1]; the result has the same type.
            mask: its class ids.
            voxel: distance of its voxels along [D, H, W] in mm; not read if there is no spacing.
        """
        middles, is_integer = self._middles(mask), image.dtype == np.uint8
        for axis in range(3):
            places, padding = self._places(axis, mask.shape[axis], float(voxel[axis]), middles[axis])
            image = _padded(_linear(image, axis, places), axis, padding, 0)
            mask = _padded(_nearest(mask, axis, places), axis, padding, IGNORE)
        labels: Mask = np.ascontiguousarray(mask)
        if is_integer:
            return np.ascontiguousarray(np.rint(image), dtype=np.uint8), labels
        return np.ascontiguousarray(image, dtype=np.float32), labels

    def of_sample(self, image: Image, mask: Mask, voxel: Sequence[float], name: str) -> tuple[Image, Mask]:
        """Return `shaped` of a named volume.

        Raises:
            InputError: the grid keeps nothing of its foreground.
        """
        there = int(np.count_nonzero((mask != 0) & (mask != IGNORE)))
        image, mask = self.shaped(image, mask, voxel)
        if there and not ((mask != 0) & (mask != IGNORE)).any():
            raise InputError(
                f"spacing and size must keep some foreground of {name!r}, got none of its {there} voxels; "
                "set --data.around foreground, a larger --data.size or a smaller --data.spacing"
            )
        return image, mask

    def _middles(self, mask: Mask) -> list[float | None]:
        """Return the centre of the foreground's box along each axis, as a position among the voxels."""
        foreground = (mask != 0) & (mask != IGNORE)
        if self.around == "centre" or not foreground.any():
            return [None] * 3
        projected = (np.flatnonzero(foreground.any(tuple({0, 1, 2} - {axis}))) for axis in range(3))
        return [(int(filled[0]) + int(filled[-1])) / 2 for filled in projected]

    def _places(
        self, axis: int, count: int, step: float, middle: float | None
    ) -> tuple[NDArray[np.float64], tuple[int, int]]:
        """Return the positions of the new voxels among the old ones, and how many to pad on either side."""
        length = self.length(axis, count, step)
        ratio = 1.0 if self.spacing is None else self.spacing[axis] / step
        size = length if self.size is None else self.size[axis]
        first = 0
        if size < length:
            first = (length - size) // 2
            if middle is not None:
                wanted = round((middle - (count - 1) / 2) / ratio + (length - size) / 2)
                first = min(max(wanted, 0), length - size)
        numbers = np.arange(first, min(first + size, length), dtype=np.float64)
        lacking = max(size - length, 0)
        places = (numbers - (length - 1) / 2) * ratio + (count - 1) / 2
        return places.clip(0, count - 1), (lacking // 2, lacking - lacking // 2)


def _linear(image: Image, axis: int, places: NDArray[np.float64]) -> Image:
    """Return values between voxels along an axis, float32 unless all places are voxels."""
    low = np.floor(places).astype(np.int64)
    share = (places - low).astype(np.float32)
    if not share.any():
        voxels: Image = np.take(image, low, axis)  # type: ignore[assignment]  # of the image's type
        return voxels
    high = np.minimum(low + 1, image.shape[axis] - 1)
    weight = share.reshape([-1 if number == axis else 1 for number in range(image.ndim)])
    below, above = (np.take(image, side, axis).astype(np.float32) for side in (low, high))
    mixed: NDArray[np.float32] = below + (above - below) * weight
    return mixed


def _nearest(mask: Mask, axis: int, places: NDArray[np.float64]) -> Mask:
    return np.take(mask, np.floor(places + 0.5).astype(np.int64).clip(0, mask.shape[axis] - 1), axis)


def _padded(values: AnyArray, axis: int, padding: tuple[int, int], fill: int) -> AnyArray:
    if not any(padding):
        return values
    pairs = [padding if number == axis else (0, 0) for number in range(values.ndim)]
    return np.pad(values, pairs, constant_values=fill)  # type: ignore[return-value]
