"""Agreement of two class maps, one value per image.

Maps are int64 (N, *S), with at least two spatial axes, classes 0 .. classes - 1 and background 0. Pixels
that are IGNORE in either map are excluded; an image with no other pixels has the value NaN. If there are
valid pixels, a mean over no class is 1: nothing present, and nothing predicted. All functions raise
InputError for maps incompatible with each other or with `classes`. Ratios have torch's default dtype.
"""

import torch
from torch import Tensor

from seg_mia.errors import InputError
from seg_mia.metrics.labels import IGNORE, check_labels
from seg_mia.metrics.shapes import per_image


def confusion(pred: Tensor, true: Tensor, classes: int) -> Tensor:
    """Return pixel counts, int64 (N, classes, classes): rows are true classes, columns predicted ones."""
    _check(pred, true, classes)
    n, cells = pred.shape[0], classes * classes
    first_cell = per_image(torch.arange(n, device=pred.device), pred) * cells
    cell = first_cell + true * classes + pred
    ignored = n * cells
    cell = cell.masked_fill((true == IGNORE) | (pred == IGNORE), ignored)
    return torch.bincount(cell.flatten(), minlength=ignored + 1)[:ignored].view(n, classes, classes)


def iou_per_class(pred: Tensor, true: Tensor, classes: int) -> Tensor:
    """Return intersection over union, (N, classes) in [0, 1]; NaN if in neither map."""
    return _iou(confusion(pred, true, classes))


def dice_per_class(pred: Tensor, true: Tensor, classes: int) -> Tensor:
    """Return 2 * intersection / (predicted + true), (N, classes) in [0, 1]; NaN if in neither map."""
    return _dice(confusion(pred, true, classes))


def foreground_iou(pred: Tensor, true: Tensor, classes: int) -> Tensor:
    """Return the mean IoU of the foreground classes present in either map, (N,); 1 if there are none."""
    counts = confusion(pred, true, classes)
    return _mean_or_one(_iou(counts)[:, 1:], counts)


def foreground_dice(pred: Tensor, true: Tensor, classes: int) -> Tensor:
    """Return the mean Dice of the foreground classes present in either map, (N,); 1 if there are none."""
    counts = confusion(pred, true, classes)
    return _mean_or_one(_dice(counts)[:, 1:], counts)


def mean_iou(pred: Tensor, target: Tensor, classes: int) -> Tensor:
    """Return the mean IoU of the classes in the target, including background, (N,).

    The success measure of MedIS (Shukla et al. 2023): a class that is only in the prediction lowers the
    other classes' IoU but is not averaged over.
    """
    counts = confusion(pred, target, classes)
    absent = counts.sum(dim=2) == 0
    return _iou(counts).masked_fill(absent, torch.nan).nanmean(dim=1)


def pixel_accuracy(pred: Tensor, true: Tensor, classes: int) -> Tensor:
    """Return the fraction of pixels predicted as their true class, (N,) in [0, 1]."""
    hits, in_truth, _ = _counts(confusion(pred, true, classes))
    return hits.sum(dim=1) / in_truth.sum(dim=1)


def _counts(confused: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return confused.diagonal(dim1=1, dim2=2), confused.sum(dim=2), confused.sum(dim=1)


def _iou(confused: Tensor) -> Tensor:
    hits, in_truth, in_pred = _counts(confused)
    return hits / (in_truth + in_pred - hits)


def _dice(confused: Tensor) -> Tensor:
    hits, in_truth, in_pred = _counts(confused)
    return 2 * hits / (in_truth + in_pred)


def _mean_or_one(per_class: Tensor, counts: Tensor) -> Tensor:
    uncounted = counts.sum(dim=(1, 2)) == 0
    return per_class.nanmean(dim=1).nan_to_num(nan=1.0).masked_fill(uncounted, torch.nan)


def _check(pred: Tensor, true: Tensor, classes: int) -> None:
    if not 2 <= classes <= IGNORE:
        raise InputError(
            f"classes must lie in 2 .. {IGNORE}, background included, got {classes}; a binary mask has 2"
        )
    if pred.shape != true.shape:
        raise InputError(
            f"predicted and true maps must have one shape (N, *S), got {tuple(pred.shape)} and "
            f"{tuple(true.shape)}; crop or resize the mask to the network's output"
        )
    check_labels(pred, classes)
    check_labels(true, classes)
