"""The six surrogate losses of MedIS (Shukla, Gupta, Gupta, MTAP 2023), each minimal at the mask.

Inputs are a network's output, logits (N, K, *S) or a tuple of several heads', and masks (N, *S); the result
is one value per image, (N,). With two classes the foreground is compared. With more, each class in the mask
or the prediction is compared against the rest, and the mean is taken. Probabilities are averaged over heads.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal

import torch
from torch import Tensor
from torch.nn import functional

from seg_mia.losses.one_vs_rest import OneVsRestLogits, one_vs_rest
from seg_mia.metrics.shapes import axes
from seg_mia.models.heads import heads

Output = Tensor | Sequence[Tensor]
SurrogateName = Literal[
    "log_cosh_dice", "bce_dice", "exponential_logarithmic", "structure", "lovasz_hinge", "combined"
]


def log_cosh_dice_loss(output: Output, mask: Tensor) -> Tensor:
    """Return log cosh(1 - Dice), Dice = (2 sum pt + 1) / (sum p + sum t + 1) (Jadon 2020)."""
    seen = one_vs_rest(output, mask)
    return seen.mean((1 - _dice(seen)).cosh().log())


def bce_dice_loss(output: Output, mask: Tensor) -> Tensor:
    """Return the mean binary cross-entropy over pixels, plus 1 - Dice."""
    seen = one_vs_rest(output, mask)
    return seen.mean(_pixel_mean(_bce(seen), seen) + 1 - _dice(seen))


def exponential_logarithmic_loss(output: Output, mask: Tensor) -> Tensor:
    """Return 0.5 (-log Dice)^2 + 0.5 mean (-log p_t)^2, p_t the probability of the truth (Wong et al. 2018).

    The exponents are 2 instead of the paper's 0.3, so that the gradient vanishes at the mask.
    """
    seen = one_vs_rest(output, mask)
    return seen.mean(0.5 * _dice(seen).log().square() + 0.5 * _pixel_mean(_bce(seen).square(), seen))


def structure_loss(output: Output, mask: Tensor) -> Tensor:
    """Return weighted BCE plus weighted IoU loss, summed over heads (Fan et al. 2020, PraNet, eq. 4).

    Pixels weigh w = 1 + 5 |mean of t over 31 x 31 (x 31) - t|, so borders count more.
    """
    return torch.stack([_structure(logits, mask) for logits in heads(output)]).sum(0)


def lovasz_hinge_loss(output: Output, mask: Tensor) -> Tensor:
    """Return the Lovasz extension of 1 - IoU at the hinge errors 1 - z (2 t - 1) (Berman et al. 2018).

    z is the log-odds of the class.
    """
    seen = one_vs_rest(output, mask)
    errors = (1 - seen.logit * (2 * seen.truth - 1)).masked_fill(seen.counts == 0, -1).flatten(2)
    errors, order = errors.sort(dim=2, descending=True)
    truth = seen.truth.flatten(2).gather(2, order)
    positives = truth.sum(2, keepdim=True)
    intersection = positives - truth.cumsum(2)
    union = positives + (1 - truth).cumsum(2)
    jaccard = 1 - intersection / union
    change = jaccard.diff(dim=2, prepend=torch.zeros_like(jaccard[..., :1]))
    return seen.mean((errors.relu() * change).sum(2))


def combined_loss(output: Output, mask: Tensor) -> Tensor:
    """Return the weighted sum of the other five, with the weights of Shukla et al. 2023."""
    return torch.stack([weight * SURROGATES[name](output, mask) for name, weight in WEIGHTS.items()]).sum(0)


WEIGHTS: Final[Mapping[SurrogateName, float]] = {
    "structure": 0.21,
    "log_cosh_dice": 0.18,
    "bce_dice": 0.20,
    "exponential_logarithmic": 0.15,
    "lovasz_hinge": 0.26,
}

SURROGATES: Final[Mapping[SurrogateName, Callable[[Output, Tensor], Tensor]]] = {
    "log_cosh_dice": log_cosh_dice_loss,
    "bce_dice": bce_dice_loss,
    "exponential_logarithmic": exponential_logarithmic_loss,
    "structure": structure_loss,
    "lovasz_hinge": lovasz_hinge_loss,
    "combined": combined_loss,
}


def _dice(seen: OneVsRestLogits) -> Tensor:
    """Return the soft Dice of each class, (N, C) in (0, 1]."""
    p, t = seen.p.flatten(2), seen.truth.flatten(2)
    return (2 * (p * t).sum(2) + 1) / (p.sum(2) + t.sum(2) + 1)


def _bce(seen: OneVsRestLogits) -> Tensor:
    """Return -log of the truth's probability, (N, C, *S), 0 where ignored."""
    return -torch.where(seen.truth > 0, seen.log_p, seen.log_q) * seen.counts


def _pixel_mean(maps: Tensor, seen: OneVsRestLogits) -> Tensor:
    space = axes(maps, 2)
    return maps.sum(space) / seen.counts.sum(space).clamp(min=1)


def _structure(logits: Tensor, mask: Tensor) -> Tensor:
    seen = one_vs_rest(logits, mask)
    weight = (1 + 5 * (_box_mean(seen.truth) - seen.truth).abs()) * seen.counts
    p, t, space = seen.p, seen.truth, axes(seen.truth, 2)
    bce = (weight * _bce(seen)).sum(space) / weight.sum(space).clamp(min=1)
    both, either = (weight * p * t).sum(space), (weight * (p + t)).sum(space)
    return seen.mean(bce + 1 - (both + 1) / (either - both + 1))


def _box_mean(maps: Tensor) -> Tensor:
    """Return the mean of maps (N, C, *S) over a box of side 31 around each pixel, zeros beyond the border.

    Along an axis of volumes with one slice it has side 1.
    """
    size = maps.shape
    for axis in range(2, maps.ndim - 1):  # one axis after the other: 31 values each, not 31 to the third
        if size[axis] == 1 and len(size) > 4:
            continue
        columns = maps.flatten(axis + 1).flatten(1, axis - 1)
        maps = functional.avg_pool2d(columns, (31, 1), stride=1, padding=(15, 0)).view(size)
    rows = maps.flatten(1, -3)
    return functional.avg_pool2d(rows, (1, 31), stride=1, padding=(0, 15)).view(size)
