"""What attacks in a ball maximise on the true mask, or minimise on a target mask, one value per image.

An objective maps logits (N, K, *S), a mask (N, *S) with 255 where ignored, the attack's progress in [0, 1]
and whether the mask is a target to (N,). K = 1 is binary. Means are over the pixels that are not ignored; an
image without any has the value 0 and no gradient. The losses of `seg_mia.losses.LOSSES` are objectives, too.
"""

from collections.abc import Callable, Mapping
from typing import Final, Literal

import torch
from torch import Tensor

from seg_mia.losses import LOSSES, Loss, LossName, per_pixel_cross_entropy
from seg_mia.metrics.labels import IGNORE
from seg_mia.metrics.shapes import axes
from seg_mia.models.heads import class_logits, predicted, probabilities

Objective = Callable[[Tensor, Tensor, float, bool], Tensor]
ObjectiveName = Literal[
    LossName,
    "segpgd",
    "cospgd",
    "masked_cross_entropy",
    "balanced_cross_entropy",
    "tsallis",
    "margin",
    "jensen_shannon",
]

FIRST_ORDER: Final = -2.0
"""Order q of the Tsallis loss at the first step; it grows linearly to 1, where the loss is cross-entropy."""


def segpgd(logits: Tensor, target: Tensor, progress: float, targeted: bool) -> Tensor:
    """Return the cross-entropy, correct pixels weighted 1 - progress / 2, wrong ones progress / 2.

    Gu, Zhao, Tresp, Torr (SegPGD, ECCV 2022), eq. 4 and 7; the weights are swapped for a target mask.
    """
    share = progress / 2
    weight = torch.where(_moving(logits, target, targeted), 1 - share, share)
    return _mean(per_pixel_cross_entropy(logits, target) * weight, target)


def cospgd(logits: Tensor, target: Tensor, progress: float, targeted: bool) -> Tensor:  # noqa: ARG001
    """Return the cross-entropy, pixels weighted by the cosine of probabilities and one-hot mask.

    Agnihotri, Jung, Keuper (CosPGD, ICML 2024), eq. 6 and 7; one minus the cosine for a target mask. The
    weights are constants of the gradient.
    """
    p = probabilities(logits.detach().float())
    cosine = _of_class(p, target) / p.square().sum(1).sqrt()
    return _mean(per_pixel_cross_entropy(logits, target) * (1 - cosine if targeted else cosine), target)


def masked_cross_entropy(logits: Tensor, target: Tensor, progress: float, targeted: bool) -> Tensor:  # noqa: ARG001
    """Return the cross-entropy of pixels that are still correct; of a target, of those not yet reached.

    Croce, Singh, Hein (SEA, ECCV 2024), section 3.2.
    """
    return _mean(per_pixel_cross_entropy(logits, target) * _moving(logits, target, targeted), target)


def balanced_cross_entropy(logits: Tensor, target: Tensor, progress: float, targeted: bool) -> Tensor:  # noqa: ARG001
    """Return `masked_cross_entropy` with a pixel's weight divided by the number of pixels of its class."""
    weight = _moving(logits, target, targeted) * _balance(logits, target)
    return (per_pixel_cross_entropy(logits, target) * weight).sum(axes(target, 1))


def tsallis(logits: Tensor, target: Tensor, progress: float, targeted: bool) -> Tensor:  # noqa: ARG001
    """Return the mean of (1 - p^(1 - q)) / (1 - q) of the true class, q = -2 + 3 progress.

    The Tsallis cross-entropy; its gradient is p^(1 - q) times that of the cross-entropy, so pixels that are
    still correct come first. At q = 1 it is the cross-entropy.
    """
    power = (1 - FIRST_ORDER) * (1 - progress)
    surprise = per_pixel_cross_entropy(logits, target)
    return _mean(surprise if power == 0 else -torch.expm1(-power * surprise) / power, target)


def margin(logits: Tensor, target: Tensor, progress: float, targeted: bool) -> Tensor:  # noqa: ARG001
    """Return the mean of the other classes' best logit minus the mask's, at most 0; at least 0 for a target.

    Pixels beyond the decision boundary have no gradient. The pair of a single logit z differs by z.
    """
    signed = -pixel_margin(logits, target)
    return _mean(signed.clamp(min=0) if targeted else signed.clamp(max=0), target)


def jensen_shannon(logits: Tensor, target: Tensor, progress: float, targeted: bool) -> Tensor:  # noqa: ARG001
    """Return the mean Jensen-Shannon divergence of probabilities and one-hot mask, in [0, log 2].

    Of the true class's probability p alone: (p log p - (1 + p) log(1 + p)) / 2 + log 2.
    """
    log_p = -per_pixel_cross_entropy(logits, target)
    p = log_p.exp()
    return _mean((p * log_p - (1 + p) * torch.log1p(p)) / 2 + torch.log(p.new_tensor(2.0)), target)


def pixel_margin(logits: Tensor, target: Tensor) -> Tensor:
    """Return the mask's logit minus the other classes' best, (N, *S); 0 for ignored pixels.

    Negative where another class is predicted. One logit z is the pair (-z/2, z/2).
    """
    maps = class_logits(logits)
    ignored = target == IGNORE
    index = target.masked_fill(ignored, 0).unsqueeze(1)
    rivals = maps.scatter(1, index, -torch.inf).amax(1)
    return (maps.gather(1, index).squeeze(1) - rivals).masked_fill(ignored, 0)


def _stationary(loss: Loss) -> Objective:
    return lambda logits, target, progress, targeted: loss(logits, target)  # noqa: ARG005


OBJECTIVES: Final[Mapping[ObjectiveName, Objective]] = {
    **{name: _stationary(loss) for name, loss in LOSSES.items()},
    "segpgd": segpgd,
    "cospgd": cospgd,
    "masked_cross_entropy": masked_cross_entropy,
    "balanced_cross_entropy": balanced_cross_entropy,
    "tsallis": tsallis,
    "margin": margin,
    "jensen_shannon": jensen_shannon,
}


def comparable(name: ObjectiveName) -> Loss:
    """Return the loss that compares an attack's iterates: the objective, where it depends on the image alone.

    Otherwise the soft Dice loss: an objective over correct pixels falls to 0 as the attack succeeds, and one
    with a schedule changes with the step.
    """
    match name:
        case "segpgd" | "cospgd" | "masked_cross_entropy" | "balanced_cross_entropy" | "tsallis":
            return LOSSES["dice"]
        case _:
            return lambda logits, target: OBJECTIVES[name](logits, target, 1.0, False)


def _moving(logits: Tensor, target: Tensor, targeted: bool) -> Tensor:
    """Return the pixels that are yet to be changed, bool (N, *S)."""
    reached = predicted(logits.detach()) == target
    return ~reached if targeted else reached


def _balance(logits: Tensor, target: Tensor) -> Tensor:
    """Return the weight of each pixel, (N, *S): all classes of a mask weigh the same, in all 1."""
    ignored = target == IGNORE
    index = target.masked_fill(ignored, 0)
    flat = index.flatten(1)
    counts = logits.new_zeros(len(target), max(2, logits.shape[1]), dtype=torch.float32)
    counts.scatter_add_(1, flat, (~ignored).flatten(1).float())
    present = (counts > 0).sum(1, keepdim=True).clamp(min=1)
    return (1 / (counts * present)).gather(1, flat).view_as(target).masked_fill(ignored, 0)


def _of_class(maps: Tensor, target: Tensor) -> Tensor:
    """Return each pixel's value of its own class, (N, *S); of class 0 where ignored."""
    return maps.gather(1, target.masked_fill(target == IGNORE, 0).unsqueeze(1)).squeeze(1)


def _mean(maps: Tensor, target: Tensor) -> Tensor:
    """Return the mean over pixels that are not ignored, (N,)."""
    valid = target != IGNORE
    space = axes(target, 1)
    return maps.masked_fill(~valid, 0).sum(space) / valid.sum(space).clamp(min=1)
