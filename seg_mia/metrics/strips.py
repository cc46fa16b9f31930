"""Sums over the pixels of large images, strip by strip, without further maps of the whole image."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

LARGEST = 2**20
"""Pixels of one image in a strip, at most, unless a single row has more; smaller images are one strip."""


def strips(axes: int, *maps: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield the parts of maps (N, ..., *S) along their first spatial axis, top first, as views.

    Args:
        axes: number of spatial axes, the last ones of every map.
        maps: maps of equal spatial size.
    """
    length, *others = maps[0].shape[-axes:]
    rows = max(1, LARGEST // max(1, torch.Size(others).numel()))
    for start in range(0, length, rows):
        count = min(rows, length - start)
        yield tuple(values.narrow(-axes, start, count) for values in maps)


def summed(
    function: Callable[[Tensor, Tensor], tuple[Tensor, ...]], logits: Tensor, mask: Tensor
) -> tuple[Tensor, ...]:
    """Return the sums over strips of what a function computes from logits (N, K, *S) and a mask (N, *S).

    Gradients are exact; where they are asked for, a strip is computed again in the backward pass.

    Args:
        function: returns sums over the pixels that it is given, such as (N,) or (N, K).
        logits: floats (N, K, *S).
        mask: class ids (N, *S).
    """
    parts = list(strips(mask.ndim - 1, logits, mask))
    if len(parts) == 1:
        return function(logits, mask)
    again = torch.is_grad_enabled() and logits.requires_grad
    sums: list[Tensor] = []
    for part, target in parts:
        values = checkpoint(function, part, target, use_reentrant=False) if again else function(part, target)
        sums = [value + total for value, total in zip(values, sums, strict=True)] if sums else list(values)
    return tuple(sums)
