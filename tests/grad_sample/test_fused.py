"""Where units are taken together, a sum is right or refused, whatever becomes of the parameters."""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from seg_mia.grad_sample.recording import UnknownUseError
from tests.grad_sample.helpers import (
    Uses,
    assert_same,
    by_autograd,
    clipped,
    draw,
    losses_of,
    parameter,
    trained,
)


class Scaled(torch.autograd.Function):
    """A product whose gradient is written by hand, as memory-efficient layers have it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(x, w)
        return x * w

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:
        x, w = ctx.saved_tensors
        return g * w, (g * x).sum(0)


def written(own: Uses, x: Tensor) -> Tensor:
    hidden: Tensor = own.a(x)
    hidden[:, 0] = own.w
    return hidden


def attacked(own: Uses, x: Tensor) -> Tensor:
    delta = torch.zeros_like(x).requires_grad_()
    (ascent,) = torch.autograd.grad(own.b(own.a(x + delta).tanh()).square().sum(), delta)
    hardened: Tensor = own.b(own.a(x + ascent.sign()).tanh())
    return hardened


def penalised(own: Uses, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    output: Tensor = own.b(own.a(x).tanh())
    (slope,) = torch.autograd.grad(output.sum(), x, create_graph=True)
    return output + slope.square()


def checkpointed(own: Uses, x: Tensor) -> Tensor:
    output: Tensor = checkpoint(own.b, own.a(x), use_reentrant=False)
    return output


def linear(inputs: int, outputs: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(inputs, outputs)


def scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would have us use torch.compile
        layer: nn.Module = torch.jit.script(linear(6, 2))
    return layer


class Hidden(NamedTuple):
    """A forward pass of (N, 6), of which N rows at most pass at once."""

    function: Callable[[Uses, Tensor], Tensor]
    parts: dict[str, nn.Module | nn.Parameter]
    physical: int = 6


SILENT = {
    "a parameter is a layer's input": Hidden(
        lambda own, x: own.a(own.w) * x, {"a": linear(6, 6), "w": parameter(1, 6)}, physical=1
    ),
    "a parameter is written into a tensor": Hidden(written, {"a": linear(6, 6), "w": parameter(1)}),
    "a weight is made by a layer": Hidden(
        lambda own, x: functional.layer_norm(x, (6,), own.a(x)[0], own.w),
        {"a": linear(6, 6), "w": parameter(6)},
        physical=1,
    ),
    "a bias is made by a layer": Hidden(
        lambda own, x: functional.linear(x, own.w, own.a(x)[0]),
        {"a": linear(6, 6), "w": parameter(6, 6)},
        physical=1,
    ),
    "a function with a gradient of its own": Hidden(
        lambda own, x: own.a(Scaled.apply(x, own.w)), {"a": linear(6, 2), "w": parameter(6)}
    ),
    "a scripted layer": Hidden(lambda own, x: own.a(x), {"a": scripted()}),
    "an attack within the loss": Hidden(attacked, {"a": linear(6, 6), "b": linear(6, 6)}),
    "a penalty on the gradient": Hidden(penalised, {"a": linear(6, 6), "b": linear(6, 6)}),
    "checkpointed layers": Hidden(
        checkpointed, {"a": linear(6, 6), "b": nn.Sequential(linear(6, 6), linear(6, 6))}
    ),
}
LOUD = {
    "group norm of vectors": Hidden(lambda own, x: own.a(x), {"a": nn.GroupNorm(2, 6)}),
    "group norm with a bias alone": Hidden(
        lambda own, x: functional.group_norm(x[..., None], 2, None, own.w), {"w": parameter(6)}
    ),
    "layer norm with a bias alone": Hidden(
        lambda own, x: functional.layer_norm(x, (6,), None, own.w), {"w": parameter(6)}
    ),
    "one bias for all": Hidden(
        lambda own, x: functional.linear(x, own.v, own.w), {"v": parameter(2, 6), "w": parameter(1)}
    ),
    "a weight without outputs": Hidden(
        lambda own, x: functional.linear(x[:, None].expand(-1, 3, -1), own.w), {"w": parameter(6)}
    ),
    "a map without a batch": Hidden(
        lambda own, x: own.a(x[:, :, None])[None], {"a": nn.Conv2d(1, 2, 1)}, physical=1
    ),
}


def assert_right_or_refused(hidden: Hidden) -> None:
    network = Uses(hidden.function, **hidden.parts).double()
    objective, parameters = losses_of(network, draw(6, 6)), trained(network)
    loop = clipped(objective, parameters, 6, mode="loop")
    assert_same(loop, by_autograd(objective, parameters, torch.arange(6), 1.0))
    try:
        fused = clipped(objective, parameters, 6, physical=hidden.physical)
    except UnknownUseError:
        return
    assert_same(fused, loop)


@pytest.mark.parametrize("kind", SILENT)
def test_fused_is_right_or_refuses_what_it_cannot_see(kind: str) -> None:
    assert_right_or_refused(SILENT[kind])


@pytest.mark.parametrize("kind", LOUD)
def test_fused_is_right_or_refuses_what_it_has_no_formula_for(kind: str) -> None:
    assert_right_or_refused(LOUD[kind])


def test_a_weight_changed_in_place_after_use_is_an_error() -> None:
    def rescaled(own: Uses, x: Tensor) -> Tensor:
        output: Tensor = own.b(own.a(x))
        with torch.no_grad():
            own.b.get_parameter("weight").mul_(2)
        return output

    network = Uses(rescaled, a=linear(6, 6), b=linear(6, 2)).double()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        clipped(losses_of(network, draw(3, 6)), trained(network), 3, mode="loop")
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        clipped(losses_of(network, draw(3, 6)), trained(network), 3)


ELSEWHERE: dict[str, tuple[nn.Module, str]] = {
    "a product": (Uses(lambda own, x: torch.matmul(x, own.w.T), w=parameter(2, 6)), "w"),
    "a convolution with normed weights": (
        Uses(
            lambda own, x: own.c(x.view(-1, 1, 2, 3)),
            c=parametrizations.weight_norm(nn.Conv2d(1, 2, 2)),
        ),
        "c.parametrizations.weight.original1",
    ),
    "embedding": (Uses(lambda own, x: own.e((x > 0).long()), e=nn.Embedding(2, 3)), "e.weight"),
    "attention": (
        Uses(
            lambda own, x: own.m(*[x.view(-1, 3, 2)] * 3)[0], m=nn.MultiheadAttention(2, 1, batch_first=True)
        ),
        "m.in_proj_weight",
    ),
    "windows": (Uses(lambda own, x: own.a(x.view(-1, 3)).view(-1, 4), a=linear(3, 2)), "a.weight"),
}


@pytest.mark.parametrize("kind", ELSEWHERE)
def test_what_fused_refuses_loop_gives(kind: str) -> None:
    network, name = ELSEWHERE[kind]
    network = network.double()
    objective, parameters = losses_of(network, draw(4, 6)), trained(network)
    with pytest.raises(UnknownUseError, match=rf"parameter {name} (is used by|has)"):
        clipped(objective, parameters, 4)
    found = clipped(objective, parameters, 4, mode="loop")
    assert_same(found, by_autograd(objective, parameters, torch.arange(4), 1.0))
