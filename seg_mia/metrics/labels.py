"""Conventions of all masks: ignored pixels and valid class ids."""

from typing import Final

import torch
from torch import Tensor

from seg_mia.errors import InputError

IGNORE: Final = 255
"""Class index of a pixel of unknown class; excluded from all losses and metrics."""


def labelled(mask: Tensor) -> Tensor:
    """Return which masks (N, *S) have a valid pixel, bool (N,); others are undefined."""
    return (mask != IGNORE).flatten(1).any(1)


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
