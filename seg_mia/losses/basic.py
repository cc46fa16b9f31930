"""Standard training losses of segmentation networks."""

import torch
from torch import Tensor
from torch.nn import functional

from seg_mia.errors import InputError
from seg_mia.metrics.labels import IGNORE, check_labels
from seg_mia.metrics.shapes import axes


def per_pixel_cross_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """Return -log p of each pixel's true class, (N, *S); 0 for ignored pixels."""
    check_fit(logits, mask)
    return _surprise(log_probabilities(logits), mask)


def cross_entropy_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of -log p of the true class over valid pixels."""
    check_fit(logits, mask)
    return _cross_entropy(log_probabilities(logits), mask)


def dice_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Return 1 - (2 sum pt + 1) / (sum p + sum t + 1), sums over pixels, averaged over foreground classes.

    The soft Dice of Milletari et al. 2016 (V-Net) without its squares. With the added 1s, an empty mask and
    an empty prediction have loss 0.
    """
    check_fit(logits, mask)
    return _dice(log_probabilities(logits), mask)


def dice_cross_entropy_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Return the sum of `dice_loss` and `cross_entropy_loss`."""
    check_fit(logits, mask)
    log_p = log_probabilities(logits)
    return _dice(log_p, mask) + _cross_entropy(log_p, mask)


def log_probabilities(logits: Tensor) -> Tensor:
    """Return log p of each class, (N, K >= 2, *S), in float32 at least."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if logits.shape[1] == 1:
        return functional.logsigmoid(torch.cat((-logits, logits), dim=1))
    return logits.log_softmax(dim=1)


def _surprise(log_p: Tensor, mask: Tensor) -> Tensor:
    return functional.nll_loss(log_p, mask, ignore_index=IGNORE, reduction="none")


def _cross_entropy(log_p: Tensor, mask: Tensor) -> Tensor:
    counted = (mask != IGNORE).sum(dim=axes(mask, 1))
    return _surprise(log_p, mask).sum(dim=axes(mask, 1)) / counted.clamp(min=1)


def _dice(log_p: Tensor, mask: Tensor) -> Tensor:
    ignored = (mask == IGNORE).unsqueeze(1)
    true_class = mask.unsqueeze(1).masked_fill(ignored, 0)
    truth = torch.zeros_like(log_p).scatter_(1, true_class, 1)
    p, t = (maps[:, 1:].masked_fill(ignored, 0).flatten(2) for maps in (log_p.exp(), truth))
    dice = (2 * (p * t).sum(dim=2) + 1) / (p.sum(dim=2) + t.sum(dim=2) + 1)
    return (1 - dice).mean(dim=1)


def check_fit(logits: Tensor, mask: Tensor) -> None:
    """Raise InputError for incompatible logits (N, K, *S) and mask (N, *S)."""
    if logits.ndim < 4 or mask.shape != (logits.shape[0], *logits.shape[2:]):
        raise InputError(
            "logits (N, K, h, w) and mask (N, h, w), for volumes (d, h, w), must agree in N and size, got "
            f"{tuple(logits.shape)} and {tuple(mask.shape)}; crop or resize the mask to the network's output "
            "without a channel axis"
        )
    if not mask.is_cuda:  # CUDA's kernels check the classes themselves; a look from here would stall them
        check_labels(mask, max(2, logits.shape[1]))
