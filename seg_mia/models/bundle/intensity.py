"""MONAI's changes of grey values and size before a network, under their names and with gradients.

Each maps one image (C, *S) in the bundle's grey values to another. Statistics are those of the image, and
gradients pass through them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from reprlib import repr as shortened
from typing import Any, Protocol, get_type_hints

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)
from torch import Tensor

from seg_mia.config.spec import fits
from seg_mia.errors import InputError

_MODES = {"area", "nearest", "nearest-exact", "bilinear", "trilinear", "bicubic"}


class ImageStep(Protocol):
    """A map of one image."""

    def __call__(self, image: Tensor) -> Tensor:
        """Return the image (C, *S), perhaps of another size."""


@dataclass(frozen=True)
class ScaleIntensityRange:
    """Linear map of [a_min, a_max] to [b_min, b_max], cut off there if `clip`."""

    a_min: float
    a_max: float
    b_min: float | None = None
    b_max: float | None = None
    clip: bool = False

    def __call__(self, image: Tensor) -> Tensor:
        """Return the mapped image."""
        if self.a_max == self.a_min:
            raise InputError(f"a_min and a_max must differ, got {self.a_min} twice; correct the bundle")
        image = (image - self.a_min) / (self.a_max - self.a_min)
        if self.b_min is not None and self.b_max is not None:
            image = image * (self.b_max - self.b_min) + self.b_min
        return _clipped(image, self.b_min, self.b_max) if self.clip else image


@dataclass(frozen=True)
class ScaleIntensity:
    """Linear map of an image's smallest and largest value to `minv` and `maxv`."""

    minv: float | None = 0.0
    maxv: float | None = 1.0
    factor: float | None = None
    channel_wise: bool = False

    def __call__(self, image: Tensor) -> Tensor:
        """Return the mapped image; a constant one becomes `minv` times itself, as in MONAI."""
        if self.minv is None and self.maxv is None:
            return image * (1 + (self.factor or 0.0))
        return _by_channel(self._scaled, image, each=self.channel_wise)

    def _scaled(self, image: Tensor) -> Tensor:
        low, high = image.amin(), image.amax()
        if low == high:
            return image if self.minv is None else image * self.minv
        scaled = (image - low) / (high - low)
        if self.minv is None or self.maxv is None:
            return scaled
        return scaled * (self.maxv - self.minv) + self.minv


@dataclass(frozen=True)
class NormalizeIntensity:
    """Subtraction of `subtrahend` and division by `divisor`, of the image's mean and deviation if not given.

    With `nonzero`, values of exactly 0 are kept and left out of the statistics.
    """

    subtrahend: float | Sequence[float] | None = None
    divisor: float | Sequence[float] | None = None
    nonzero: bool = False
    channel_wise: bool = False

    def __call__(self, image: Tensor) -> Tensor:
        """Return the normalised image."""
        if not self.channel_wise:
            return self._normalised(image, _given(self.subtrahend, image), _given(self.divisor, image))
        sides = [_each(value, len(image)) for value in (self.subtrahend, self.divisor)]
        return torch.stack([self._normalised(*channel) for channel in zip(image, *sides, strict=True)])

    def _normalised(
        self, image: Tensor, subtrahend: Tensor | float | None, divisor: Tensor | float | None
    ) -> Tensor:
        counted = image != 0 if self.nonzero else torch.ones_like(image, dtype=torch.bool)
        values = image[counted]
        if not len(values):
            return image
        mean = values.mean() if subtrahend is None else subtrahend
        deviation = values.std(unbiased=False) if divisor is None else divisor
        deviation = torch.as_tensor(deviation).to(image)
        deviation = torch.where(deviation == 0, torch.ones_like(deviation), deviation)
        return torch.where(counted, (image - mean) / deviation, image)


@dataclass(frozen=True)
class ScaleIntensityRangePercentiles:
    """Linear map of two of an image's percentiles to [b_min, b_max]."""

    lower: float
    upper: float
    b_min: float | None
    b_max: float | None
    clip: bool = False
    relative: bool = False
    channel_wise: bool = False

    def __call__(self, image: Tensor) -> Tensor:
        """Return the mapped image."""
        return _by_channel(self._scaled, image, each=self.channel_wise)

    def _scaled(self, image: Tensor) -> Tensor:
        low, high = (_percentile(image, percent) for percent in (self.lower, self.upper))
        first, last = self.b_min, self.b_max
        if self.relative and first is not None and last is not None:
            first, last = (first + (last - first) * percent / 100 for percent in (self.lower, self.upper))
        if low == high:
            return image - low + (first or 0.0)
        scaled = (image - low) / (high - low)
        if first is not None and last is not None:
            scaled = scaled * (last - first) + first
        return _clipped(scaled, first, last) if self.clip else scaled


@dataclass(frozen=True)
class Resize:
    """Interpolation to `spatial_size`, in the order of the network's axes."""

    spatial_size: Sequence[int] | int
    mode: str = "area"
    align_corners: bool | None = None
    size_mode: str = "all"

    def __call__(self, image: Tensor) -> Tensor:
        """Return the interpolated image."""
        whole = tuple(image.shape[1:])
        sides = self.spatial_size if isinstance(self.spatial_size, Sequence) else (self.spatial_size,)
        if len(sides) != len(whole) or self.mode not in _MODES or self.size_mode != "all":
            raise InputError(
                f"spatial_size must have {len(whole)} lengths, mode be one of {', '.join(sorted(_MODES))}, "
                f"and size_mode all, got {list(sides)}, {self.mode} and {self.size_mode}; resize the data "
                "instead"
            )
        size = tuple(side if side > 0 else length for side, length in zip(sides, whole, strict=True))
        if size == whole:
            return image
        linear = {2: "bilinear", 3: "trilinear"}[len(whole)]
        mode = linear if self.mode in {"bilinear", "trilinear"} else self.mode
        corners = self.align_corners if mode in {linear, "bicubic"} else None
        return F.interpolate(image[None], size=size, mode=mode, align_corners=corners)[0]


STEPS: Mapping[str, type] = {
    kind.__name__: kind
    for kind in (
        ScaleIntensityRange, ScaleIntensity, NormalizeIntensity, ScaleIntensityRangePercentiles, Resize,
    )
}  # fmt: skip
"""Transforms of MONAI that are done here, by name."""
NAME = "transform"
"""Key of a step's name beside its arguments."""


def step_of(settings: Mapping[str, Any]) -> ImageStep:
    """Return the step of plain settings: its `transform`, and MONAI's arguments.

    Raises:
        InputError: an unknown name, or an argument that MONAI's transform has and this one has not, or of
            another type.
    """
    name = settings.get(NAME)
    kind = STEPS.get(str(name))
    if kind is None:
        raise InputError(f"transform must be one of {', '.join(STEPS)}, got {name!r}; correct it")
    known = [field.name for field in fields(kind)]
    arguments = {key: value for key, value in settings.items() if key != NAME}
    if unknown := [key for key in arguments if key not in known]:
        raise InputError(f"{name} takes {', '.join(known)}, got {unknown[0]!r}; it is not supported")
    declared = get_type_hints(kind)
    for key, value in arguments.items():
        if not fits(value, declared[key]):
            kind_of_value = getattr(declared[key], "__name__", str(declared[key]))
            raise InputError(f"{key} of {name} must be a {kind_of_value}, got {shortened(value)}; correct it")
    try:
        made: ImageStep = kind(**arguments)
    except TypeError as error:
        raise InputError(f"{name} needs other arguments: {error}; correct the bundle") from None
    return made


def _clipped(image: Tensor, low: float | None, high: float | None) -> Tensor:
    return image if low is None and high is None else image.clamp(low, high)


def _by_channel(scale: ImageStep, image: Tensor, *, each: bool) -> Tensor:
    return torch.stack([scale(channel) for channel in image]) if each else scale(image)


def _given(value: float | Sequence[float] | None, image: Tensor) -> Tensor | None:
    """Return a stated number, or numbers by channel, that can be subtracted from an image."""
    if value is None:
        return None
    tensor = torch.as_tensor(value, dtype=image.dtype, device=image.device)
    return tensor.reshape(-1, *[1] * (image.ndim - 1)) if tensor.ndim else tensor


def _each(value: float | Sequence[float] | None, channels: int) -> Sequence[float | None]:
    if value is None:
        return [None] * channels
    values = list(value) if isinstance(value, Sequence) else [value] * channels
    if len(values) != channels:
        raise InputError(f"subtrahend and divisor must have {channels} values, got {len(values)}; correct it")
    return values


def _percentile(image: Tensor, percent: float) -> Tensor:
    """Return a percentile by linear interpolation between ranks, for any number of values."""
    ranked = image.flatten().sort().values
    place = percent / 100 * (len(ranked) - 1)
    below = int(place)
    above = min(below + 1, len(ranked) - 1)
    return ranked[below] + (ranked[above] - ranked[below]) * (place - below)
