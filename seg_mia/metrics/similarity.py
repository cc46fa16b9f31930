"""Similarity of two images, one value per image."""

import torch
from torch import Tensor
from torch.nn import functional

from seg_mia.errors import InputError
from seg_mia.metrics.shapes import axes

WINDOW = 11
SIGMA = 1.5


def ssim(a: Tensor, b: Tensor, *, data_range: float = 1.0, where: Tensor | None = None) -> Tensor:
    """Return the structural similarity of images (N, C, H, W), (N,) in [-1, 1]; 1 for identical images.

    That of volumes (N, C, D, H, W) is the mean over their D slices.

    Wang et al. 2004, eq. 13: an 11 x 11 Gaussian window of sigma 1.5, K1 = 0.01, K2 = 0.03. Images are
    mirrored at the border. `data_range` is the range of the values. `where`, bool (N, *S), restricts the
    average to windows centred on its pixels; NaN if it has none. Raises InputError for images smaller than
    the window.
    """
    _check(a, b, where)
    if min(a.shape[-2:]) < WINDOW:
        raise InputError(
            f"SSIM needs images of at least its {WINDOW} x {WINDOW} window, got {tuple(a.shape)}; use larger "
            "images or `mean_absolute`"
        )
    x, y = _exact(a) / data_range, _exact(b) / data_range
    mean_x, mean_y = _blurred(x), _blurred(y)
    variances = _blurred(x * x) - mean_x**2 + _blurred(y * y) - mean_y**2
    covariance = _blurred(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + 0.01**2) / (mean_x**2 + mean_y**2 + 0.01**2)
    similarity = luminance * (2 * covariance + 0.03**2) / (variances + 0.03**2)
    return _mean(similarity, where).to(a.dtype)


def mean_absolute(a: Tensor, b: Tensor, *, where: Tensor | None = None) -> Tensor:
    """Return the mean absolute change from images a to b, (N, C, *S) to (N,), in units of the images.

    `where`, bool (N, *S), restricts the average to its pixels; NaN if it has none.
    """
    _check(a, b, where)
    return _mean((_exact(a) - _exact(b)).abs(), where).to(a.dtype)


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


def _mean(maps: Tensor, where: Tensor | None) -> Tensor:
    if where is None:
        return maps.mean(dim=axes(maps, 1))
    per_pixel = maps.mean(dim=1).masked_fill(~where, 0)
    return per_pixel.sum(dim=axes(where, 1)) / where.sum(dim=axes(where, 1))


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
