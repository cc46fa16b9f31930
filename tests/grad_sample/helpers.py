"""What tests of gradients share: networks, draws, and clipped sums by autograd to compare with."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from seg_mia.grad_sample.clipping import Clipped, Mode, Objective, clipped_sum

MODES: tuple[Mode, ...] = ("fused", "loop")
Parameters = Mapping[str, nn.Parameter]
every_mode = pytest.mark.parametrize("mode", MODES)


def close(found: object, expected: object) -> None:
    assert_close(found, expected, rtol=1e-9, atol=1e-9)


class Uses(nn.Module):
    """A forward pass written at the test, with modules and parameters by name."""

    def __init__(
        self, function: Callable[["Uses", Tensor], Tensor], **parts: nn.Module | nn.Parameter
    ) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def __getattr__(self, name: str) -> Any:
        return super().__getattr__(name)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.float64, generator=generator)


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(draw(*shape, seed=1))


def small() -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Conv2d(2, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.ReLU(inplace=True), nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(64, 3)).double()


def images(count: int = 5) -> Tensor:
    """Draw images of very different brightness, whose gradients have very different norms."""
    return draw(count, 2, 4, 4) * torch.logspace(-1, 1, count, dtype=torch.float64).view(-1, 1, 1, 1)


def losses_of(network: nn.Module, x: Tensor) -> Objective:
    def objective(rows: Tensor) -> Tensor:
        output: Tensor = network(x[rows]).flatten(1)
        return (output * torch.linspace(0.5, 1.5, output.shape[1], dtype=output.dtype)).square().sum(1)

    return objective


def trained(network: nn.Module) -> dict[str, nn.Parameter]:
    return dict(network.named_parameters())


def clipped(
    objective: Objective,
    parameters: Parameters,
    units: Tensor | int,
    *,
    clip: float = 1.0,
    physical: int = 64,
    mode: Mode = "fused",
) -> Clipped:
    units = torch.arange(units) if isinstance(units, int) else units
    return clipped_sum(objective, parameters, units, clip=clip, physical=physical, mode=mode)


def by_autograd(objective: Objective, parameters: Parameters, units: Tensor, clip: float) -> Clipped:
    """Work it out unit by unit as the equation says, without any of the package's code."""
    sums = {name: torch.zeros_like(each) for name, each in parameters.items()}
    norms = []
    for unit in sorted(set(units.tolist())):
        mean = objective(torch.nonzero(units == unit)[:, 0]).mean()
        found = torch.autograd.grad(mean, list(parameters.values()), materialize_grads=True)
        norm = math.sqrt(sum(each.square().sum().item() for each in found))
        norms.append(norm)
        for name, each in zip(parameters, found, strict=True):
            sums[name] += each * min(1.0, clip / norm if norm else math.inf)
    return Clipped(sums, torch.tensor(norms, dtype=torch.float64))


def assert_same(found: Clipped, expected: Clipped) -> None:
    close(found.norms, expected.norms)
    close(found.sums, expected.sums)
