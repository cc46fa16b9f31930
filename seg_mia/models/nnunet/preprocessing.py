"""Preprocessing of nnU-Net on one image, differentiable: crop to non-zero, normalisation, resampling."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, Self, assert_never, get_args

import numpy as np
import torch
from scipy.ndimage import binary_fill_holes, zoom
from torch import Tensor

from seg_mia.errors import InputError

Scheme = Literal[
    "ZScoreNormalization",
    "CTNormalization",
    "NoNormalization",
    "RescaleTo01Normalization",
    "RGBTo01Normalization",
]
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
OF_CT = ("mean", "std", "percentile_00_5", "percentile_99_5")
_LEAST = 1e-8


@dataclass(frozen=True, kw_only=True)
class Normalisation:
    """Normalisation of one channel.

    Attributes:
        scheme: name of nnU-Net's class.
        masked: z-scores of the non-zero region alone, which leave the rest as it is.
        mean: of the foreground of the training set; for `CTNormalization`, as the following.
        std: its standard deviation.
        low: its percentile 0.5, the lower limit of values.
        high: its percentile 99.5, the upper limit.
    """

    scheme: Scheme
    masked: bool = False
    mean: float = 0.0
    std: float = 1.0
    low: float = 0.0
    high: float = 0.0

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Return a normalisation from plain values; raise InputError for invalid ones."""
        names = ("mean", "std", "low", "high")
        unknown = sorted(values.keys() - {"scheme", "masked", *names})
        if values.get("scheme") not in SCHEMES or unknown:
            raise InputError(
                f"a channel's normalisation must be one of {', '.join(SCHEMES)} with {', '.join(names)}, got "
                f"{', '.join([repr(values.get('scheme')), *unknown])}; audit the saved predictions instead: "
                "audit --predictions"
            )
        numbers = {name: float(values[name]) for name in names if name in values}
        return cls(scheme=values["scheme"], masked=bool(values.get("masked", False)), **numbers)

    def __call__(self, channel: Tensor, region: Tensor) -> Tensor:
        """Return a normalised channel (H, W).

        Args:
            channel: values as in the file.
            region: non-zero region with its holes, bool (H, W).
        """
        match self.scheme:
            case "ZScoreNormalization":
                chosen = channel[region] if self.masked else channel
                scaled = (channel - chosen.mean()) / chosen.std(unbiased=False).clamp(min=_LEAST)
                return torch.where(region, scaled, channel) if self.masked else scaled
            case "CTNormalization":
                return (channel.clamp(self.low, self.high) - self.mean) / max(self.std, _LEAST)
            case "NoNormalization":
                return channel
            case "RescaleTo01Normalization":
                shifted = channel - channel.min()
                return shifted / shifted.max().clamp(min=_LEAST)
            case "RGBTo01Normalization":
                return channel / 255
            case _:
                assert_never(self.scheme)


def nonzero_region(image: Tensor) -> Tensor:
    """Return where any channel of an image (C, H, W) in grey levels is not 0, with holes filled, bool (H, W).

    Files hold whole grey levels: a value below half of one would be saved as 0.
    """
    filled = binary_fill_holes((image.detach() >= 0.5).any(dim=0).cpu().numpy())
    return torch.from_numpy(filled).to(image.device)


def bounding_box(region: Tensor) -> tuple[slice, slice]:
    """Return rows and columns of the box around a region (H, W); of an empty one, the whole image."""
    if not bool(region.any()):
        return slice(0, region.shape[0]), slice(0, region.shape[1])
    rows, columns = (torch.nonzero(region.any(dim=axis))[:, 0] for axis in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def normalised(image: Tensor, region: Tensor, schemes: Sequence[Normalisation]) -> Tensor:
    """Return a normalised image (C, H, W), channel by channel."""
    return torch.stack([scheme(channel, region) for scheme, channel in zip(schemes, image, strict=True)])


def resampled(planes: Tensor, size: tuple[int, int], order: Literal[1, 3]) -> Tensor:
    """Return planes (C, H, W) at another size by splines, limited to each plane's own range.

    Splines of a regular grid are linear maps of rows and columns, which keeps gradients.

    Args:
        planes: images or logits.
        size: height and width.
        order: degree of the splines.
    """
    if tuple(planes.shape[1:]) == size:
        return planes
    rows, columns = (
        spline_matrix(old, new, order).to(planes) for old, new in zip(planes.shape[1:], size, strict=True)
    )
    values = rows @ planes @ columns.T
    return values.clamp(planes.amin(dim=(1, 2), keepdim=True), planes.amax(dim=(1, 2), keepdim=True))


@lru_cache(maxsize=64)
def spline_matrix(old: int, new: int, order: int) -> Tensor:
    """Return the matrix (new, old) that resamples a line by splines, pixels taken as areas."""
    columns = [zoom(row, new / old, order=order, mode="nearest", grid_mode=True) for row in np.eye(old)]
    return torch.from_numpy(np.stack(columns, axis=1)).float()
