"""Crops and flips of maps for a classifier."""

import torch
from torch import Tensor

from seg_mia.errors import InputError


def turned(maps: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Return maps (N, C, ..., h, w), each randomly flipped vertically, horizontally, both or neither."""
    flips = torch.rand(2, len(maps), *[1] * (maps.ndim - 1), generator=generator).to(maps.device) < 0.5
    maps = torch.where(flips[0], maps.flip(-2), maps)
    return torch.where(flips[1], maps.flip(-1), maps)


def cropped(
    maps: Tensor, size: int, generator: torch.Generator | None = None, *, real: Tensor | None = None
) -> Tensor:
    """Return a random square of each map, (N, C, ..., size, size); of volumes the same in all slices.

    Args:
        maps: maps (N, C, ..., h, w).
        size: side of a square.
        generator: source of the draws.
        real: which voxels are not padding, bool (N, ..., h, w): a square lies within the box that they fill,
            or contains it.
    """
    _room(maps, size)
    draws = torch.rand(2, len(maps), generator=generator)
    tops, lefts = (_drawn(draws[axis], maps, size, real, axis - 2) for axis in (0, 1))
    return torch.stack(
        [sample[..., y : y + size, x : x + size] for sample, y, x in zip(maps, tops, lefts, strict=True)]
    )


def patches(maps: Tensor, size: int) -> Tensor:
    """Return squares that cover each map and overlap by about half, (N, P, C, ..., size, size)."""
    height, width = _room(maps, size)
    squares = [
        maps[..., y : y + size, x : x + size] for y in _starts(height, size) for x in _starts(width, size)
    ]
    return torch.stack(squares, dim=1)


def _drawn(draws: Tensor, maps: Tensor, size: int, real: Tensor | None, axis: int) -> list[int]:
    """Return the first position of each map's square along an axis, of draws (N,) in [0, 1)."""
    length = maps.shape[axis]
    first, last = torch.zeros(len(maps)), torch.full((len(maps),), float(length))
    if real is not None:
        filled = real.movedim(axis, 1).flatten(2).any(2).cpu()
        some = filled.any(1)
        first = torch.where(some, filled.float().argmax(1), 0)
        last = torch.where(some, length - filled.flip(1).float().argmax(1), length)
    ends = (first, last - size)
    low = torch.minimum(*ends).clamp(0, length - size)
    high = torch.maximum(*ends).clamp(0, length - size)
    positions: list[int] = (low + (draws * (high - low + 1)).floor()).long().tolist()
    return positions


def _room(maps: Tensor, size: int) -> tuple[int, int]:
    height, width = maps.shape[-2] - size, maps.shape[-1] - size
    if height < 0 or width < 0:
        raise InputError(
            f"patch must fit into the maps of {maps.shape[-2]}x{maps.shape[-1]}, got {size}; choose a "
            "smaller one"
        )
    return height, width


def _starts(room: int, size: int) -> list[int]:
    count = -(-2 * room // size) + 1
    return [round(room * step / max(count - 1, 1)) for step in range(count)]
