"""Preprocessing of nnU-Net on one image, differentiable: crop to non-zero, and normalisation."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, assert_never, get_args

import torch
from scipy import ndimage
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
        """Return a normalised channel (*S).

        Args:
            channel: values as in the file.
            region: non-zero region with its holes, bool (*S).
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


def nonzero_region(channels: Iterable[Tensor], zero: float, *, filled: bool) -> Tensor:
    """Return where any channel (*S) of an image, in the values of its file, is not 0, bool (*S).

    Args:
        channels: channels, read once.
        zero: smallest magnitude that is not 0. Files hold whole grey levels, and a value below half of one
            would be saved as 0.
        filled: whether holes belong to the region; no hole changes its box.
    """
    region: Tensor | None = None
    for channel in channels:
        bright = channel.detach().abs() >= zero
        region = bright if region is None else region.logical_or_(bright)
    assert region is not None  # at least one channel
    if not filled or bool(region.all()):
        return region
    return torch.from_numpy(ndimage.binary_fill_holes(region.cpu().numpy())).to(region.device)


def bounding_box(region: Tensor) -> tuple[slice, ...]:
    """Return the box around a region (*S), a slice of each axis; of an empty one, the whole image."""
    if not bool(region.any()):
        return tuple(slice(0, length) for length in region.shape)
    box = list[slice]()
    for axis in range(region.ndim):
        others = tuple(number for number in range(region.ndim) if number != axis)
        places = torch.nonzero(region.any(dim=others))[:, 0]
        box.append(slice(int(places[0]), int(places[-1]) + 1))
    return tuple(box)
