"""The 2-D U-Nets that nnU-Net plans, with plain or residual encoder, under their published parameter names.

Written after Isensee et al. 2021 (Nature Methods) and 2024 (arXiv:2404.09556), with residual blocks of
ResNet-D (He et al. 2019, arXiv:1812.01187). Deployed output only: deep supervision is a matter of training.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from seg_mia.errors import InputError

Kind = Literal["plain", "residual"]
Pair = tuple[int, int]

NORMS: dict[str, type[nn.Module]] = {
    kind.__name__: kind for kind in (nn.InstanceNorm2d, nn.BatchNorm2d, nn.Identity)
}
ACTIVATIONS: dict[str, type[nn.Module]] = {
    kind.__name__: kind
    for kind in (nn.LeakyReLU, nn.ReLU, nn.PReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish, nn.Identity)
}
MOST_CHANNELS = 4096
MOST_STAGES = 12


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Plan of a U-Net.

    Attributes:
        kind: encoder of plain convolutions, or of residual blocks behind a stem.
        features: channels of each stage, the full resolution first.
        kernels: kernel size of each stage.
        strides: stride of the first convolution of each stage.
        blocks: convolutions or residual blocks of each stage of the encoder.
        decoder: convolutions of each stage of the decoder, the lowest resolution first.
        bias: whether convolutions have a bias.
        norm: class name of the normalisation, in `NORMS`.
        norm_settings: its numbers besides the channels.
        activation: class name of the activation, in `ACTIVATIONS`.
        activation_settings: its numbers.
    """

    kind: Kind
    features: tuple[int, ...]
    kernels: tuple[Pair, ...]
    strides: tuple[Pair, ...]
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
            plan = cls(
                kind=values["kind"],
                features=_counts(values["features"], MOST_CHANNELS),
                kernels=tuple(map(_pair, values["kernels"])),
                strides=tuple(map(_pair, values["strides"])),
                blocks=_counts(values["blocks"], 64),
                decoder=_counts(values["decoder"], 64),
                bias=bool(values.get("bias", True)),
                norm=values.get("norm", "InstanceNorm2d"),
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
            or self.norm not in NORMS
            or self.activation not in ACTIVATIONS
        ):
            raise InputError(
                f"a U-Net's plan must be plain or residual, with a norm of {', '.join(NORMS)} and an "
                "activation of "
                f"{', '.join(ACTIVATIONS)}, got {self.kind!r}, {self.norm!r} and {self.activation!r}"
            )


def _counts(values: Sequence[int], most: int) -> tuple[int, ...]:
    numbers = tuple(int(value) for value in values)
    if not all(1 <= number <= most for number in numbers):
        raise ValueError(f"numbers must lie in 1 to {most}, got {list(numbers)}")
    return numbers


def _pair(value: int | Sequence[int]) -> Pair:
    height, width = _counts((value, value) if isinstance(value, int) else value, 64)
    return height, width


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
        kernel: Pair,
        stride: Pair = (1, 1),
        *,
        bias: bool | None = None,
        linear: bool = False,
    ) -> None:
        super().__init__()
        padding = ((kernel[0] - 1) // 2, (kernel[1] - 1) // 2)
        has_bias = plan.bias if bias is None else bias
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=has_bias)
        self.norm = _norm(plan, outputs)
        self.nonlin = nn.Identity() if linear else activation(plan)

    def forward(self, x: Tensor) -> Tensor:
        """Return features (N, outputs, h, w)."""
        features: Tensor = self.nonlin(self.norm(self.conv(x)))
        return features


class Stack(nn.Module):
    """Several `ConvBlock`s, the first of them with a stride."""

    def __init__(
        self, plan: Architecture, count: int, inputs: int, outputs: int, kernel: Pair, stride: Pair = (1, 1)
    ) -> None:
        super().__init__()
        first = ConvBlock(plan, inputs, outputs, kernel, stride)
        self.convs = nn.Sequential(
            first, *(ConvBlock(plan, outputs, outputs, kernel) for _ in range(count - 1))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return features (N, outputs, h, w)."""
        features: Tensor = self.convs(x)
        return features


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut of average pooling and a 1x1 convolution, if needed (ResNet-D)."""

    def __init__(self, plan: Architecture, inputs: int, outputs: int, kernel: Pair, stride: Pair) -> None:
        super().__init__()
        self.conv1 = ConvBlock(plan, inputs, outputs, kernel, stride)
        self.conv2 = ConvBlock(plan, outputs, outputs, kernel, linear=True)
        self.nonlin2 = activation(plan)
        shortcut: list[nn.Module] = [nn.AvgPool2d(stride, stride)] if stride != (1, 1) else []
        if inputs != outputs:
            shortcut.append(ConvBlock(plan, inputs, outputs, (1, 1), bias=False, linear=True))
        self.skip = nn.Sequential(*shortcut)

    def forward(self, x: Tensor) -> Tensor:
        """Return features (N, outputs, h, w)."""
        features: Tensor = self.nonlin2(self.conv2(self.conv1(x)) + self.skip(x))
        return features


class Residuals(nn.Module):
    """Several `ResidualBlock`s, the first of them with a stride."""

    def __init__(
        self, plan: Architecture, count: int, inputs: int, outputs: int, kernel: Pair, stride: Pair
    ) -> None:
        super().__init__()
        first = ResidualBlock(plan, inputs, outputs, kernel, stride)
        further = (ResidualBlock(plan, outputs, outputs, kernel, (1, 1)) for _ in range(count - 1))
        self.blocks = nn.Sequential(first, *further)

    def forward(self, x: Tensor) -> Tensor:
        """Return features (N, outputs, h, w)."""
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
        for number, count in enumerate(plan.decoder, start=1):
            below, skip = plan.features[-number], plan.features[-number - 1]
            stride = plan.strides[-number]
            up.append(nn.ConvTranspose2d(below, skip, stride, stride, bias=plan.bias))
            stages.append(Stack(plan, count, 2 * skip, skip, plan.kernels[-number - 1]))
            outputs.append(nn.Conv2d(skip, classes, 1))
        self.stages, self.transpconvs = nn.ModuleList(stages), nn.ModuleList(up)
        self.seg_layers = nn.ModuleList(outputs)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return logits (N, classes, h, w) at full resolution."""
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
        """Return logits (N, classes, h, w) of normalised patches (N, channels, h, w)."""
        logits: Tensor = self.decoder(self.encoder(x))
        return logits


def _norm(plan: Architecture, channels: int) -> nn.Module:
    return NORMS[plan.norm](channels, **dict(plan.norm_settings))


def activation(plan: Architecture) -> nn.Module:
    """Return the activation of a plan, never in place, which gradients of attacks may not allow."""
    settings = {name: value for name, value in plan.activation_settings if name != "inplace"}
    return ACTIVATIONS[plan.activation](**settings)
