"""Each layer's arithmetic against torch's autograd, one sample after the other."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from seg_mia.grad_sample.layers import Convolution, GroupNorm, Layer, LayerNorm, Linear
from tests.grad_sample.helpers import close


class Case(NamedTuple):
    """A layer of torch, and the shape of its input."""

    module: Callable[[], nn.Module]
    shape: tuple[int, ...]


CASES = {
    "linear of vectors": Case(lambda: nn.Linear(6, 4), (3, 6)),
    "linear of sequences": Case(lambda: nn.Linear(6, 4), (3, 5, 6)),
    "linear of maps": Case(lambda: nn.Linear(6, 4), (3, 5, 2, 6)),
    "linear to one": Case(lambda: nn.Linear(6, 1), (3, 5, 6)),
    "linear of one sample": Case(lambda: nn.Linear(6, 4), (1, 5, 6)),
    "convolution": Case(lambda: nn.Conv2d(4, 6, 3), (3, 4, 7, 8)),
    "1x1 convolution": Case(lambda: nn.Conv2d(4, 6, 1), (3, 4, 5, 6)),
    "1x1 convolution with stride": Case(lambda: nn.Conv2d(4, 6, 1, stride=2), (3, 4, 5, 6)),
    "convolution of one position": Case(lambda: nn.Conv2d(4, 6, 3, padding=1), (3, 4, 1, 1)),
    "convolution of one sample": Case(lambda: nn.Conv2d(4, 6, 3), (1, 4, 7, 8)),
    "uneven convolution": Case(
        lambda: nn.Conv2d(4, 6, (3, 2), stride=(2, 3), padding=(2, 1), dilation=(1, 2)), (3, 4, 9, 10)
    ),
    "grouped convolution": Case(lambda: nn.Conv2d(4, 6, 3, stride=2, groups=2), (3, 4, 7, 8)),
    "depthwise convolution": Case(lambda: nn.Conv2d(4, 4, 3, padding=1, groups=4), (3, 4, 5, 6)),
    "scale of each channel": Case(lambda: nn.Conv2d(4, 4, 1, groups=4), (3, 4, 5, 6)),
    "widening depthwise convolution": Case(lambda: nn.Conv2d(4, 8, 3, dilation=2, groups=4), (3, 4, 7, 8)),
    "transposed convolution": Case(lambda: nn.ConvTranspose2d(4, 6, 2, stride=2), (3, 4, 5, 6)),
    "transposed convolution with output padding": Case(
        lambda: nn.ConvTranspose2d(4, 6, 3, stride=(2, 3), padding=1, output_padding=(1, 2)), (3, 4, 5, 6)
    ),
    "grouped transposed convolution": Case(
        lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2, dilation=2), (3, 4, 5, 4)
    ),
    "group norm": Case(lambda: nn.GroupNorm(2, 6), (3, 6, 4, 5)),
    "group norm of single channels": Case(lambda: nn.GroupNorm(6, 6, eps=1e-3), (3, 6, 4, 5)),
    "group norm of sequences": Case(lambda: nn.GroupNorm(1, 6), (3, 6, 5)),
    "group norm of volumes": Case(lambda: nn.GroupNorm(3, 6), (3, 6, 2, 4, 5)),
    "layer norm of vectors": Case(lambda: nn.LayerNorm(6), (3, 6)),
    "layer norm of sequences": Case(lambda: nn.LayerNorm(6, eps=1e-3), (3, 5, 6)),
    "layer norm over two axes": Case(lambda: nn.LayerNorm((5, 6)), (3, 2, 5, 6)),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))


class Setting(NamedTuple):
    """A layer, its input, its output's gradient, and what autograd finds for each sample."""

    module: nn.Module
    layer: Layer
    x: Tensor
    g: Tensor
    weight: Tensor
    inputs: Tensor
    weights: Tensor
    biases: Tensor


def twin(module: nn.Module) -> Layer:
    match module:
        case nn.Linear():
            return Linear()
        case nn.Conv2d() | nn.ConvTranspose2d():
            assert isinstance(module.padding, tuple)
            stride, padding, dilation, extra = (
                (int(each[0]), int(each[1]))
                for each in (module.stride, module.padding, module.dilation, module.output_padding)
            )
            transposed = isinstance(module, nn.ConvTranspose2d)
            return Convolution(stride, padding, dilation, module.groups, transposed, extra)
        case nn.GroupNorm():
            return GroupNorm(module.num_groups, module.eps)
        case nn.LayerNorm():
            return LayerNorm(tuple(module.normalized_shape), module.eps)
        case _:
            raise TypeError(type(module).__name__)


def solved(module: nn.Module, shape: tuple[int, ...]) -> Setting:
    generator = torch.Generator().manual_seed(0)
    module = module.double()
    for parameter in module.parameters():
        nn.init.normal_(parameter, generator=generator)
    x = torch.randn(shape, dtype=torch.float64, generator=generator)
    g = torch.randn(module(x).shape, dtype=torch.float64, generator=generator)
    weight, bias = module.get_parameter("weight"), module.get_parameter("bias")
    found = []
    for i in range(len(x)):
        one = x[[i]].requires_grad_()
        found.append(torch.autograd.grad(module(one), (one, weight, bias), g[[i]]))
    inputs, weights, biases = (torch.stack(each) for each in zip(*found, strict=True))
    return Setting(module, twin(module), x, g, weight.detach(), inputs[:, 0], weights, biases)


def assert_solved(case: Setting) -> None:
    layer, x, g, weight = case.layer, case.x, case.g, case.weight
    bias = case.module.get_parameter("bias")
    close(layer.forward(x, weight, bias), case.module(x))
    close(layer.back(x, g, weight), case.inputs)
    close(layer.weight_grad_sample(x, g, weight), case.weights)
    close(layer.bias_grad_sample(g), case.biases)
    close(layer.weight_gradient(x, g, weight), case.weights.sum(0))
    if isinstance(layer, Convolution) and layer.groups > 1:
        assert not layer.ghost_pays(x, g, weight)
    else:
        close(layer.squared_norm(x, g, weight), case.weights.flatten(1).square().sum(1))


@every_case
def test_equals_autograd_of_single_samples(case: Case) -> None:
    assert_solved(solved(case.module(), case.shape))


@every_case
def test_a_gradient_that_is_one_number_over_all_positions(case: Case) -> None:
    # That is what the gradient of a sum looks like: one number in memory, seen with strides of 0.
    setting = solved(case.module(), case.shape)
    seen = torch.ones((), dtype=torch.float64).expand(setting.g.shape)
    for compute in (setting.layer.weight_grad_sample, setting.layer.squared_norm, setting.layer.back):
        if compute == setting.layer.squared_norm and getattr(setting.layer, "groups", 1) > 1:
            continue
        expected = compute(setting.x, seen.clone(), setting.weight)
        close(compute(setting.x, seen, setting.weight), expected)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if len(case.shape) == 4])
def test_memory_in_another_order_gives_the_same(name: str) -> None:
    setting = solved(CASES[name].module(), CASES[name].shape)
    x, g = (each.contiguous(memory_format=torch.channels_last) for each in (setting.x, setting.g))
    assert_solved(setting._replace(x=x, g=g))


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    kernel, stride, dilation = (draw(pair) for _ in range(3))
    padding = (draw(st.integers(0, 2)), draw(st.integers(0, 2)))
    groups = draw(st.sampled_from([1, 2]))
    inputs, outputs = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    sides = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    module: nn.Module
    if draw(st.booleans()):
        most = [side - 1 for side in stride]
        extra = (draw(st.integers(0, most[0])), draw(st.integers(0, most[1])))
        reached = [
            (side - 1) * step - 2 * pad + spread * (wide - 1) + more + 1
            for side, step, pad, spread, wide, more in zip(
                sides, stride, padding, dilation, kernel, extra, strict=True
            )
        ]
        padding = (padding[0] * (reached[0] > 0), padding[1] * (reached[1] > 0))
        module = nn.ConvTranspose2d(inputs, outputs, kernel, stride, padding, extra, groups, True, dilation)
        return module, (2, inputs, *sides)
    least = [spread * (wide - 1) for spread, wide in zip(dilation, kernel, strict=True)]
    module = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups)
    return module, (2, inputs, sides[0] + least[0], sides[1] + least[1])


@given(convolutions())
@settings(deadline=None, max_examples=80)
def test_convolutions_of_any_settings(drawn: tuple[nn.Module, tuple[int, ...]]) -> None:
    assert_solved(solved(*drawn))


@pytest.mark.parametrize("side", [1, 2])
def test_output_padding_beyond_the_stride(side: int) -> None:
    # torch allows it where the dilation is greater.
    module = nn.ConvTranspose2d(4, 6, 3, dilation=2, output_padding=1)
    assert_solved(solved(module, (3, 4, side, side)))


def test_a_product_by_hand() -> None:
    x = torch.tensor([[[1, 2], [3, 4]]], dtype=torch.float64)
    g = torch.tensor([[[1], [10]]], dtype=torch.float64)
    weight = torch.tensor([[5, 7]], dtype=torch.float64)
    assert Linear().weight_grad_sample(x, g, weight).tolist() == [[[31, 42]]]
    assert Linear().squared_norm(x, g, weight).tolist() == pytest.approx([31**2 + 42**2])
    assert Linear().bias_grad_sample(g).tolist() == [[11]]
    assert Linear().back(x, g, weight).tolist() == [[[5, 7], [50, 70]]]


@pytest.mark.parametrize(("positions", "pays"), [(1, True), (2, True), (3, False)])
def test_gram_matrices_pay_where_positions_are_few(positions: int, pays: bool) -> None:
    # 2 L (D + O) <= D O, for D = O = 8: L <= 2.
    x, weight = torch.zeros(3, positions, 8), torch.zeros(8, 8)
    assert Linear().ghost_pays(x, x, weight) is pays
    image, one = torch.zeros(3, 8, 1, positions), torch.zeros(8, 8, 1, 1)
    for transposed in (False, True):
        layer = Convolution((1, 1), (0, 0), (1, 1), 1, transposed)
        assert layer.ghost_pays(image, image, one) is pays
    assert not GroupNorm(1, 1e-5).ghost_pays(image, image, torch.zeros(8))
    assert not LayerNorm((8,), 1e-5).ghost_pays(x, x, torch.zeros(8))
