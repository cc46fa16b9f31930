"""The sum of clipped gradients: by hand, against autograd, against Opacus, and one mode against the other."""

import copy
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from seg_mia.gradients.clipping import Clipped, Mode, Objective, clipped_sum
from seg_mia.gradients.recording import UnknownUseError
from seg_mia.models.smp import Smp
from seg_mia.models.unpadded_unet import UnpaddedUNet

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


@every_mode
def test_by_hand(mode: Mode) -> None:
    # The gradient of w x is x, of norms 5, 0.5 and 2; only what is longer than 1 is shortened to it.
    x = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, -2.0]])
    layer = nn.Linear(2, 1, bias=False)
    found = clipped(lambda rows: layer(x[rows])[:, 0], trained(layer), 3, mode=mode)
    assert_close(found.norms, torch.tensor([5.0, 0.5, 2.0]))
    assert_close(found.sums, {"weight": torch.tensor([[0.6 + 0.3, 0.8 + 0.4 - 1.0]])})


def test_a_unit_is_the_mean_of_its_rows_by_hand() -> None:
    # Unit 0 has rows (3, 4) and (-3, 4), whose mean gradient is (0, 4); unit 7 has (0.3, 0.4).
    x = torch.tensor([[3.0, 4.0], [0.3, 0.4], [-3.0, 4.0]])
    layer = nn.Linear(2, 1, bias=False)
    for physical in (1, 2, 9):
        found = clipped(
            lambda rows: layer(x[rows])[:, 0],
            trained(layer),
            torch.tensor([0, 7, 0]),
            physical=physical,
            mode="loop",
        )
        assert_close(found.norms, torch.tensor([4.0, 0.5]))
        assert_close(found.sums, {"weight": torch.tensor([[0.3, 1.4]])})


@every_mode
@pytest.mark.parametrize("clip", [1e-3, 1.0, 50.0, 1e9])
@pytest.mark.parametrize("physical", [1, 2, 5])
def test_equals_autograd_unit_by_unit(mode: Mode, clip: float, physical: int) -> None:
    network = small()
    objective, parameters = losses_of(network, images()), trained(network)
    found = clipped(objective, parameters, 5, clip=clip, physical=physical, mode=mode)
    assert_same(found, by_autograd(objective, parameters, torch.arange(5), clip))


@given(units=st.lists(st.integers(0, 3), min_size=1, max_size=6), physical=st.integers(1, 6))
@settings(deadline=None, max_examples=30)
def test_units_of_any_sizes_in_any_order(units: list[int], physical: int) -> None:
    network = small()
    objective, parameters = losses_of(network, images(6)), trained(network)
    member = torch.tensor(units)
    found = clipped(objective, parameters, member, physical=physical, mode="loop")
    assert_same(found, by_autograd(objective, parameters, member, 1.0))


def test_norms_stand_in_the_order_of_units_in_both_modes() -> None:
    network = small()
    objective, parameters = losses_of(network, images()), trained(network)
    units = torch.tensor([4, 0, 3, 1, 2])
    fused, loop = (clipped(objective, parameters, units, mode=mode, physical=2) for mode in MODES)
    assert_same(fused, loop)


@every_mode
def test_one_sample_adds_the_same_whoever_is_beside_it(mode: Mode) -> None:
    network, x = small(), images()
    parameters = trained(network)
    found = []
    for batch in (x, torch.cat([3 - x[:2], x[2:3], 7 * x[3:]])):
        whole = clipped(losses_of(network, batch), parameters, 5, mode=mode)
        rest = clipped(losses_of(network, batch[[0, 1, 3, 4]]), parameters, 4, mode=mode)
        found.append({name: whole.sums[name] - rest.sums[name] for name in parameters})
    alone = clipped(losses_of(network, x[2:3]), parameters, 1, mode=mode).sums
    for each in found:
        close(each, alone)


@every_mode
@given(clip=st.floats(1e-6, 1e3))
@settings(deadline=None, max_examples=15)
def test_no_sample_adds_more_than_the_clip(mode: Mode, clip: float) -> None:
    network = small()
    for image in images():
        sums = clipped(losses_of(network, image[None]), trained(network), 1, clip=clip, mode=mode).sums
        assert torch.cat([each.flatten() for each in sums.values()]).norm() <= clip * (1 + 1e-12)


@every_mode
def test_a_clip_that_binds_nobody_gives_the_gradient_of_the_sum(mode: Mode) -> None:
    network = small()
    objective, parameters = losses_of(network, images()), trained(network)
    expected = torch.autograd.grad(objective(torch.arange(5)).sum(), list(parameters.values()))
    found = clipped(objective, parameters, 5, clip=1e12, mode=mode)
    close(tuple(found.sums.values()), expected)


@every_mode
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_gradient_of_zero_stays_zero(mode: Mode, dtype: torch.dtype) -> None:
    network = small().to(dtype)
    x = images().to(dtype)
    found = clipped(lambda rows: losses_of(network, x)(rows) * (rows > 2), trained(network), 5, mode=mode)
    assert found.norms[:3].tolist() == [0, 0, 0]
    assert all(torch.isfinite(each).all() for each in found.sums.values())
    nothing = clipped(lambda rows: losses_of(network, x)(rows) * 0, trained(network), 5, clip=1e9, mode=mode)
    assert not any(each.any() for each in nothing.sums.values())


@every_mode
def test_a_gradient_that_is_not_finite_shows_in_its_norm(mode: Mode) -> None:
    network, x = small(), images()
    x[1] = math.nan
    found = clipped(losses_of(network, x), trained(network), 5, mode=mode)
    assert found.norms.isnan().tolist() == [False, True, False, False, False]


@every_mode
def test_an_empty_batch_adds_nothing(mode: Mode) -> None:
    def never(rows: Tensor) -> Tensor:
        raise AssertionError(rows)

    network = small()
    found = clipped(never, trained(network), 0, mode=mode)
    assert found.norms.shape == (0,)
    assert_close(found.sums, {name: torch.zeros_like(each) for name, each in trained(network).items()})


def test_fused_refuses_units_of_several_rows() -> None:
    network = small()
    with pytest.raises(ValueError, match="units of one row; use loop"):
        clipped(losses_of(network, images(3)), trained(network), torch.tensor([0, 1, 0]))


@every_mode
def test_leaves_everything_as_found(mode: Mode) -> None:
    network = small()
    parameters = trained(network)
    before = {name: each.detach().clone() for name, each in parameters.items()}
    for each in parameters.values():
        each.grad = torch.full_like(each, 7)
    accumulated: list[Tensor] = []
    network.get_parameter("0.weight").register_post_accumulate_grad_hook(accumulated.append)  # type: ignore[no-untyped-call]
    clipped(losses_of(network, images()), parameters, 5, mode=mode)
    assert not accumulated
    for name, each in parameters.items():
        assert each.grad is not None
        assert (each.grad == 7).all()
        assert torch.equal(each, before[name])
        assert each.requires_grad


@every_mode
def test_parameters_that_are_not_trained_are_left_alone(mode: Mode) -> None:
    network = small()
    for frozen in (False, True):
        network.get_submodule("0").requires_grad_(not frozen)
        chosen = {name: each for name, each in trained(network).items() if not name.startswith("0.")}
        objective = losses_of(network, images())
        found = clipped(objective, chosen, 5, mode=mode)
        assert_same(found, by_autograd(objective, chosen, torch.arange(5), 1.0))
        assert all(each.grad is None for each in network.parameters())


@every_mode
def test_a_parameter_that_no_sample_uses(mode: Mode) -> None:
    network = Uses(lambda own, x: own.a(x), a=small(), unused=nn.Linear(2, 2).double())
    found = clipped(losses_of(network, images()), trained(network), 5, mode=mode)
    assert not found.sums["unused.weight"].any()
    assert_same(found, by_autograd(losses_of(network, images()), trained(network), torch.arange(5), 1.0))


@pytest.mark.parametrize("mode", ["fused", "loop"])
@pytest.mark.parametrize("constant", [False, True])
def test_losses_without_any_parameter_have_a_gradient_of_zero(mode: Mode, constant: bool) -> None:
    # An image whose every pixel is ignored has such a loss.
    other = torch.zeros((), dtype=torch.float64, requires_grad=not constant)
    network = small()
    found = clipped(lambda rows: rows * other, trained(network), 3, mode=mode)
    assert found.norms.tolist() == [0, 0, 0]
    assert not any(each.any() for each in found.sums.values())


@every_mode
def test_losses_must_be_one_of_each_row(mode: Mode) -> None:
    network = small()
    objective = losses_of(network, images())
    with pytest.raises(ValueError, match="losses"):
        clipped(lambda rows: objective(rows).mean(), trained(network), 5, mode=mode)


def test_a_parameter_by_two_names_is_refused() -> None:
    layer = nn.Linear(4, 4).double()
    network = nn.Sequential(layer, nn.Tanh(), layer)
    objective = losses_of(network, draw(3, 4))
    twice = dict(network.named_parameters(remove_duplicate=False))
    for mode in MODES:
        with pytest.raises(ValueError, match="one name"):
            clipped(objective, twice, 3, mode=mode)


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


@pytest.mark.parametrize("offset", [0, 1000, 10000])
def test_no_norm_is_taken_for_less_than_it_is(offset: int) -> None:
    # Over positions g sums to 0, as before a normalisation, and x is one and the same or has an offset.
    x, g = draw(8, 4, 64).float(), draw(8, 4, 64, seed=1).float()
    x = offset + x if offset else x[:, :1].repeat(1, 4, 1)
    g -= g.mean(1, keepdim=True)
    layer = nn.Linear(64, 64, bias=False)
    found = clipped(lambda rows: (layer(x[rows]) * g[rows]).sum((1, 2)), trained(layer), 8)
    exact = torch.einsum("nlo,nld->nod", g.double(), x.double()).flatten(1).norm(dim=1)
    assert (found.norms >= exact * (1 - 1e-3) - 1e-4).all()


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
    with pytest.raises(UnknownUseError, match=rf"parameter {name} (is used by|sees)"):
        clipped(objective, parameters, 4)
    found = clipped(objective, parameters, 4, mode="loop")
    assert_same(found, by_autograd(objective, parameters, torch.arange(4), 1.0))


def test_residuals_and_activations_in_place() -> None:
    def block(own: Uses, x: Tensor) -> Tensor:
        out: Tensor = own.b(own.a(x).relu_())
        out += x
        return out.relu_()

    torch.manual_seed(0)
    network = Uses(block, a=nn.Conv2d(2, 2, 3, padding=1), b=nn.Conv2d(2, 2, 3, padding=1)).double()
    objective, parameters = losses_of(network, images()), trained(network)
    fused, loop = (clipped(objective, parameters, 5, mode=mode) for mode in MODES)
    assert_same(fused, loop)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "U-Net, ResNet-18": lambda: Smp(encoder="resnet18", norm="group"),
    "U-Net, EfficientNet-Lite0": lambda: Smp(encoder="tu-tf_efficientnet_lite0", norm="group"),
    "DeepLabV3+, ResNet-18": lambda: Smp(architecture="DeepLabV3Plus", encoder="resnet18", norm="group"),
    "FPN, MobileNetV2": lambda: Smp(architecture="FPN", encoder="mobilenet_v2", norm="group"),
    "SegFormer, MiT-B0": lambda: Smp(architecture="Segformer", encoder="mit_b0", norm="group"),
    "unpadded U-Net": lambda: UnpaddedUNet(channels=1, classes=1, widths=(8, 16)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_real_networks_both_ways(name: str) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name]().double()
    for module in network.modules():
        module.training &= "Drop" not in type(module).__name__
    x = torch.rand(3, 1, 64, 64, dtype=torch.float64)
    mask = (torch.rand(3, 1, 64, 64) > 0.5).double()

    def objective(rows: Tensor) -> Tensor:
        logits: Tensor = network(x[rows])
        true = mask[rows, :, : logits.shape[2], : logits.shape[3]]
        costs = functional.binary_cross_entropy_with_logits(logits, true, reduction="none")
        return costs.flatten(1).mean(1)

    parameters = trained(network)
    loop = clipped(objective, parameters, 3, clip=1e-2, mode="loop")
    assert (loop.norms > 1e-2).all()
    assert_same(clipped(objective, parameters, 3, clip=1e-2, physical=2), loop)


@contextmanager
def quiet() -> Iterator[None]:
    """Import Opacus without its handler on everybody's log, and without its warnings."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


@every_mode
def test_opacus_finds_the_same(mode: Mode) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(2, 8, 3, stride=2, padding=1),
        nn.GroupNorm(4, 8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=4),
        nn.Flatten(2),
        nn.LayerNorm(16),
        nn.Linear(16, 5),
    ).double()
    x = torch.randn(6, 2, 8, 8, dtype=torch.float64) * torch.arange(1, 7).view(-1, 1, 1, 1)
    with quiet():
        from opacus.grad_sample import GradSampleModule

        watched = GradSampleModule(copy.deepcopy(network), loss_reduction="sum")
        torch.autograd.backward(losses_of(watched, x)(torch.arange(6)).sum())
    samples = {name: each.grad_sample for name, each in watched._module.named_parameters()}
    norms = sum(each.flatten(1).square().sum(1) for each in samples.values()).sqrt()
    clip = norms.median().item()
    factors = (clip / norms).clamp(max=1)
    sums = {name: torch.tensordot(factors, each, 1) for name, each in samples.items()}
    found = clipped(losses_of(network, x), trained(network), 6, clip=clip, mode=mode)
    assert_same(found, Clipped(sums, norms))
