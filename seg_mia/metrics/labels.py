"""Conventions of all masks: ignored pixels and valid class ids."""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from seg_mia.errors import InputError

IGNORE: Final = 255
"""Class index of a pixel of unknown class; excluded from all losses and metrics."""


def labelled(mask: Tensor) -> Tensor:
    """Return which masks (N, *S) have a valid pixel, bool (N,); others are undefined."""
    return (mask != IGNORE).flatten(1).any(1)


def padding(mask: Tensor) -> Tensor:
    """Return the padding of volumes (N, d, h, w), bool: all voxels outside the box of the valid ones.

    Any attacker knows it from the volume's size. Ignored voxels inside the box are known from the annotation
    alone, as are those of images (N, h, w), which have no padding here.
    """
    if mask.ndim != 4:
        return torch.zeros_like(mask, dtype=torch.bool)
    valid, box = mask != IGNORE, torch.ones_like(mask, dtype=torch.bool)
    for axis in (1, 2, 3):
        filled = valid.any(tuple({1, 2, 3} - {axis}), keepdim=True).int()
        reached, left = filled.cumsum(axis) > 0, filled.flip(axis).cumsum(axis).flip(axis) > 0
        box &= reached & left
    return ~box


def padding_of_images(mask: Tensor, size: Sequence[int]) -> Tensor:
    """Return the padding of volumes of a size [D, H, W] whose masks (N, d, h, w) cover their central part.

    Voxels beyond the mask are padding where the mask's nearest voxel is.
    """
    if mask.ndim != 4:
        return torch.zeros(len(mask), *size, dtype=torch.bool, device=mask.device)
    filled = padding(mask)
    lacking = [whole - length for whole, length in zip(size, mask.shape[1:], strict=True)]
    margins = [part for count in reversed(lacking) for part in (count // 2, count - count // 2)]
    return functional.pad(filled.unsqueeze(1).float(), margins, mode="replicate")[:, 0] > 0


def real_slices(mask: Tensor) -> Tensor | None:
    """Return which slices of volumes (N, d, h, w) are not padding, bool (N, d); None for images (N, h, w)."""
    return (~padding(mask)).flatten(2).any(2) if mask.ndim == 4 else None


def check_labels(labels: Tensor, classes: int) -> None:
    """Raise InputError unless `labels` is int64 (N, *S) with class indices 0 .. classes - 1 or IGNORE.

    Reading the values synchronises with the GPU.
    """
    if labels.dtype != torch.int64 or labels.ndim < 3:
        raise InputError(
            f"a mask must be int64 class indices of shape (N, h, w), or (N, d, h, w), got {labels.dtype} of "
            f"shape {tuple(labels.shape)}; convert it with .long() and keep its batch axis"
        )
    known = ((labels >= 0) & (labels < classes)) | (labels == IGNORE)
    if not known.all():
        strange = sorted(set(labels[~known].tolist()))[:5]
        raise InputError(
            f"a mask must hold the classes 0 to {classes - 1}, or {IGNORE} (ignored), got {strange}; set the "
            "number of classes to that of the data, or map the values to class indices"
        )
