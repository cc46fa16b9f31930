"""Crops and flips of maps for a classifier."""

import torch
from torch import Tensor

from seg_mia.errors import InputError


def turned(maps: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Return maps (N, C, ..., h, w), each randomly flipped vertically, horizontally, both or neither."""
    flips = torch.rand(2, len(maps), *[1] * (maps.ndim - 1), generator=generator).to(maps.device) < 0.5
    maps = torch.where(flips[0], maps.flip(-2), maps)
    return torch.where(flips[1], maps.flip(-1), maps)


def cropped(maps: Tensor, size: int, generator: torch.Generator | None = None) -> Tensor:
    """Return a random square of each map, (N, C, ..., size, size); of volumes the same in all slices."""
    height, width = _room(maps, size)
    draws = torch.rand(2, len(maps), generator=generator)
    tops = (draws[0] * (height + 1)).long().tolist()
    lefts = (draws[1] * (width + 1)).long().tolist()
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
