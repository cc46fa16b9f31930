"""What an array holds: class probabilities, a foreground map, sigmoid channels or labels; and its axes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, assert_never

import numpy as np
from numpy.typing import NDArray

from seg_mia.errors import InputError
from seg_mia.metrics.labels import IGNORE
from seg_mia.models.released import LABEL

Released = Literal["probabilities", "foreground", "sigmoid", "labels"]
Order = Literal["xyz", "zyx"]
Array = NDArray[Any]
Floats = NDArray[np.floating[Any]]

LEAST = 1e-12
"""Probability that stands for 0 in maps of floats of 32 bits or more, which keeps losses finite."""
_NEGATIVE = 1e-6
_OFF = {"f2": 1e-2}
"""Tolerated deviation of a sum of probabilities from 1, by type; 1e-3 for others."""


@dataclass(frozen=True)
class Fit:
    """An array in the axes of a mask.

    Attributes:
        values: (C, *S) with class channels, or (*S) for one map.
        channels: whether there is a channel axis.
        reversed: whether the spatial axes were reversed.
    """

    values: Array
    channels: bool
    reversed: bool


def fits(
    values: Array, shape: tuple[int, ...], *, channel_axis: int | None, reverse: bool | None
) -> list[Fit]:
    """Return every reading of an array in a mask's axes; axes of length 1 are dropped.

    Args:
        values: any axes.
        shape: shape of the mask without axes of length 1.
        channel_axis: axis of class channels, if stated; first and last are tried otherwise.
        reverse: whether spatial axes are in the opposite order; None tries both.
    """
    candidates = list[tuple[Array, bool]]()
    if channel_axis is not None:
        if -values.ndim <= channel_axis < values.ndim:
            moved = np.moveaxis(values, channel_axis, 0)
            spatial = tuple(length for length in moved.shape[1:] if length != 1)
            candidates.append((moved.reshape(len(moved), *spatial), True))
    else:
        plain = np.squeeze(values)
        if plain.ndim == len(shape):
            candidates.append((plain, False))
        elif plain.ndim == len(shape) + 1:
            candidates += [(plain, True), (np.moveaxis(plain, -1, 0), True)]
    results = list[Fit]()
    for array, channels in candidates:
        space = array.shape[1:] if channels else array.shape
        if space == shape and reverse is not True:
            results.append(Fit(array, channels, reversed=False))
        if space == shape[::-1] and reverse is not False:
            axes = (0, *range(array.ndim - 1, 0, -1)) if channels else tuple(range(array.ndim))[::-1]
            results.append(Fit(array.transpose(axes), channels, reversed=True))
    return results


def kind_of(fit: Fit, classes: int) -> Released | None:
    """Return what an array holds, None if this array alone does not tell.

    As many channels as classes are probabilities, one fewer sigmoid channels. One map is a foreground's
    probability if a value lies between 0 and 1, or if whole numbers of two classes go beyond the class ids.
    Else it holds labels; a map of only 0 and 1 in floats, or of 0 and 255, may be either.

    Args:
        fit: the array.
        classes: number of classes, background included.
    """
    if fit.channels:
        return {classes: "probabilities", classes - 1: "sigmoid"}.get(len(fit.values))  # type: ignore[return-value]
    values = fit.values
    levels = set(np.unique(values[:1] if values.dtype.kind == "b" else values)[:1000].tolist())
    if values.dtype.kind == "f" and any(level != round(level) for level in levels):
        return "foreground"
    saturated = {0} if classes == 2 and values.dtype.kind != "b" else set[int]()
    saturated |= {1} if values.dtype.kind == "f" else {IGNORE}
    if saturated >= {0} and levels <= saturated:
        return None
    return "labels" if levels <= {*range(classes), IGNORE} or classes > 2 else "foreground"


def as_unit(values: Array) -> Floats:
    """Return probabilities as floats: whole numbers above 1 are divided by the largest of their type."""
    if values.dtype.kind == "f":
        return np.asarray(values)
    if values.dtype.kind == "b" or values.max() <= 1:
        return values.astype(np.float32)
    return values.astype(np.float32) / np.float32(np.iinfo(values.dtype).max)


def logits_of(fit: Fit, kind: Released, classes: int, where: str) -> Floats:
    """Return logits equivalent to released values, with channels or classes first.

    Args:
        fit: the array.
        kind: what it holds.
        classes: number of classes, background included.
        where: file, for messages.

    Returns:
        (classes, *S) for probabilities and labels of several classes; (1, *S) for a foreground map and labels
        of two classes; (classes - 1, *S) for sigmoid channels, each binary.

    Raises:
        InputError: NaN or infinity, values outside [0, 1], sums off 1, another number of channels, unknown
            labels.
    """
    _check_axes(fit, kind, classes, where)
    values = fit.values
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        broken = int(np.count_nonzero(~np.isfinite(values)))
        raise InputError(f"{where} must hold finite numbers, got {broken} NaN or infinite values; replace it")
    match kind:
        case "labels":
            return _of_labels(values, classes, where)
        case "probabilities":
            p = _probabilities(values, where)
            if (off := _sum_error(p)) > _tolerance(values):
                raise InputError(
                    f"{where} must hold probabilities that sum to 1 over {classes} channels, got sums up to "
                    f"{off:.3g} off; release the softmax, or state released sigmoid (no background)"
                )
            return np.ascontiguousarray(np.log(np.maximum(p, _least(values))))
        case "foreground" | "sigmoid":
            p = _probabilities(values, where)
            step = _step(values)
            p = np.clip(p, step, 1 - step)
            z = np.ascontiguousarray(np.log(p) - np.log1p(-p))
            return z[None] if kind == "foreground" else z
        case _:
            assert_never(kind)


def mask_of(values: Array, classes: int, threshold: int | None, where: str) -> NDArray[np.int64]:
    """Return class ids, int64 (*S), without axes of length 1.

    Args:
        values: numbers of a mask file.
        classes: number of classes, background included.
        threshold: values above it are class 1; None takes values as class ids.
        where: file, for messages.

    Raises:
        InputError: fewer than 2 or more than 4 axes, values that are not whole, an unknown class.
    """
    plain = np.squeeze(values)
    if plain.ndim not in {2, 3, 4}:
        raise InputError(f"{where} must be a mask of 2 or 3 axes, got shape {values.shape}; correct it")
    if threshold is not None:
        return np.ascontiguousarray(plain > threshold, dtype=np.int64)
    ids = np.rint(plain)
    if not np.isfinite(plain).all() or (ids != plain).any():
        raise InputError(f"{where} must hold class ids, whole numbers, got others; save it uninterpolated")
    levels = np.unique(ids).astype(np.int64).tolist()
    if unknown := [level for level in levels if not 0 <= level < classes and level != IGNORE]:
        raise InputError(
            f"{where} must hold class ids below {classes} or {IGNORE} (ignored), got {unknown[0]}; correct "
            "classes, or set threshold for a black-and-white mask"
        )
    return np.ascontiguousarray(ids, dtype=np.int64)


def region_masks(ids: NDArray[np.int64], regions: Sequence[Sequence[int]], where: str) -> NDArray[np.int64]:
    """Return the binary mask of each of several labels that may overlap, int64 (L, *S), 255 where ignored.

    Args:
        ids: class ids (*S), 255 where ignored.
        regions: the ids of each label.
        where: file, for messages.

    Raises:
        InputError: an id of no label.
    """
    known = {0, IGNORE}.union(*regions)
    if unknown := sorted(set(np.unique(ids).tolist()) - known):
        raise InputError(
            f"{where} must hold the ids of the regions, 0 and {IGNORE}, got {unknown[0]}; add it to a region"
        )
    masks = [np.where(ids == IGNORE, IGNORE, np.isin(ids, labels)) for labels in regions]
    return np.stack(masks).astype(np.int64)


def _check_axes(fit: Fit, kind: Released, classes: int, where: str) -> None:
    expected = {"probabilities": classes, "sigmoid": classes - 1}.get(kind)
    got = len(fit.values) if fit.channels else None
    if got != expected:
        needed = "one map without a channel axis" if expected is None else f"{expected} channels"
        raise InputError(
            f"{where} must be {needed}, as {kind} of {classes} classes, got "
            f"{'one map' if got is None else f'{got} channels'}; correct released or classes"
        )
    if kind == "foreground" and classes != 2:
        raise InputError(f"{where}: a foreground map is of 2 classes, got classes {classes}; correct it")


def _of_labels(values: Array, classes: int, where: str) -> Floats:
    """Return logits that give all but `LABEL` to each pixel's label; 0 and 255 alone are two classes."""
    labels = values.astype(np.float32)
    if classes == 2 and values.dtype.kind in "iu" and set(np.unique(values).tolist()) <= {0, IGNORE}:
        labels /= IGNORE
    ids = np.rint(labels)
    if (ids < 0).any() or (ids >= classes).any() or (np.abs(ids - labels) > 1e-3).any():
        raise InputError(
            f"{where} must hold labels, whole numbers of 0 to {classes - 1}, got {values.min():.4g} to "
            f"{values.max():.4g}; correct released or classes"
        )
    certain = np.float32(np.log((1 - LABEL) * (classes - 1) / LABEL))
    if classes == 2:
        return np.asarray((2 * ids[None] - 1) * certain, np.float32)
    return np.stack([np.where(ids == number, certain, np.float32(0)) for number in range(classes)])


def _probabilities(values: Array, where: str) -> Floats:
    p = as_unit(values)
    low, high = float(p.min()), float(p.max())
    if low < -_NEGATIVE or high > 1 + 1e-3:
        raise InputError(
            f"{where} must hold probabilities in [0, 1], got {low:.4g} to {high:.4g}; apply softmax or "
            "sigmoid to raw outputs first"
        )
    wide = p.astype(np.float32) if p.dtype.itemsize < 4 else p
    return np.clip(wide, 0, 1)


def _sum_error(p: Floats) -> float:
    """Return the largest deviation of the sums over channels from 1."""
    return float(np.abs(p.sum(axis=0, dtype=np.float64) - 1).max())


def _tolerance(values: Array) -> float:
    if values.dtype.kind in "iu" and values.max() > 1:
        return len(values) / float(np.iinfo(values.dtype).max)
    return _OFF.get(values.dtype.str[1:], 1e-3)


def _least(values: Array) -> float:
    """Return the probability that stands for 0: half of the smallest step of the type."""
    if values.dtype.kind == "f":
        return max(LEAST, float(np.finfo(values.dtype).smallest_subnormal) / 2)
    return LEAST if values.dtype.kind == "b" or values.max() <= 1 else _step(values)


def _step(values: Array) -> float:
    """Return half of the spacing of probabilities below 1, which stands for 0 and, from 1, for certainty."""
    if values.dtype.kind == "f":
        return max(float(np.finfo(values.dtype).epsneg) / 2, float(np.finfo(np.float32).epsneg))
    if values.dtype.kind == "b" or values.max() <= 1:
        return LABEL
    return 0.5 / float(np.iinfo(values.dtype).max)
