"""Agreement of a network's predictions with those of changed copies of an image; no mask is needed.

A network is more consistent on what it was trained on. Labels suffice: only the most likely class of each
pixel counts. Without precedent for dense outputs; `benchmarks/fleet_attacks.py` measures it on fleets.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from torch import Tensor

from seg_mia.errors import InputError
from seg_mia.membership.fleet.arrays import Values
from seg_mia.membership.fleet.confidences import Array
from seg_mia.membership.fleet.regions import one_hot
from seg_mia.models.heads import class_count, predicted

AGREEMENTS: Final = ("mirror_agreement", "turn_agreement", "shift_agreement")
STEP: Final = 2
"""Pixels of a shift."""


@torch.no_grad()
def agreements(network: Callable[[Tensor], Tensor], images: Tensor, valid: Array | None = None) -> Values:
    """Return the agreement of each image's prediction with itself, in the order of `AGREEMENTS`, (N, 3).

    `label_agreement` with the prediction of the image flipped left to right, turned by a quarter in the plane
    of the last two axes, and shifted in it by 2 pixels, the mean over down and right, and up and left; each
    prediction is mapped back, and pixels that a shift moves out of the image do not count. Images are queried
    five times. A quarter turn is undefined where height and width differ.

    Args:
        network: maps images to logits (N, K, *S), without gradients.
        images: floats (N, C, *S), two or three spatial axes.
        valid: pixels that count, bool (N, *S); all if not given.

    Returns:
        float64, NaN where undefined.
    """
    plain = network(images)
    everything = torch.ones(len(plain), *plain.shape[2:], dtype=torch.bool)
    counted = torch.as_tensor(everything if valid is None else valid).to(plain.device)
    turned = np.full(len(images), np.nan)
    if images.shape[-1] == images.shape[-2]:
        turned = label_agreement(plain, network(images.rot90(1, (-2, -1))).rot90(-1, (-2, -1)), counted)
    return np.stack(
        [
            label_agreement(plain, network(images.flip(-1)).flip(-1), counted),
            turned,
            np.mean([_shifted(network, images, plain, counted, step) for step in (STEP, -STEP)], axis=0),
        ],
        axis=1,
    )


@torch.no_grad()
def label_agreement(logits: Array, other: Array, valid: Array | None = None) -> Values:
    """Return the Dice of two predictions, mean over the foreground classes in either, float64 (N,).

    NaN without foreground in both.

    Args:
        logits: floats (N, K, *S).
        other: logits for a changed copy of the images, mapped back, likewise.
        valid: pixels that count, bool (N, *S); all if not given.

    Raises:
        InputError: shapes that differ.
    """
    first, second = torch.as_tensor(logits), torch.as_tensor(other)
    if first.shape != second.shape:
        raise InputError(
            f"both outputs must have one shape, got {tuple(first.shape)} and {tuple(second.shape)}; map "
            "the output back"
        )
    classes, labels = class_count(first), predicted(first)
    counted = torch.as_tensor(labels >= 0 if valid is None else valid).to(labels.device)
    one, two = (one_hot(predicted(part), counted.unsqueeze(1), classes) for part in (first, second))
    sizes = one.sum(dim=2) + two.sum(dim=2)
    dice = 2 * (one * two).sum(dim=2) / sizes.clamp(min=1)
    mean = (dice * (sizes > 0)).sum(dim=1) / (sizes > 0).sum(dim=1)  # 0 / 0 is NaN
    return np.asarray(mean.cpu().numpy(), dtype=np.float64)


def _shifted(
    network: Callable[[Tensor], Tensor], images: Tensor, plain: Tensor, valid: Tensor, step: int
) -> Values:
    """Return the agreement with images moved down and right by a step, whose first pixels are repeated."""
    places = torch.arange(valid[0].numel(), device=valid.device).view(valid[0].shape)
    shown = _moved(_moved(places, step), -step) == places
    return label_agreement(plain, _moved(network(_moved(images, step)), -step), valid & shown)


def _moved(maps: Tensor, step: int) -> Tensor:
    """Return maps (..., h, w) moved down and right by a step; the edge is repeated."""
    rows, columns = (
        (torch.arange(side) - step).clamp(0, side - 1).to(maps.device) for side in maps.shape[-2:]
    )
    return maps[..., rows.unsqueeze(1), columns]
