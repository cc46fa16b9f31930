"""Segmentation losses from logits (N, K, h, w) and masks (N, h, w), one value per image, shape (N,).

K = 1 is binary: the logit z costs what the pair (-z/2, z/2) costs. Pixels marked IGNORE count for
nothing, and an image that has no others costs 0. Everything is computed from log-probabilities, which
keeps the gradient of a confidently wrong pixel that `sigmoid` and `softmax` would round to zero. Half
precision is computed and returned in float32. All raise InputError when logits and mask do not fit.
"""

from collections.abc import Callable, Mapping
from typing import Final, Literal

import torch
from torch import Tensor
from torch.nn import functional

from seg_mia.errors import InputError
from seg_mia.masks import IGNORE, check_labels

Loss = Callable[[Tensor, Tensor], Tensor]
LossName = Literal["dice", "cross_entropy", "dice_cross_entropy"]


def per_pixel_cross_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """Return -log p of each pixel's true class, (N, h, w); 0 where the mask says ignore."""
    _check(logits, mask)
    return _surprise(_log_probabilities(logits), mask)


def cross_entropy_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of -log p of the true class over the pixels that count."""
    _check(logits, mask)
    return _cross_entropy(_log_probabilities(logits), mask)


def dice_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Return 1 - (2 sum pt + 1) / (sum p + sum t + 1), sums over pixels, averaged over foreground classes.

    The soft Dice of Milletari et al. 2016 (V-Net) without its squares. The 1s let an empty mask met by an
    empty prediction cost 0.
    """
    _check(logits, mask)
    return _dice(_log_probabilities(logits), mask)


def dice_cross_entropy_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Return the sum of `dice_loss` and `cross_entropy_loss`."""
    _check(logits, mask)
    log_p = _log_probabilities(logits)
    return _dice(log_p, mask) + _cross_entropy(log_p, mask)


LOSSES: Final[Mapping[LossName, Loss]] = {
    "dice": dice_loss,
    "cross_entropy": cross_entropy_loss,
    "dice_cross_entropy": dice_cross_entropy_loss,
}


def _log_probabilities(logits: Tensor) -> Tensor:
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if logits.shape[1] == 1:
        return functional.logsigmoid(torch.cat((-logits, logits), dim=1))
    return logits.log_softmax(dim=1)


def _surprise(log_p: Tensor, mask: Tensor) -> Tensor:
    return functional.nll_loss(log_p, mask, ignore_index=IGNORE, reduction="none")


def _cross_entropy(log_p: Tensor, mask: Tensor) -> Tensor:
    counted = (mask != IGNORE).sum(dim=(1, 2))
    return _surprise(log_p, mask).sum(dim=(1, 2)) / counted.clamp(min=1)


def _dice(log_p: Tensor, mask: Tensor) -> Tensor:
    ignored = (mask == IGNORE).unsqueeze(1)
    true_class = mask.unsqueeze(1).masked_fill(ignored, 0)
    truth = torch.zeros_like(log_p).scatter_(1, true_class, 1)
    p, t = (maps[:, 1:].masked_fill(ignored, 0).flatten(2) for maps in (log_p.exp(), truth))
    dice = (2 * (p * t).sum(dim=2) + 1) / (p.sum(dim=2) + t.sum(dim=2) + 1)
    return (1 - dice).mean(dim=1)


def _check(logits: Tensor, mask: Tensor) -> None:
    if logits.ndim != 4 or mask.shape != (logits.shape[0], *logits.shape[2:]):
        raise InputError(
            f"logits (N, K, h, w) and mask (N, h, w) must agree in N, h and w, got {tuple(logits.shape)} and "
            f"{tuple(mask.shape)}; crop or resize the mask to the network's output, without a channel axis"
        )
    if not mask.is_cuda:  # CUDA's kernels check the classes themselves; a look from here would stall them
        check_labels(mask, max(2, logits.shape[1]))
