"""The U-Nets that nnU-Net plans, plain or with residual encoder, under their published parameter names.

Written after Isensee et al. 2021 (Nature Methods) and 2024 (arXiv:2404.09556), with residual blocks of
ResNet-D (He et al. 2019, arXiv:1812.01187). Deployed output only: deep supervision is a matter of training.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple, Self

import torch
from torch import Tensor, nn

from seg_mia.errors import InputError

Kind = Literal["plain", "residual"]


def named_types(*kinds: type[nn.Module]) -> dict[str, type[nn.Module]]:
    """Return classes by their names."""
    return {kind.__name__: kind for kind in kinds}


Sides = tuple[int, ...]
"""A number for each spatial axis."""


class Layers(NamedTuple):
    """Layers of a number of spatial axes."""

    convolution: type[nn.Conv2d | nn.Conv3d]
    transposed: type[nn.ConvTranspose2d | nn.ConvTranspose3d]
    pooling: type[nn.AvgPool2d | nn.AvgPool3d]
    norms: dict[str, type[nn.Module]]


LAYERS = {
    2: Layers(
        nn.Conv2d,
        nn.ConvTranspose2d,
        nn.AvgPool2d,
        named_types(nn.InstanceNorm2d, nn.BatchNorm2d, nn.Identity),
    ),
    3: Layers(
        nn.Conv3d,
        nn.ConvTranspose3d,
        nn.AvgPool3d,
        named_types(nn.InstanceNorm3d, nn.BatchNorm3d, nn.Identity),
    ),
}
"""Layers by the number of spatial axes."""
ACTIVATIONS = named_types(nn.LeakyReLU, nn.ReLU, nn.PReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish, nn.Identity)
MOST_CHANNELS = 4096
MOST_STAGES = 12


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Plan of a U-Net.

    Attributes:
        kind: encoder of plain convolutions, or of residual blocks behind a stem.
        dimensions: number of spatial axes, 2 or 3.
        features: channels of each stage, the full resolution first.
        kernels: kernel size of each stage.
        strides: stride of the first convolution of each stage.
        blocks: convolutions or residual blocks of each stage of the encoder.
        decoder: convolutions of each stage of the decoder, the lowest resolution first.
        bias: whether convolutions have a bias.
        norm: class name of the normalisation, in `LAYERS`; instance normalisation if not given.
        norm_settings: its numbers besides the channels.
        activation: class name of the activation, in `ACTIVATIONS`.
        activation_settings: its numbers.
    """

    kind: Kind
    dimensions: int = 2
    features: tuple[int, ...]
    kernels: tuple[Sides, ...]
    strides: tuple[Sides, ...]
    blocks: tuple[int, ...]
    decoder: tuple[int, ...]
    bias: bool = True
    norm: str = "InstanceNorm2d"
    norm_settings: tuple[tuple[str, float | bool], ...] = ()
    activation: str = "LeakyReLU"
    activation_settings: tuple[tuple[str, float | bool], ...] = ()

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Return an architecture from plain values; raise InputError for invalid ones."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(values.keys() - known):
            raise InputError(f"a U-Net's plan has {', '.join(sorted(known))}, got {unknown[0]}; leave it out")
        try:
            dimensions = int(values.get("dimensions", 2))
            plan = cls(
                kind=values["kind"],
                dimensions=dimensions,
                features=_counts(values["features"], MOST_CHANNELS),
                kernels=tuple(_sides(value, dimensions) for value in values["kernels"]),
                strides=tuple(_sides(value, dimensions) for value in values["strides"]),
                blocks=_counts(values["blocks"], 64),
                decoder=_counts(values["decoder"], 64),
                bias=bool(values.get("bias", True)),
                norm=values.get("norm", f"InstanceNorm{dimensions}d"),
                norm_settings=_numbers(values.get("norm_settings", {})),
                activation=values.get("activation", "LeakyReLU"),
                activation_settings=_numbers(values.get("activation_settings", {})),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"a U-Net's plan is incomplete or invalid: {error!r}; correct it") from None
        plan._check()
        return plan

    def _check(self) -> None:
        stages = len(self.features)
        counts = (len(self.kernels), len(self.strides), len(self.blocks), len(self.decoder) + 1)
        if not 2 <= stages <= MOST_STAGES or set(counts) != {stages}:
            raise InputError(
                f"a U-Net's plan must describe 2 to {MOST_STAGES} stages, got {stages} features, "
                f"{counts[0]} kernels, {counts[1]} strides, {counts[2]} blocks and {counts[3] - 1} decoder "
                "stages; correct it"
            )
        if (
            self.kind not in {"plain", "residual"}
            or self.dimensions not in LAYERS
            or self.norm not in self.layers.norms
            or self.activation not in ACTIVATIONS
        ):
            norms = LAYERS.get(self.dimensions, LAYERS[2]).norms
            raise InputError(
                "a U-Net's plan must be plain or residual, of 2 or 3 dimensions, with a norm of "
                f"{', '.join(norms)} and an activation of {', '.join(ACTIVATIONS)}, got {self.kind!r}, "
                f"{self.dimensions}, {self.norm!r} and {self.activation!r}; correct it"
            )

    @property
    def layers(self) -> Layers:
        """Layers of its number of spatial axes."""
        return LAYERS[self.dimensions]


def _counts(values: Sequence[int], most: int) -> tuple[int, ...]:
    numbers = tuple(int(value) for value in values)
    if not all(1 <= number <= most for number in numbers):
        raise ValueError(f"numbers must lie in 1 to {most}, got {list(numbers)}")
    return numbers


def _sides(value: int | Sequence[int], dimensions: int) -> Sides:
    sides = _counts([value] * dimensions if isinstance(value, int) else value, 64)
    if len(sides) != dimensions:
        raise ValueError(f"kernels and strides must have {dimensions} numbers, got {list(sides)}")
    return sides


def _numbers(values: Mapping[str, Any]) -> tuple[tuple[str, float | bool], ...]:
    return tuple(
        (name, value if isinstance(value, bool) else float(value)) for name, value in sorted(values.items())
    )


class ConvBlock(nn.Module):
    """Convolution, normalisation and, unless `linear`, activation."""

    def __init__(
        self,
        plan: Architecture,
        inputs: int,
        outputs: int,
        kernel: Sides,
        stride: Sides | int = 1,
        *,
        bias: bool | None = None,
        linear: bool = False,
    ) -> None:
        super().__init__()
        padding = tuple((side - 1) // 2 for side in kernel)
        has_bias = plan.bias if bias is None else bias
        convolution: Any = plan.layers.convolution
        self.conv = convolution(inputs, outputs, kernel, stride, padding, bias=has_bias)
        self.norm = _norm(plan, outputs)
        self.nonlin = nn.Identity() if linear else activation(plan)

    def forward(self, x: Tensor) -> Tensor:
        """Return features (N, outputs, *s)."""
        features: Tensor = self.nonlin(self.norm(self.conv(x)))
        return features


class Stack(nn.Module):
    """Several `ConvBlock`s, the first of them with a stride."""

    def __init__(
        self,
        plan: Architecture,
        count: int,
        inputs: int,
        outputs: int,
        kernel: Sides,
        stride: Sides | int = 1,
    ) -> None:
        super().__init__()
        first = ConvBlock(plan, inputs, outputs, kernel, stride)
        self.convs = nn.Sequential(
            first, *(ConvBlock(plan, outputs, outputs, kernel) for _ in range(count - 1))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return features (N, outputs, *s)."""
        features: Tensor = self.convs(x)
        return features


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut of average pooling and a convolution of 1, if needed (ResNet-D)."""

    def __init__(self, plan: Architecture, inputs: int, outputs: int, kernel: Sides, stride: Sides) -> None:
        super().__init__()
        self.conv1 = ConvBlock(plan, inputs, outputs, kernel, stride)
        self.conv2 = ConvBlock(plan, outputs, outputs, kernel, linear=True)
        self.nonlin2 = activation(plan)
        pooling: Any = plan.layers.pooling
        shortcut: list[nn.Module] = [pooling(stride, stride)] if max(stride) > 1 else []
        if inputs != outputs:
            single = (1,) * plan.dimensions
            shortcut.append(ConvBlock(plan, inputs, outputs, single, bias=False, linear=True))
        self.skip = nn.Sequential(*shortcut)

    def forward(self, x: Tensor) -> Tensor:
        """Return features (N, outputs, *s)."""
        features: Tensor = self.nonlin2(self.conv2(self.conv1(x)) + self.skip(x))
        return features


class Residuals(nn.Module):
    """Several `ResidualBlock`s, the first of them with a stride."""

    def __init__(
        self, plan: Architecture, count: int, inputs: int, outputs: int, kernel: Sides, stride: Sides
    ) -> None:
        super().__init__()
        first, single = ResidualBlock(plan, inputs, outputs, kernel, stride), (1,) * plan.dimensions
        further = (ResidualBlock(plan, outputs, outputs, kernel, single) for _ in range(count - 1))
        self.blocks = nn.Sequential(first, *further)

    def forward(self, x: Tensor) -> Tensor:
        """Return features (N, outputs, *s)."""
        features: Tensor = self.blocks(x)
        return features


class Encoder(nn.Module):
    """Stages of falling resolution."""

    def __init__(self, plan: Architecture, channels: int) -> None:
        super().__init__()
        residual = plan.kind == "residual"
        if residual:
            self.stem = Stack(plan, 1, channels, plan.features[0], plan.kernels[0])
        inputs, stages = plan.features[0] if residual else channels, list[nn.Module]()
        for stage in zip(plan.blocks, plan.features, plan.kernels, plan.strides, strict=True):
            count, outputs, kernel, stride = stage
            block = (
                Residuals(plan, count, inputs, outputs, kernel, stride)
                if residual
                else nn.Sequential(Stack(plan, count, inputs, outputs, kernel, stride))
            )
            stages.append(block)
            inputs = outputs
        self.stages = nn.Sequential(*stages)
        self.residual = residual

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the features of each stage, the full resolution first."""
        x = self.stem(x) if self.residual else x
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class Decoder(nn.Module):
    """Stages of rising resolution, joined with those of the encoder."""

    def __init__(self, plan: Architecture, classes: int) -> None:
        super().__init__()
        stages, up, outputs = list[nn.Module](), list[nn.Module](), list[nn.Module]()
        transposed: Any = plan.layers.transposed
        convolution: Any = plan.layers.convolution
        for number, count in enumerate(plan.decoder, start=1):
            below, skip = plan.features[-number], plan.features[-number - 1]
            stride = plan.strides[-number]
            up.append(transposed(below, skip, stride, stride, bias=plan.bias))
            stages.append(Stack(plan, count, 2 * skip, skip, plan.kernels[-number - 1]))
            outputs.append(convolution(skip, classes, 1))
        self.stages, self.transpconvs = nn.ModuleList(stages), nn.ModuleList(up)
        self.seg_layers = nn.ModuleList(outputs)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return logits (N, classes, *s) at full resolution."""
        x = features[-1]
        for number, (up, stage) in enumerate(zip(self.transpconvs, self.stages, strict=True), start=2):
            x = stage(torch.cat((up(x), features[-number]), dim=1))
        logits: Tensor = self.seg_layers[-1](x)
        return logits


class UNet(nn.Module):
    """U-Net of a plan.

    Args:
        plan: its architecture.
        channels: of the images.
        classes: of the logits.
    """

    def __init__(self, plan: Architecture, channels: int, classes: int) -> None:
        super().__init__()
        self.encoder = Encoder(plan, channels)
        self.decoder = Decoder(plan, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, classes, *s) of normalised patches (N, channels, *s)."""
        logits: Tensor = self.decoder(self.encoder(x))
        return logits


def _norm(plan: Architecture, channels: int) -> nn.Module:
    return plan.layers.norms[plan.norm](channels, **dict(plan.norm_settings))


def activation(plan: Architecture) -> nn.Module:
    """Return the activation of a plan, never in place, which gradients of attacks may not allow."""
    settings = {name: value for name, value in plan.activation_settings if name != "inplace"}
    return ACTIVATIONS[plan.activation](**settings)
