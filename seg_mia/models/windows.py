"""Positions and weights of the overlapping windows in which nnU-Net and MONAI predict an image.

Both are functions of lengths alone, for any number of spatial axes. Sources: the documented behaviour of
`nnUNetPredictor` (nnU-Net v2; Isensee et al., Nature Methods 2021) and of `SlidingWindowInferer` (MONAI 1).
"""

import itertools
import math
from collections.abc import Sequence
from typing import Literal, assert_never

import torch
from torch import Tensor

Layout = Literal["nnunet", "monai"]
WindowWeights = Literal["constant", "gaussian"]
SIGMA = 1 / 8
"""Standard deviation of the Gaussian, as a fraction of the window's length."""
_NNUNET_MAXIMUM = 10.0
_TRUNCATION = 4.0
"""Standard deviations at which nnU-Net's Gaussian ends."""
_MONAI_LEAST = 1e-3


def window_starts(
    image: Sequence[int], patch: Sequence[int], overlap: float, layout: Layout
) -> list[tuple[int, ...]]:
    """Return the first position of every window in an image at least as large as the patch, in row order.

    "nnunet" spreads as few windows as keep the overlap evenly from edge to edge, rounding half to even;
    "monai" places them every `int(patch * (1 - overlap))` positions, and shifts the last into the image.

    Args:
        image: lengths of the image's spatial axes.
        patch: lengths of the windows.
        overlap: of neighbouring windows, as a fraction of the patch, in [0, 1).
        layout: rule of placement.
    """
    starts_by_axis = [
        _starts(length, side, overlap, layout) for length, side in zip(image, patch, strict=True)
    ]
    return list(itertools.product(*starts_by_axis))


def _starts(length: int, side: int, overlap: float, layout: Layout) -> list[int]:
    last = length - side
    match layout:
        case "nnunet":
            step_fraction = round(1 - overlap, 12)  # nnU-Net states it: 1 - 0.7 must be its 0.3
            intervals = math.ceil(last / (side * step_fraction))
            return [round(last / intervals * number) for number in range(intervals + 1)] if intervals else [0]
        case "monai":
            step = max(int(side * (1 - overlap)), 1)
            return [*range(0, last, step), last]
        case _:
            assert_never(layout)


def window_weights(patch: Sequence[int], weights: WindowWeights, layout: Layout) -> Tensor:
    """Return the weights (*patch) of a window's answers, positive float32 on the CPU.

    Gaussians have standard deviation `SIGMA * length`. nnU-Net's is centred on position length // 2, ends at
    4 standard deviations, where its least weight continues, and is rounded to half precision with maximum 10;
    MONAI's is centred between the middle positions, with least weight 0.001.

    Args:
        patch: lengths of the windows.
        weights: "constant" is 1 everywhere.
        layout: whose Gaussian.
    """
    match weights, layout:
        case "constant", _:
            return torch.ones(tuple(patch))
        case "gaussian", "nnunet":
            full = _product([_gaussian(length, length // 2, _TRUNCATION) for length in patch])
            # Half precision decides which weights vanish, and are replaced by the least of the others.
            half = (full * (_NNUNET_MAXIMUM / full.max())).half().float()
            return torch.where(half > 0, half, half[half > 0].min())
        case "gaussian", "monai":
            full = _product([_gaussian(length, (length - 1) / 2, math.inf) for length in patch])
            return full.float().clamp(min=max(float(full.min()), _MONAI_LEAST))
        case _:
            raise AssertionError(weights, layout)


def _gaussian(length: int, centre: float, truncation: float) -> Tensor:
    """Return exp(-d^2 / (2 sigma^2)) of the distances d from the centre, 0 beyond the truncation."""
    sigma = SIGMA * length
    distances = torch.arange(length, dtype=torch.float64) - centre
    values = (-(distances**2) / (2 * sigma**2)).exp()
    if math.isinf(truncation):
        return values
    return torch.where(distances.abs() <= int(truncation * sigma + 0.5), values, 0)


def _product(factors: Sequence[Tensor]) -> Tensor:
    """Return the outer product of one vector for each axis."""
    full = torch.ones(())
    for factor in factors:
        full = full[..., None] * factor
    return full
