"""Differentiable replacements of layers without useful gradients: exact forward, smooth backward.

Backward pass differentiable approximation (Athalye, Carlini, Wagner, ICML 2018, section 4.1): thresholding,
quantisation or filtering of the input makes a network appear robust to gradient-based attacks.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from seg_mia.errors import InputError


class StandIn(ABC):
    """Differentiable approximation of a layer for the backward pass."""

    @abstractmethod
    def smooth(self, x: Tensor, exact: Tensor) -> Tensor:
        """Return a differentiable function of `x` with the shape of the layer's `exact` output."""


@dataclass(frozen=True)
class Identity(StandIn):
    """Replacement for quantisation, rounding, JPEG and other near-identity layers."""

    def smooth(self, x: Tensor, exact: Tensor) -> Tensor:
        """Return the input; raises InputError if the layer changes its shape."""
        if x.shape != exact.shape:
            raise InputError(
                f"the stand-in Identity needs a layer that keeps the shape, got {tuple(x.shape)} to "
                f"{tuple(exact.shape)}; choose Argmax, or write a StandIn for the layer"
            )
        return x


@dataclass(frozen=True)
class Threshold(StandIn):
    """Replacement for a hard threshold: low + (high - low) sigmoid(sharpness (x - at)).

    Args:
        at: threshold.
        sharpness: slope of the sigmoid per input unit; it rises within about 4 / sharpness on either side.
        low: output of the layer below the threshold.
        high: output of the layer above the threshold.
    """

    at: float = 0.0
    sharpness: float = 1.0
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.sharpness < float("inf"):
            raise InputError(f"sharpness must be above 0 and finite, got {self.sharpness}")

    def smooth(self, x: Tensor, exact: Tensor) -> Tensor:  # noqa: ARG002
        """Return the sigmoid."""
        return self.low + (self.high - self.low) * torch.sigmoid(self.sharpness * (x - self.at))


@dataclass(frozen=True)
class Mean(StandIn):
    """Replacement for a median filter: the mean over a window.

    Args:
        size: side of the window in pixels, odd.
    """

    size: int = 3

    def __post_init__(self) -> None:
        if self.size < 1 or self.size % 2 == 0:
            raise InputError(f"size must be odd and at least 1, got {self.size}")

    def smooth(self, x: Tensor, exact: Tensor) -> Tensor:  # noqa: ARG002
        """Return the filtered maps (N, C, H, W)."""
        return functional.avg_pool2d(x, self.size, stride=1, padding=self.size // 2, count_include_pad=False)


@dataclass(frozen=True)
class Argmax(StandIn):
    """Replacement for an argmax over classes: softmax for one-hot output, else the expected index.

    Args:
        temperature: divisor of the input.
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise InputError(f"temperature must be above 0 and finite, got {self.temperature}")

    def smooth(self, x: Tensor, exact: Tensor) -> Tensor:
        """Return (N, K, ...) probabilities, or (N, ...) or (N, 1, ...) expected indices."""
        p = (x / self.temperature).softmax(1)
        if exact.shape == x.shape:
            return p
        index = torch.arange(x.shape[1], dtype=x.dtype, device=x.device).view(-1, *[1] * (x.ndim - 2))
        return (p * index).sum(1, keepdim=exact.ndim == x.ndim)


def replace_layers(model: nn.Module, replaced: Mapping[type[nn.Module], StandIn]) -> nn.Module:
    """Return a copy of `model` with equal outputs but other gradients; `model` does not change.

    The copy shares parameters and buffers with `model`. A function call such as `torch.round` in a `forward`
    is replaced together with its layer.

    Args:
        model: any network.
        replaced: replacements by layer class, including subclasses. Integer outputs become floats.

    Raises:
        InputError: the model has no layer of a given class.
    """
    for kind in replaced:
        if not any(isinstance(layer, kind) for layer in model.modules()):
            names = sorted({type(layer).__qualname__ for layer in model.modules()})
            raise InputError(
                f"{type(model).__name__} must have a {kind.__qualname__} to replace and has none; its layers "
                f"are {', '.join(names)}"
            )
    shared = (*model.parameters(), *model.buffers())
    with torch.inference_mode(False):  # a copy made there would not be differentiable
        copied = copy.deepcopy(model, {id(tensor): tensor for tensor in shared})
    return _replaced(copied, replaced)


def _replaced(module: nn.Module, replaced: Mapping[type[nn.Module], StandIn]) -> nn.Module:
    for kind, stand_in in replaced.items():
        if isinstance(module, kind):
            return _StoodIn(module, stand_in)
    for name, child in module._modules.items():  # named_children omits repeated modules
        if child is not None:
            module._modules[name] = _replaced(child, replaced)
    return module


class _StoodIn(nn.Module):
    """Layer with the backward pass of its replacement."""

    def __init__(self, layer: nn.Module, stand_in: StandIn) -> None:
        super().__init__()
        self.layer, self.stand_in = layer, stand_in

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            exact: Tensor = self.layer(x)
        if not exact.is_floating_point():
            exact = exact.to(x.dtype)
        if not (torch.is_grad_enabled() and x.requires_grad):
            return exact
        smooth = self.stand_in.smooth(x, exact)
        if smooth.shape != exact.shape:
            raise InputError(
                f"a stand-in must keep its layer's shape, {type(self.stand_in).__name__} gives "
                f"{tuple(smooth.shape)} for {type(self.layer).__name__}'s {tuple(exact.shape)}; choose "
                "another"
            )
        output: Tensor = _Exact.apply(exact, smooth)
        return output


class _Exact(torch.autograd.Function):
    """Forward of the first input, gradient of the second; adding a difference would cause rounding."""

    @staticmethod
    def forward(ctx: Any, exact: Tensor, smooth: Tensor) -> Tensor:  # noqa: ARG004
        return exact.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:  # noqa: ARG004
        return None, gradients[0]
