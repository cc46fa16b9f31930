"""Values per image beside maps of any number of axes."""

from torch import Tensor


def per_image(values: Tensor, like: Tensor) -> Tensor:
    """Return values (N,) as (N, 1, ..., 1), with as many axes as `like` (N, ...), so that they broadcast."""
    return values.view(-1, *[1] * (like.ndim - 1))


def over_space(maps: Tensor) -> tuple[int, ...]:
    """Return the spatial axes of maps (N, C, *S), for a reduction over them."""
    return tuple(range(2, maps.ndim))
