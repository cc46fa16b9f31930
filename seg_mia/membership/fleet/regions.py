"""Signals of parts of an image, in float64, each higher for members; undefined where the part is absent.

A class that is neither in the mask nor in the prediction has no Dice, an image of one class no border: such
entries are NaN instead of a value that smoothing invents, and the caller leaves the sample out. Without
precedent; `benchmarks/fleet_attacks.py` measures them on fleets.
"""

import math
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from seg_mia.errors import InputError
from seg_mia.membership.fleet.arrays import Values
from seg_mia.membership.fleet.confidences import Array, image_logit, margins
from seg_mia.metrics.labels import IGNORE
from seg_mia.models.heads import class_count, predicted, probabilities

REGIONS: Final = ("image_logit", "foreground_margin", "border_margin", "worst_margin", "logit_present_dice")
BAND: Final = 3
"""Pixels on each side of a border between classes."""
WORST: Final = 0.05
"""Fraction of the pixels of lowest margin."""
_LEAST: Final = 1e-300
_LEAST_DICE: Final = 1e-6


@torch.no_grad()
def regions(logits: Array, masks: Array) -> Values:
    """Return the signals of each image in the order of `REGIONS`, float64 (N, 5), NaN where undefined.

    log p - log(1 - p) with p = exp(-L), L the mean cross-entropy (`image_logit`); the mean margin of the
    foreground, of a band of 3 pixels on each side of the borders between classes, and of the twentieth of
    pixels with the lowest margin; the logit of the mean soft Dice over the foreground classes in the mask or
    the prediction, clipped to 1e-6 and 1 - 1e-6. Ignored pixels are excluded from all of them.

    Args:
        logits: floats (N, K, *S), K = 1 for a single foreground class.
        masks: class ids (N, *S), 255 where ignored.

    Raises:
        InputError: errors of `seg_mia.membership.fleet.confidences.confidences`.
    """
    maps, valid = margins(logits, masks)
    scores, truth = torch.as_tensor(logits), torch.as_tensor(masks).long()
    band = borders(truth).numpy() & valid
    foreground = (truth > 0).numpy() & valid
    flat, counted = maps.reshape(len(maps), -1), valid.reshape(len(maps), -1)
    surprise = np.where(counted, np.logaddexp(0, -flat), 0.0).sum(axis=1) / counted.sum(axis=1)
    return np.stack(
        [
            image_logit(np.maximum(surprise, _LEAST)),
            _means(maps, foreground),
            _means(maps, band),
            np.array([_worst(row[inner]) for row, inner in zip(flat, counted, strict=True)]),
            present_dice(scores, truth),
        ],
        axis=1,
    )


def borders(mask: Tensor) -> Tensor:
    """Return the pixels within 3 of another class along every axis, bool (N, *S); ignored ones count not.

    Args:
        mask: class ids (N, *S), 255 where ignored, two or three spatial axes.
    """
    pool = functional.max_pool2d if mask.ndim == 3 else functional.max_pool3d
    ignored = mask == IGNORE
    high = mask.masked_fill(ignored, -1).double().unsqueeze(1)
    low = -mask.masked_fill(ignored, IGNORE).double().unsqueeze(1)
    size = 2 * BAND + 1
    highest, lowest = (pool(values, size, stride=1, padding=BAND).squeeze(1) for values in (high, low))
    return (highest > -lowest) & ~ignored


def present_dice(logits: Tensor, mask: Tensor) -> Values:
    """Return the logit of the mean soft Dice over the foreground classes that are present, (N,).

    Args:
        logits: floats (N, K, *S).
        mask: class ids (N, *S), 255 where ignored.

    Returns:
        NaN for an image without foreground in mask and prediction.
    """
    valid = (mask != IGNORE).unsqueeze(1)
    classes = class_count(logits)
    p = (probabilities(logits.double()) * valid).flatten(2)[:, 1:]
    truth, guess = (_one_hot(labels, valid, classes) for labels in (mask, predicted(logits)))
    present = (truth.sum(dim=2) + guess.sum(dim=2)) > 0
    dice = 2 * (p * truth).sum(dim=2) / (p.sum(dim=2) + truth.sum(dim=2)).clamp(min=_LEAST)
    mean = (dice * present).sum(dim=1) / present.sum(dim=1)  # 0 / 0 is NaN
    return np.asarray(mean.clamp(_LEAST_DICE, 1 - _LEAST_DICE).logit().cpu().numpy(), dtype=np.float64)


@torch.no_grad()
def mirror_agreement(logits: Array, flipped: Array, valid: Array | None = None) -> Values:
    """Return the Dice of two predictions, mean over the foreground classes in either, float64 (N,).

    Labels alone suffice: the prediction of an image and that of its mirror image, mirrored back, agree more
    on members. NaN without foreground in both.

    Args:
        logits: floats (N, K, *S).
        flipped: logits for the mirror images, mirrored back, likewise.
        valid: pixels that count, bool (N, *S); all if not given.

    Raises:
        InputError: shapes that differ.
    """
    first, second = torch.as_tensor(logits), torch.as_tensor(flipped)
    if first.shape != second.shape:
        raise InputError(
            f"both outputs must have one shape, got {tuple(first.shape)} and {tuple(second.shape)}; mirror "
            "the output back"
        )
    classes, labels = class_count(first), predicted(first)
    counted = torch.ones_like(labels, dtype=torch.bool) if valid is None else torch.as_tensor(valid)
    one, other = (_one_hot(predicted(part), counted.unsqueeze(1), classes) for part in (first, second))
    sizes = one.sum(dim=2) + other.sum(dim=2)
    dice = 2 * (one * other).sum(dim=2) / sizes.clamp(min=1)
    mean = (dice * (sizes > 0)).sum(dim=1) / (sizes > 0).sum(dim=1)
    return np.asarray(mean.cpu().numpy(), dtype=np.float64)


def _one_hot(labels: Tensor, valid: Tensor, classes: int) -> Tensor:
    """Return the foreground classes of labels as float64 (N, K - 1, pixels), 0 in ignored pixels."""
    maps = torch.stack([labels == number for number in range(1, classes)], dim=1)
    return (maps & valid).flatten(2).double()


def _means(maps: Values, part: NDArray[np.bool_]) -> Values:
    """Return the mean of each map (N, *S) over a part, bool (N, *S); NaN for none, (N,)."""
    axes = tuple(range(1, maps.ndim))
    counts = part.sum(axis=axes)
    sums = np.where(part, maps, 0.0).sum(axis=axes)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _worst(values: Values) -> float:
    count = max(1, math.ceil(WORST * len(values)))
    return float(np.partition(values, count - 1)[:count].mean())
