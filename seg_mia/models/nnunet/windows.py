"""Overlapping patches with Gaussian weights, as nnU-Net cuts and joins them."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from seg_mia.models.windows import window_starts, window_weights

Predict = Callable[[Tensor], Tensor]
PATCHES = 8
"""Patches of one forward pass."""


def windowed(
    predict: Predict, image: Tensor, patch: tuple[int, int], *, step: float, mirrored: Sequence[int]
) -> Tensor:
    """Return the weighted mean of the logits of overlapping patches, each averaged over its mirror images.

    Images smaller than the patch are padded with zeros on both sides. Weights are a Gaussian around the
    patch's centre (`window_weights`); sums are in the precision of the logits. With
    gradients, forward passes are repeated in the backward pass: memory is that of one of them.

    Args:
        predict: maps patches (n, C, h, w) to logits (n, K, h, w).
        image: (C, H, W).
        patch: height and width.
        step: greatest distance of patches, as a fraction of their sides.
        mirrored: axes of mirroring, 0 for height and 1 for width; all their combinations are averaged.

    Returns:
        logits (K, H, W).
    """
    height, width = image.shape[1:]
    above, left = (max(side - length, 0) // 2 for side, length in zip(patch, (height, width), strict=True))
    below = max(patch[0] - height, 0) - above
    right = max(patch[1] - width, 0) - left
    padded = functional.pad(image, (left, right, above, below))
    weights = _weights(patch).to(padded)
    positions = window_starts(padded.shape[1:], patch, 1 - step, "nnunet")
    total, weight = None, padded.new_zeros(padded.shape[1:])
    predictions = _predictions(predict, padded, patch, positions, mirrored)
    for position, logits in zip(positions, predictions, strict=True):
        rows, columns = (slice(begin, begin + side) for begin, side in zip(position, patch, strict=True))
        if total is None:
            total = logits.new_zeros(len(logits), *padded.shape[1:])
        total[:, rows, columns] += logits * weights
        weight[rows, columns] += weights
    assert total is not None
    return (total / weight)[:, above : above + height, left : left + width]


def _predictions(
    predict: Predict,
    image: Tensor,
    patch: tuple[int, int],
    positions: Sequence[tuple[int, ...]],
    mirrored: Sequence[int],
) -> Iterator[Tensor]:
    """Yield the logits of each patch, averaged over mirror images."""
    axes = [axis + 2 for axis in mirrored]
    flips = [flip for count in range(len(axes) + 1) for flip in itertools.combinations(axes, count)]
    for begin in range(0, len(positions), PATCHES):
        cut = [image[:, row : row + patch[0], column : column + patch[1]] for row, column in
               positions[begin : begin + PATCHES]]  # fmt: skip
        patches = torch.stack(cut)
        answers = [_asked(predict, patches.flip(flip)).flip(flip) for flip in flips]
        yield from torch.stack(answers).mean(dim=0)


def _asked(predict: Predict, patches: Tensor) -> Tensor:
    """Return logits; where gradients are taken, without the intermediate results."""
    if not torch.is_grad_enabled() or not patches.requires_grad:
        return predict(patches)
    logits: Tensor = checkpoint(predict, patches, use_reentrant=False)
    return logits


@lru_cache(maxsize=8)
def _weights(patch: tuple[int, int]) -> Tensor:
    """Return the weights of a patch (h, w)."""
    return window_weights(patch, "gaussian", "nnunet")
