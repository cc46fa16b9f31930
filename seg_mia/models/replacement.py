"""Layers without a useful gradient, replaced by stand-ins: exact forward, smooth backward.

Backward pass differentiable approximation (Athalye, Carlini, Wagner, ICML 2018, section 4.1): a network that
thresholds, quantises or filters its input looks robust to gradients alone.
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
    """What a layer is taken for when gradients are computed."""

    @abstractmethod
    def smooth(self, x: Tensor, exact: Tensor) -> Tensor:
        """Return a differentiable function of `x`, of the shape of the layer's `exact` output."""


@dataclass(frozen=True)
class Identity(StandIn):
    """For quantisation, rounding, JPEG, and whatever else returns nearly its input."""

    def smooth(self, x: Tensor, exact: Tensor) -> Tensor:
        """Return the input; raises InputError where the layer changes its shape."""
        if x.shape != exact.shape:
            raise InputError(
                f"the stand-in Identity is for layers that keep the shape, got {tuple(x.shape)} to "
                f"{tuple(exact.shape)}; choose Argmax, or write a StandIn for the layer"
            )
        return x


@dataclass(frozen=True)
class Threshold(StandIn):
    """For a hard threshold: low + (high - low) sigmoid(sharpness (x - at)).

    Args:
        at: the threshold.
        sharpness: of the sigmoid, per unit of the input; it rises within about 4 / sharpness to either side.
        low: what the layer gives below the threshold.
        high: what it gives above.
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
    """For a median filter: the mean over a window.

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
    """For an argmax over classes: softmax where the layer gives one-hot maps, else the expected index.

    Args:
        temperature: divides the input.
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
    """Return a network that computes what `model` does, with other gradients; `model` stays as it is.

    The copy shares parameters and buffers with `model`. What is no layer, such as a call of `torch.round` in
    a `forward`, is replaced with the layer around it.

    Args:
        model: any network.
        replaced: layers by their class, subclasses included. A layer of integer output gives floats then.

    Raises:
        InputError: a class that no layer of the model has.
    """
    for kind in replaced:
        if not any(isinstance(layer, kind) for layer in model.modules()):
            names = sorted({type(layer).__qualname__ for layer in model.modules()})
            raise InputError(
                f"there is no {kind.__qualname__} to replace in {type(model).__name__}; its layers are "
                f"{', '.join(names)}"
            )
    shared = (*model.parameters(), *model.buffers())
    with torch.inference_mode(False):  # a copy made in it could not be differentiated through
        copied = copy.deepcopy(model, {id(tensor): tensor for tensor in shared})
    return _replaced(copied, replaced)


def _replaced(module: nn.Module, replaced: Mapping[type[nn.Module], StandIn]) -> nn.Module:
    for kind, stand_in in replaced.items():
        if isinstance(module, kind):
            return _StoodIn(module, stand_in)
    for name, child in module._modules.items():  # named_children leaves out what stands there twice
        if child is not None:
            module._modules[name] = _replaced(child, replaced)
    return module


class _StoodIn(nn.Module):
    """A layer whose backward pass is its stand-in's."""

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
    """The first input forward, the second's gradient backward: adding a difference would round."""

    @staticmethod
    def forward(ctx: Any, exact: Tensor, smooth: Tensor) -> Tensor:  # noqa: ARG004
        return exact.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:  # noqa: ARG004
        return None, gradients[0]
