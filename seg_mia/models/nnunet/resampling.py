"""Resampling of nnU-Net, differentiable: splines of all axes, or of planes where slices are far apart.

Written after the documented behaviour of `resample_data_or_seg_to_shape` (nnU-Net 2.8.1; Isensee et al.,
Nature Methods 2021): where one axis is more than three times as coarse as another, slices are resampled
alone, and repeated or left out along it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, Self

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from seg_mia.errors import InputError

_HIGHEST = 5
"""Highest degree of splines."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Grid on which a network predicts, and how images are brought onto it.

    Attributes:
        target: distance of pixels along each axis of a patch, in the unit of the files.
        spacing: that of the files, along each axis of an image; None where each sample states its own
            (`seg_mia.models.nnunet.sample_geometry`).
        transpose: axes of an image in the order of the network; the image's own if not given.
        image_order: degree of the splines for images.
        logit_order: degree for logits.
        separate: whether slices are resampled alone; None decides by the distances.
        threshold: ratio of two distances above which they are.
    """

    target: tuple[float, ...]
    spacing: tuple[float, ...] | None = None
    transpose: tuple[int, ...] = ()
    image_order: int = 3
    logit_order: int = 1
    separate: bool | None = None
    threshold: float = 3.0

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Return a grid from plain values; raise InputError for invalid ones."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(values.keys() - known):
            raise InputError(f"a grid has {', '.join(sorted(known))}, got {unknown[0]}; leave it out")
        given = dict(values)
        try:
            for name in ("target", "spacing"):
                if given.get(name) is not None:
                    given[name] = tuple(map(float, given[name]))
            given["transpose"] = tuple(map(int, given.get("transpose") or ()))
            grid = cls(**given)
            distances = [*grid.target, *(grid.spacing or ()), grid.threshold]
            valid = all(0 < distance < np.inf for distance in distances) and all(
                0 <= order <= _HIGHEST for order in (grid.image_order, grid.logit_order)
            )
        except (TypeError, ValueError) as error:
            raise InputError(f"a grid is incomplete or invalid: {error}; correct it") from None
        if not valid or sorted(grid.transpose) != list(range(len(grid.transpose))):
            raise InputError(
                "a grid must have distances above 0, splines of degree 0 to 5 and each axis once, got "
                f"{dict(values)}; correct it"
            )
        return grid

    def target_for(self, spacing: Sequence[float]) -> tuple[float, ...]:
        """Return the distances to resample to; of slices that are predicted alone, none between them."""
        return (*spacing[: len(spacing) - len(self.target)], *self.target)

    def size(self, size: Sequence[int], spacing: Sequence[float]) -> tuple[int, ...]:
        """Return the lengths of an image after resampling, rounded half to even."""
        steps = zip(size, spacing, self.target_for(spacing), strict=True)
        return tuple(round(old / new * length) for length, old, new in steps)

    def separated(self, before: Sequence[float], after: Sequence[float]) -> int | None:
        """Return the axis along which slices are resampled alone; None for splines along all axes.

        Args:
            before: distances of pixels before resampling.
            after: distances after it.
        """
        if len(before) < 3 or self.separate is False:
            return None
        coarse = next((steps for steps in (before, after) if max(steps) / min(steps) > self.threshold), None)
        chosen = before if self.separate else coarse
        if chosen is None:
            return None
        axes = [axis for axis, step in enumerate(chosen) if max(chosen) / step == 1]
        return axes[0] if len(axes) == 1 else None


def resampled(values: Tensor, size: Sequence[int], order: int, axis: int | None = None) -> Tensor:
    """Return one channel (*S) at another size by splines, limited to its own range.

    Splines of a regular grid are linear maps of lines, which keeps gradients.

    Args:
        values: an image's channel, or logits.
        size: lengths of the result.
        order: degree of the splines.
        axis: axis across which slices are resampled alone, each limited to its own range, and then repeated
            or left out; None for splines along all axes.
    """
    if tuple(values.shape) == tuple(size):
        return values
    if axis is None:
        return _splined(values, size, order).clamp(values.amin(), values.amax())
    planes = tuple(number for number in range(values.ndim) if number != axis)
    within = [values.shape[axis] if number == axis else length for number, length in enumerate(size)]
    low, high = values.amin(dim=planes, keepdim=True), values.amax(dim=planes, keepdim=True)
    slices = _splined(values, within, order).clamp(low, high)
    if slices.shape[axis] == size[axis]:
        return slices
    return slices.index_select(axis, nearest(slices.shape[axis], size[axis]).to(slices.device))


def _splined(values: Tensor, size: Sequence[int], order: int) -> Tensor:
    """Return values at another size, beyond their range where splines overshoot."""
    for axis, (old, new) in enumerate(zip(tuple(values.shape), size, strict=True)):
        if old != new:
            matrix = spline_matrix(old, new, order).to(values)
            values = (values.movedim(axis, -1) @ matrix.T).movedim(-1, axis)
    return values


@lru_cache(maxsize=64)
def spline_matrix(old: int, new: int, order: int) -> Tensor:
    """Return the matrix (new, old), float64, that resamples a line by splines, pixels taken as areas."""
    columns = [
        ndimage.zoom(row, new / old, order=order, mode="nearest", grid_mode=True) for row in np.eye(old)
    ]
    return torch.from_numpy(np.stack(columns, axis=1))


@lru_cache(maxsize=64)
def nearest(old: int, new: int) -> Tensor:
    """Return the position (new,) of the nearest of `old` slices for each new one, slices taken as areas."""
    places = old / new * (np.arange(new) + 0.5) - 0.5
    numbers = np.arange(old, dtype=np.float64)
    return torch.from_numpy(ndimage.map_coordinates(numbers, places[None], order=0, mode="nearest")).long()
