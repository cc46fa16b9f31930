"""Similarity of two images, one value per image."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from seg_mia.errors import InputError
from seg_mia.metrics.strips import strips

WINDOW = 11
SIGMA = 1.5
BLOCK = 1024
"""Sides of the blocks in which the similarity of larger images is computed; their sums make the mean."""


def ssim(a: Tensor, b: Tensor, *, data_range: float = 1.0, where: Tensor | None = None) -> Tensor:
    """Return the structural similarity of images (N, C, H, W), (N,) in [-1, 1]; 1 for identical images.

    That of volumes (N, C, D, H, W) is the mean over their D slices.

    Wang et al. 2004, eq. 13: an 11 x 11 Gaussian window of sigma 1.5, K1 = 0.01, K2 = 0.03. Images are
    mirrored at the border. `data_range` is the range of the values. `where`, bool (N, *S), restricts the
    average to windows centred on its pixels; NaN if it has none. Raises InputError for images smaller than
    the window (`has_similarity`).
    """
    _check(a, b, where)
    if not has_similarity(a.shape):
        raise InputError(
            f"SSIM needs images of at least its {WINDOW} x {WINDOW} window, got {tuple(a.shape)}; use larger "
            "images or `mean_absolute`"
        )
    sums = [
        _sum(
            _similarity(a[place], b[place], data_range)[inner], None if where is None else where[place][inner]
        )
        for place, inner in _blocks(a.shape[-2:])
    ]
    return _mean(sums).to(a.dtype)


def has_similarity(shape: Sequence[int]) -> bool:
    """Return whether `ssim` is defined for images of a shape: sides of at least its window, 11 pixels."""
    return min(shape[-2:]) >= WINDOW


def _blocks(size: torch.Size) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...]]]:
    """Yield parts of images that overlap by a window, and the part of each that no other one covers."""
    sides = [_spans(length) for length in size]
    for rows, columns in product(*sides):
        yield (..., rows[0], columns[0]), (..., rows[1], columns[1])


def _spans(length: int) -> list[tuple[slice, slice]]:
    """Return a block's positions along an axis, and which of them count: windows fit into the block there."""
    margin, spans = WINDOW // 2, []
    starts = range(0, length, BLOCK) if length > BLOCK + WINDOW else range(1)
    for start in starts:
        last = start + BLOCK + WINDOW > length  # a short rest joins the block before it
        end = length if last or len(starts) == 1 else start + BLOCK
        first = max(start - margin, 0)
        spans.append((slice(first, min(end + margin, length)), slice(start - first, end - first)))
        if last:
            break
    return spans


def _similarity(a: Tensor, b: Tensor, data_range: float) -> Tensor:
    """Return the map of Wang's equation 13, of the images' shape."""
    x, y = _exact(a) / data_range, _exact(b) / data_range
    mean_x, mean_y = _blurred(x), _blurred(y)
    variances = _blurred(x * x) - mean_x**2 + _blurred(y * y) - mean_y**2
    covariance = _blurred(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + 0.01**2) / (mean_x**2 + mean_y**2 + 0.01**2)
    return luminance * (2 * covariance + 0.03**2) / (variances + 0.03**2)


def mean_absolute(a: Tensor, b: Tensor, *, where: Tensor | None = None) -> Tensor:
    """Return the mean absolute change from images a to b, (N, C, *S) to (N,), in units of the images.

    `where`, bool (N, *S), restricts the average to its pixels; NaN if it has none.
    """
    _check(a, b, where)
    sums = [
        _sum((_exact(x) - _exact(y)).abs(), *within)
        for x, y, *within in strips(a.ndim - 2, a, b, *([] if where is None else [where]))
    ]
    return _mean(sums).to(a.dtype)


def _exact(images: Tensor) -> Tensor:
    # float32 loses SSIM's variances to cancellation: two equal white images would have 0.9991
    return images.to(torch.float32 if images.device.type == "mps" else torch.float64)


def _blurred(maps: Tensor) -> Tensor:
    """Smooth (..., H, W) with the window: two matrix products, twice as fast as convolutions."""
    down, across = (_blur_matrix(size, maps) for size in maps.shape[-2:])
    return down.T @ maps @ across


def _blur_matrix(size: int, like: Tensor) -> Tensor:
    offsets = torch.arange(WINDOW, dtype=like.dtype, device=like.device) - WINDOW // 2
    weights = (-(offsets**2) / (2 * SIGMA**2)).softmax(dim=0)
    units = torch.eye(size, dtype=like.dtype, device=like.device)
    mirrored = functional.pad(units, (WINDOW // 2, WINDOW // 2), mode="reflect")
    return mirrored.unfold(1, WINDOW, 1) @ weights


def _sum(maps: Tensor, where: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the sums (N,) over pixels of maps (N, C, *S), averaged over channels, and the pixels' number."""
    per_pixel = maps.mean(dim=1)
    if where is None:
        where = torch.ones_like(per_pixel, dtype=torch.bool)
    return per_pixel.masked_fill(~where, 0).flatten(1).sum(1), where.flatten(1).sum(1)


def _mean(sums: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    totals, counts = zip(*sums, strict=True)
    return torch.stack(totals).sum(0) / torch.stack(counts).sum(0)


def _check(a: Tensor, b: Tensor, where: Tensor | None) -> None:
    if a.ndim < 4 or a.shape != b.shape or not (a.is_floating_point() and b.is_floating_point()):
        raise InputError(
            f"images to compare must be floats of one shape (N, C, *S), got {a.dtype} of shape "
            f"{tuple(a.shape)} and {b.dtype} of shape {tuple(b.shape)}; "
            "resize or crop one of them, divide bytes by 255"
        )
    if where is not None and (where.dtype != torch.bool or where.shape != (a.shape[0], *a.shape[2:])):
        raise InputError(
            f"`where` must be bool of the images' (N, *S), got {where.dtype} of shape {tuple(where.shape)} "
            f"for images {tuple(a.shape)}; compare a mask with a class, as in mask == 1"
        )
