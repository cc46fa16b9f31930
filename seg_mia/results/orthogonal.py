"""A sample as one picture: an image, or three orthogonal slices of a volume in proportion."""

from collections.abc import Sequence

import torch
from torch import Tensor

from seg_mia.metrics.labels import IGNORE

_LARGEST = 512
"""Pixels of a volume's picture's side, at most."""
_LARGEST_IMAGE = 1024
"""Pixels of an image's picture's side, at most."""


class OrthogonalSlices:
    """Pictures of one sample: an image, a volume as three slices that meet in one voxel.

    Of images whose masks have sides above 1024 pixels every second, third, ... row and column is shown. Of
    volumes the axial slice and to its right an empty square are above, below are the coronal and the sagittal
    slice, head up. The slices are those with most foreground.

    Args:
        mask: (*s) class ids that decide the slices; without foreground they are the middle ones.
        spacing: distance of voxels along each axis; equal distances if None.
    """

    def __init__(self, mask: Tensor, spacing: Sequence[float] | None = None) -> None:
        self.volume = mask.ndim == 3
        self.step = -(-max(mask.shape) // _LARGEST_IMAGE)
        if not self.volume:
            return
        self.shape = tuple(mask.shape)
        self.voxel = [_fullest(counts) for counts in _foreground(mask)]
        steps = [float(step) for step in spacing or (1.0, 1.0, 1.0)]
        sides = [count * step for count, step in zip(self.shape, steps, strict=True)]
        finest = max(min(steps), (max(sides[:2]) + max(sides[1:])) / _LARGEST)
        self.rows = [
            _nearest_rows(count, max(1, round(side / finest)))
            for count, side in zip(self.shape, sides, strict=True)
        ]

    def __call__(self, values: Tensor) -> Tensor:
        """Return an image (C, H, W) of an image (C, D, H, W), or a mask (h, w) of a mask (d, h, w).

        A mask smaller than the image covers its centre.
        """
        if not self.volume:
            return values[..., :: self.step, :: self.step] if self.step > 1 else values
        lead = values.ndim - 3
        slices = values if lead else values[None]
        starts = [(whole - length) // 2 for whole, length in zip(self.shape, slices.shape[1:], strict=True)]
        depth, row, column = (
            min(max(at - start, 0), length - 1)
            for at, start, length in zip(self.voxel, starts, slices.shape[1:], strict=True)
        )
        axial = self._scaled(slices[:, depth], 1, 2)
        coronal = self._scaled(slices[:, :, row].flip(1), 0, 2)
        sagittal = self._scaled(slices[:, :, :, column].flip(1), 0, 1)
        height, width = axial.shape[1] + coronal.shape[1], axial.shape[2] + sagittal.shape[2]
        sheet = values.new_zeros(len(slices), height, width)
        sheet[:, : axial.shape[1], : axial.shape[2]] = axial
        sheet[:, axial.shape[1] :, : axial.shape[2]] = coronal
        sheet[:, axial.shape[1] :, axial.shape[2] :] = sagittal
        return sheet if lead else sheet[0]

    def _scaled(self, slices: Tensor, down: int, across: int) -> Tensor:
        """Return slices (C, h, w) along two axes of the volume in proportion."""
        rows, columns = (
            self.rows[axis] if side == self.shape[axis] else _nearest_rows(side, len(self.rows[axis]))
            for axis, side in ((down, slices.shape[1]), (across, slices.shape[2]))
        )
        return slices[:, rows.to(slices.device)][:, :, columns.to(slices.device)]


def _foreground(mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the voxels of foreground in each slice along each axis of a mask (d, h, w).

    Counted plane by plane: torch adds up a copy in 64 bits, eight times the memory of a mask of bytes.
    """
    counts = list[tuple[Tensor, Tensor]]()
    for plane in mask:
        foreground = (plane > 0) & (plane != IGNORE)
        counts.append((foreground.sum(1), foreground.sum(0)))
    rows, columns = (torch.stack(axis) for axis in zip(*counts, strict=True))
    return rows.sum(1), rows.sum(0), columns.sum(0)


def _fullest(counts: Tensor) -> int:
    return int(counts.argmax()) if bool(counts.any()) else len(counts) // 2


def _nearest_rows(count: int, length: int) -> Tensor:
    return ((torch.arange(length) + 0.5) * count / length).long().clamp(max=count - 1)
