"""Signals of parts of an image, in float64, each higher for members; undefined where the part is absent.

A class that is neither in the mask nor in the prediction has no Dice, an image of one class no border: such
entries are NaN instead of a value that smoothing invents, and the caller leaves the sample out. Without
precedent; `benchmarks/fleet_attacks.py` measures them on fleets.
"""

import math
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from seg_mia.membership.fleet.arrays import Values
from seg_mia.membership.fleet.confidences import MOST_MARGIN, Array, image_logit, margins
from seg_mia.membership.fleet.vectors import cell_sums
from seg_mia.metrics.labels import IGNORE
from seg_mia.models.heads import class_count, class_logits, predicted, probabilities

REGIONS: Final = (
    "image_logit",
    "foreground_margin",
    "border_margin",
    "worst_margin",
    "logit_present_dice",
    "worst_patches",
    "worst_lesion",
    "balanced_margin",
    "logit_gap",
)
BAND: Final = 3
"""Pixels on each side of a border between classes."""
WORST: Final = 0.05
"""Fraction of the pixels of lowest margin."""
PATCHES: Final = 8
"""Patches along each side."""
WORST_PATCHES: Final = 4
"""Number of patches of highest cross-entropy."""
_LEAST: Final = 1e-300
_LEAST_DICE: Final = 1e-6


@torch.no_grad()
def regions(logits: Array, masks: Array) -> Values:
    """Return the signals of each image in the order of `REGIONS`, float64 (N, 9), NaN where undefined.

    log p - log(1 - p) with p = exp(-L), L the mean cross-entropy (`image_logit`); the mean margin of the
    foreground, of a band of 3 pixels on each side of the borders between classes, and of the twentieth of
    pixels with the lowest margin; the logit of the mean soft Dice over the foreground classes in the mask or
    the prediction, clipped to 1e-6 and 1 - 1e-6; minus the log of the mean cross-entropy of the four worst
    patches (`worst_patches`); the lowest mean margin of a lesion, a connected component of a foreground class
    (pixels that share a side); the mean over the mask's classes, background included, of the mean margin;
    and, without the classes of the mask, the mean difference of the two highest logits (`logit_gap`).
    Ignored pixels are excluded from all of them.

    Args:
        logits: floats (N, K, *S), K = 1 for a single foreground class.
        masks: class ids (N, *S), 255 where ignored.

    Raises:
        InputError: errors of `seg_mia.membership.fleet.confidences.confidences`.
    """
    maps, valid = margins(logits, masks)
    scores, truth = torch.as_tensor(logits), torch.as_tensor(masks).long()
    labels = np.where(valid, truth.cpu().numpy(), IGNORE)
    flat, counted = maps.reshape(len(maps), -1), valid.reshape(len(maps), -1)
    surprise = np.where(valid, np.logaddexp(0, -maps), 0.0)
    mean_surprise = surprise.reshape(len(maps), -1).sum(axis=1) / counted.sum(axis=1)
    return np.stack(
        [
            image_logit(np.maximum(mean_surprise, _LEAST)),
            _means(maps, (labels > 0) & valid),
            _means(maps, borders(truth).cpu().numpy() & valid),
            np.array([_worst(row[inner]) for row, inner in zip(flat, counted, strict=True)]),
            present_dice(scores, truth),
            -np.log(np.maximum(worst_patches(surprise, valid), _LEAST)),
            np.array([_worst_lesion(row, ids) for row, ids in zip(maps, labels, strict=True)]),
            np.array([_balanced(row, ids) for row, ids in zip(maps, labels, strict=True)]),
            logit_gap(scores, valid),
        ],
        axis=1,
    )


@torch.no_grad()
def logit_gap(logits: Array, valid: Array | None = None) -> Values:
    """Return the mean difference of each image's two highest logits, each at most 20, float64 (N,).

    It needs no mask. A single logit z has the difference |z|. NaN without a valid pixel.

    Args:
        logits: floats (N, K, *S).
        valid: pixels that count, bool (N, *S); all if not given.
    """
    highest = class_logits(torch.as_tensor(logits)).double().topk(2, dim=1).values
    gap = (highest[:, 0] - highest[:, 1]).clamp(max=MOST_MARGIN).cpu().numpy()
    return _means(
        gap, np.ones(gap.shape, np.bool_) if valid is None else torch.as_tensor(valid).cpu().numpy()
    )


def worst_patches(maps: Values, valid: NDArray[np.bool_]) -> Values:
    """Return the mean over the four patches of highest mean, (N,), fewer if fewer have a valid pixel.

    A patch is an eighth of the side along every axis, a pixel of a shorter one. NaN without a valid pixel.

    Args:
        maps: one number per pixel, such as the cross-entropy, (N, *S).
        valid: pixels that count, bool (N, *S).
    """
    sums, counts = (cell_sums(array, PATCHES) for array in (np.where(valid, maps, 0.0), valid.astype(float)))
    means = np.where(counts > 0, sums / np.maximum(counts, 1), -np.inf)
    highest = -np.sort(-means, axis=1)[:, :WORST_PATCHES]
    return _means(highest, np.isfinite(highest))


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
    truth, guess = (one_hot(labels, valid, classes) for labels in (mask, predicted(logits)))
    present = (truth.sum(dim=2) + guess.sum(dim=2)) > 0
    dice = 2 * (p * truth).sum(dim=2) / (p.sum(dim=2) + truth.sum(dim=2)).clamp(min=_LEAST)
    mean = (dice * present).sum(dim=1) / present.sum(dim=1)  # 0 / 0 is NaN
    return np.asarray(mean.clamp(_LEAST_DICE, 1 - _LEAST_DICE).logit().cpu().numpy(), dtype=np.float64)


def one_hot(labels: Tensor, valid: Tensor, classes: int) -> Tensor:
    """Return the foreground classes of labels (N, *S) as float64 (N, K - 1, pixels), 0 in ignored pixels.

    Args:
        labels: class ids (N, *S).
        valid: pixels that count, bool (N, 1, *S).
        classes: number of classes K, the background included.
    """
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


def _worst_lesion(margin: Values, labels: NDArray[np.integer[Any]]) -> float:
    """Return the lowest mean margin of a connected component of a foreground class, NaN without any."""
    lowest = math.nan
    for number in _classes(labels):
        if number > 0:
            lesions, count = ndimage.label(labels == number)
            means = ndimage.mean(margin, lesions, np.arange(1, count + 1))
            lowest = float(np.nanmin([lowest, *means]))
    return lowest


def _balanced(margin: Values, labels: NDArray[np.integer[Any]]) -> float:
    """Return the mean over the classes in a mask of the class's mean margin."""
    return float(np.mean([margin[labels == number].mean() for number in _classes(labels)]))


def _classes(labels: NDArray[np.integer[Any]]) -> list[int]:
    return [int(number) for number in np.unique(labels) if number != IGNORE]
