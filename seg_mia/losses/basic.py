"""Standard training losses of segmentation networks."""

import torch
from torch import Tensor
from torch.nn import functional

from seg_mia.errors import InputError
from seg_mia.metrics.labels import IGNORE, check_labels
from seg_mia.metrics.shapes import axes
from seg_mia.metrics.strips import summed


def per_pixel_cross_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """Return -log p of each pixel's true class, (N, *S); 0 for ignored pixels."""
    check_fit(logits, mask)
    return _surprise(log_probabilities(logits), mask)


def cross_entropy_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of -log p of the true class over valid pixels."""
    check_fit(logits, mask)
    (surprise,) = summed(lambda part, target: (_surprise_sum(log_probabilities(part), target),), logits, mask)
    return _mean_surprise(surprise, mask)


def dice_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Return 1 - (2 sum pt + 1) / (sum p + sum t + 1), sums over pixels, averaged over foreground classes.

    The soft Dice of Milletari et al. 2016 (V-Net) without its squares. With the added 1s, an empty mask and
    an empty prediction have loss 0.
    """
    check_fit(logits, mask)
    return soft_dice_loss(
        *summed(lambda part, target: overlap_sums(log_probabilities(part), target), logits, mask)
    )


def dice_cross_entropy_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Return the sum of `dice_loss` and `cross_entropy_loss`."""
    check_fit(logits, mask)
    surprise, *overlaps = summed(_both_sums, logits, mask)
    return soft_dice_loss(*overlaps) + _mean_surprise(surprise, mask)


def log_probabilities(logits: Tensor) -> Tensor:
    """Return log p of each class, (N, K >= 2, *S), in float32 at least."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if logits.shape[1] == 1:
        return functional.logsigmoid(torch.cat((-logits, logits), dim=1))
    return logits.log_softmax(dim=1)


def _surprise(log_p: Tensor, mask: Tensor) -> Tensor:
    return functional.nll_loss(log_p, mask, ignore_index=IGNORE, reduction="none")


def _surprise_sum(log_p: Tensor, mask: Tensor) -> Tensor:
    return _surprise(log_p, mask).sum(dim=axes(mask, 1))


def _mean_surprise(surprise: Tensor, mask: Tensor) -> Tensor:
    return surprise / (mask != IGNORE).sum(dim=axes(mask, 1)).clamp(min=1)


def _both_sums(logits: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
    log_p = log_probabilities(logits)
    return _surprise_sum(log_p, mask), *overlap_sums(log_p, mask)


def overlap_sums(log_p: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the sums over pixels of p t, p and t of each foreground class, (N, K - 1).

    Args:
        log_p: log probabilities (N, K, *S).
        mask: class ids (N, *S).
    """
    ignored = (mask == IGNORE).unsqueeze(1)
    true_class = mask.unsqueeze(1).masked_fill(ignored, 0)
    truth = torch.zeros_like(log_p).scatter_(1, true_class, 1)
    p, t = (maps[:, 1:].masked_fill(ignored, 0).flatten(2) for maps in (log_p.exp(), truth))
    return (p * t).sum(dim=2), p.sum(dim=2), t.sum(dim=2)


def soft_dice_loss(both: Tensor, predicted: Tensor, true: Tensor) -> Tensor:
    """Return the soft Dice loss of the sums (N, K - 1) of p t, p and t."""
    dice = (2 * both + 1) / (predicted + true + 1)
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
