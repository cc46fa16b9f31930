"""Segmentation losses from logits (N, K, *S) and masks (N, *S), one value per image, shape (N,).

K = 1 is binary: the logit z is equivalent to the pair (-z/2, z/2). Pixels marked IGNORE are excluded. An
image with no other pixels has loss 0 and no gradient: its loss is undefined and must be excluded from means.
Everything is computed from log-probabilities, which preserves the gradient of a confidently wrong pixel
that `sigmoid` and `softmax` would round to zero. Half precision is computed and returned in float32. All
functions raise InputError for incompatible logits and masks.
"""

from collections.abc import Callable, Mapping
from typing import Final, Literal

from torch import Tensor

from seg_mia.losses.basic import (
    cross_entropy_loss,
    dice_cross_entropy_loss,
    dice_loss,
    per_pixel_cross_entropy,
)
from seg_mia.losses.labels import label_dice_bce_loss, label_dice_loss
from seg_mia.losses.surrogate import (
    SURROGATES,
    SurrogateName,
    bce_dice_loss,
    combined_loss,
    exponential_logarithmic_loss,
    log_cosh_dice_loss,
    lovasz_hinge_loss,
    structure_loss,
)

__all__ = [
    "LOSSES",
    "OF_LABEL_SETS",
    "SURROGATES",
    "Loss",
    "LossName",
    "SurrogateName",
    "bce_dice_loss",
    "combined_loss",
    "cross_entropy_loss",
    "dice_cross_entropy_loss",
    "dice_loss",
    "exponential_logarithmic_loss",
    "label_dice_bce_loss",
    "label_dice_loss",
    "log_cosh_dice_loss",
    "lovasz_hinge_loss",
    "per_pixel_cross_entropy",
    "structure_loss",
]

Loss = Callable[[Tensor, Tensor], Tensor]
LossName = Literal[
    "dice",
    "cross_entropy",
    "dice_cross_entropy",
    "log_cosh_dice",
    "bce_dice",
    "exponential_logarithmic",
    "structure",
    "lovasz_hinge",
    "combined",
    "label_dice",
    "label_dice_bce",
]
OF_LABEL_SETS: Final[tuple[LossName, ...]] = ("label_dice_bce", "cross_entropy", "label_dice")
"""Losses for labels that may overlap; the others compare classes that exclude each other."""

LOSSES: Final[Mapping[LossName, Loss]] = {
    "dice": dice_loss,
    "cross_entropy": cross_entropy_loss,
    "dice_cross_entropy": dice_cross_entropy_loss,
    "log_cosh_dice": log_cosh_dice_loss,
    "bce_dice": bce_dice_loss,
    "exponential_logarithmic": exponential_logarithmic_loss,
    "structure": structure_loss,
    "lovasz_hinge": lovasz_hinge_loss,
    "combined": combined_loss,
    "label_dice": label_dice_loss,
    "label_dice_bce": label_dice_bce_loss,
}
