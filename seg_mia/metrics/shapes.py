"""Axes of maps with any number of spatial dimensions, and shapes of per-image values."""

from torch import Tensor


def per_image(values: Tensor, like: Tensor) -> Tensor:
    """Return values (N,) as (N, 1, ..., 1), with the number of axes of `like` (N, ...), for broadcasting."""
    return values.view(-1, *[1] * (like.ndim - 1))


def axes(maps: Tensor, first: int) -> tuple[int, ...]:
    """Return the axes of maps from `first` on, for a reduction: 2 for the spatial ones of (N, C, *S)."""
    return tuple(range(first, maps.ndim))
