"""Axes of maps with any number of spatial ones, and values per image beside them."""

from torch import Tensor


def per_image(values: Tensor, like: Tensor) -> Tensor:
    """Return values (N,) as (N, 1, ..., 1), with as many axes as `like` (N, ...), so that they broadcast."""
    return values.view(-1, *[1] * (like.ndim - 1))


def axes(maps: Tensor, first: int) -> tuple[int, ...]:
    """Return the axes of maps from `first` on, for a reduction: 2 for those of space in (N, C, *S)."""
    return tuple(range(first, maps.ndim))
