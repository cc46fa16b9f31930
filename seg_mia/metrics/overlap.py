"""Agreement of two class maps, one value per image.

Maps are int64 (N, *S), with at least two spatial axes, classes 0 .. classes - 1 and background 0. Where
`classes` is `LabelSets`, classes are sets of labels that may overlap, and each label is measured. Pixels
that are IGNORE in either map are excluded; an image with no other pixels has the value NaN. If there are
valid pixels, a mean over no class is 1: nothing present, and nothing predicted. All functions raise
InputError for maps incompatible with each other or with `classes`. Ratios have torch's default dtype.
`checked` maps hold valid classes for certain: no value is read, for which a GPU would wait.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from seg_mia.errors import InputError
from seg_mia.metrics.label_sets import LabelSets, label_masks, label_names
from seg_mia.metrics.labels import IGNORE, check_labels
from seg_mia.metrics.strips import strips


def confusion(pred: Tensor, true: Tensor, classes: int) -> Tensor:
    """Return pixel counts, int64 (N, classes, classes): rows are true classes, columns predicted ones."""
    _check(pred, true, classes)
    return _counted(pred, true, classes)


def _counted(pred: Tensor, true: Tensor, classes: int) -> Tensor:
    counts = [_confusion(p, t, classes) for p, t in strips(pred.ndim - 1, pred, true)]
    return torch.stack(counts).sum(dim=0)


def _confusion(pred: Tensor, true: Tensor, classes: int) -> Tensor:
    """Return pixel counts; `bincount` would read the largest cell first, for which a GPU waits."""
    cells = classes * classes
    cell = (true * classes + pred).masked_fill((true == IGNORE) | (pred == IGNORE), cells).flatten(1)
    counts = torch.zeros(len(pred), cells + 1, dtype=torch.int64, device=pred.device)
    return counts.scatter_add_(1, cell, torch.ones_like(cell))[:, :cells].view(-1, classes, classes)


def iou_per_class(pred: Tensor, true: Tensor, classes: int, *, checked: bool = False) -> Tensor:
    """Return intersection over union, (N, classes), (N, labels) of sets, in [0, 1]; NaN if in neither map."""
    return _iou(_parts(pred, true, classes, checked=checked))


def dice_per_class(pred: Tensor, true: Tensor, classes: int, *, checked: bool = False) -> Tensor:
    """Return 2 * intersection / (predicted + true), shaped as `iou_per_class`; NaN if in neither map."""
    return _dice(_parts(pred, true, classes, checked=checked))


def foreground_dice_per_class(pred: Tensor, true: Tensor, classes: int) -> Tensor:
    """Return the Dice of the foreground classes, (N, classes - 1), or of the labels of sets, (N, labels)."""
    return _foreground(dice_per_class(pred, true, classes), classes)


def foreground_iou_per_class(pred: Tensor, true: Tensor, classes: int) -> Tensor:
    """Return the IoU of the foreground classes, (N, classes - 1), or of the labels of sets, (N, labels)."""
    return _foreground(iou_per_class(pred, true, classes), classes)


def foreground_names(classes: int) -> tuple[str, ...]:
    """Return the name of each foreground class, `class1` and so on, or of each label of sets."""
    return label_names(classes) or tuple(f"class{number}" for number in range(1, classes))


def foreground_iou(pred: Tensor, true: Tensor, classes: int, *, checked: bool = False) -> Tensor:
    """Return the mean IoU of foreground classes, or labels, present in either map, (N,); 1 if none are."""
    return _mean_or_one(_foreground(iou_per_class(pred, true, classes, checked=checked), classes), pred, true)


def foreground_dice(pred: Tensor, true: Tensor, classes: int, *, checked: bool = False) -> Tensor:
    """Return the mean Dice of foreground classes, or labels, present in either map, (N,); 1 if none are."""
    return _mean_or_one(
        _foreground(dice_per_class(pred, true, classes, checked=checked), classes), pred, true
    )


def mean_iou(pred: Tensor, target: Tensor, classes: int, *, checked: bool = False) -> Tensor:
    """Return the mean IoU of the classes in the target, including background, (N,).

    The success measure of MedIS (Shukla et al. 2023): a class that is only in the prediction lowers the
    other classes' IoU but is not averaged over. Of label sets, the labels in the target and the pixels
    without a label.
    """
    parts = _parts(pred, target, classes, checked=checked)
    if isinstance(classes, LabelSets):
        empty, wanted = ((maps == 0).long().masked_fill(maps == IGNORE, IGNORE) for maps in (pred, target))
        unlabelled = _parts(empty, wanted, 2, checked=True)
        pairs = zip(unlabelled, parts, strict=True)
        parts = Parts(*(torch.cat((counts[:, 1:], of_labels), dim=1) for counts, of_labels in pairs))
    return _iou(parts).masked_fill(parts.true == 0, torch.nan).nanmean(dim=1)


def pixel_accuracy(pred: Tensor, true: Tensor, classes: int) -> Tensor:
    """Return the fraction of pixels predicted as their true class (their set of labels), (N,) in [0, 1]."""
    counts = confusion(pred, true, classes)
    return counts.diagonal(dim1=1, dim2=2).sum(dim=1) / counts.sum(dim=(1, 2))


class Parts(NamedTuple):
    """Pixel counts of each class or label, int64 (N, P): in both maps, in the true and in the predicted."""

    both: Tensor
    true: Tensor
    predicted: Tensor


def _parts(pred: Tensor, true: Tensor, classes: int, *, checked: bool = False) -> Parts:
    _check(pred, true, classes, labels=not checked)
    if isinstance(classes, LabelSets):
        labels = len(classes.names)
        of_strips = [_label_counts(p, t, labels) for p, t in strips(pred.ndim - 1, pred, true)]
        return Parts(*torch.stack(of_strips).sum(dim=0))
    counts = _counted(pred, true, classes)
    return Parts(counts.diagonal(dim1=1, dim2=2), counts.sum(dim=2), counts.sum(dim=1))


def _label_counts(pred: Tensor, true: Tensor, labels: int) -> Tensor:
    """Return the pixels of each label in both maps, in the true and in the predicted one, (3, N, labels)."""
    ignored = (pred == IGNORE) | (true == IGNORE)
    p, t = ((label_masks(maps.masked_fill(ignored, 0), labels) == 1).flatten(2) for maps in (pred, true))
    return torch.stack(((p & t).sum(dim=2), t.sum(dim=2), p.sum(dim=2)))


def _foreground(per_class: Tensor, classes: int) -> Tensor:
    return per_class if isinstance(classes, LabelSets) else per_class[:, 1:]


def _iou(parts: Parts) -> Tensor:
    return parts.both / (parts.true + parts.predicted - parts.both)


def _dice(parts: Parts) -> Tensor:
    return 2 * parts.both / (parts.true + parts.predicted)


def _mean_or_one(per_class: Tensor, pred: Tensor, true: Tensor) -> Tensor:
    uncounted = ((pred == IGNORE) | (true == IGNORE)).flatten(1).all(dim=1)
    return per_class.nanmean(dim=1).nan_to_num(nan=1.0).masked_fill(uncounted, torch.nan)


def _check(pred: Tensor, true: Tensor, classes: int, *, labels: bool = True) -> None:
    if not 2 <= classes <= IGNORE:
        raise InputError(
            f"classes must lie in 2 .. {IGNORE}, background included, got {classes}; a binary mask has 2"
        )
    if pred.shape != true.shape:
        raise InputError(
            f"predicted and true maps must have one shape (N, *S), got {tuple(pred.shape)} and "
            f"{tuple(true.shape)}; crop or resize the mask to the network's output"
        )
    for maps in (pred, true) if labels else ():
        check_labels(maps, classes)
