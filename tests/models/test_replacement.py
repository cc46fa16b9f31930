"""Stand-ins: the layer's value to the bit, the stand-in's gradient, and the network left alone."""

import io
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)
from PIL import Image
from torch import Tensor, nn
from torch.testing import assert_close

from seg_mia.attacks.base import attack_mode
from seg_mia.errors import InputError
from seg_mia.models.replacement import Argmax, Identity, Mean, StandIn, Threshold, replace_layers


class Hard(nn.Module):
    """`high` above `at`, else `low`."""

    def __init__(self, at: float = 0.25, low: float = -1.0, high: float = 3.0) -> None:
        super().__init__()
        self.at, self.low, self.high = at, low, high

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > self.at, self.high, self.low).to(x)


class Quantised(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x * 7).round() / 7


class Jpeg(nn.Module):
    """Compress and decompress, outside of what torch sees."""

    def forward(self, x: Tensor) -> Tensor:
        out = []
        for image in x:
            pixels = (image.permute(1, 2, 0).clamp(0, 1) * 255).round().byte().numpy()
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "JPEG", quality=40)
            out.append(np.asarray(Image.open(file)) / np.float32(255))
        return torch.from_numpy(np.stack(out)).permute(0, 3, 1, 2).to(x)


class Median(nn.Module):
    """OpenCV's median over 5 x 5, channel by channel."""

    def forward(self, x: Tensor) -> Tensor:
        planes = (x.flatten(0, 1) * 255).round().clamp(0, 255).byte().numpy()
        filtered = np.stack([cv2.medianBlur(np.ascontiguousarray(plane), 5) for plane in planes])
        return torch.from_numpy(filtered).to(x).view_as(x) / 255


class Index(nn.Module):
    def __init__(self, *, keepdim: bool = False) -> None:
        super().__init__()
        self.keepdim = keepdim

    def forward(self, x: Tensor) -> Tensor:
        return x.argmax(1, keepdim=self.keepdim)


class OneHot(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.one_hot(x.argmax(1), x.shape[1]).movedim(-1, 1).to(x)


CASES: list[tuple[nn.Module, StandIn]] = [
    (Hard(), Threshold(at=0.25, sharpness=3, low=-1, high=3)),
    (Quantised(), Identity()),
    (Jpeg(), Identity()),
    (Median(), Mean(5)),
    (Index(), Argmax()),
    (Index(keepdim=True), Argmax(0.5)),
    (OneHot(), Argmax(2.0)),
]
every_case = pytest.mark.parametrize(("layer", "stand_in"), CASES, ids=lambda each: type(each).__name__)


def images(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(2, 3, 12, 10, generator=torch.Generator().manual_seed(0), dtype=dtype)


@every_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_forward_is_the_layers_to_the_bit(layer: nn.Module, stand_in: StandIn, dtype: torch.dtype) -> None:
    x = images(dtype)
    expected = layer(x).to(dtype)
    replaced = replace_layers(layer, {type(layer): stand_in})
    for needs in (False, True):
        assert replaced(x.clone().requires_grad_(needs)).equal(expected)
    with torch.no_grad():
        assert replaced(x.clone().requires_grad_()).equal(expected)
    with torch.inference_mode():
        assert replaced(x.clone()).equal(expected)


@every_case
def test_gradients_come_under_inference_mode_too(layer: nn.Module, stand_in: StandIn) -> None:
    replaced = replace_layers(layer, {type(layer): stand_in})
    with torch.inference_mode(), attack_mode(replaced):
        x = images().requires_grad_()
        (gradient,) = torch.autograd.grad((replaced(x) * torch.arange(10)).sum(), x)
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0


def smoothed(layer: nn.Module, x: Tensor) -> Tensor:
    """What each case's gradient must be that of, written out."""
    if isinstance(layer, Hard):
        return -1 + 4 / (1 + (-3 * (x - 0.25)).exp())
    if isinstance(layer, Median):  # the mean over that part of 5 x 5 that lies inside
        ones = torch.ones(1, 1, 5, 5, dtype=x.dtype)
        flat = x.flatten(0, 1).unsqueeze(1)
        sums, counts = (F.conv2d(each, ones, padding=2) for each in (flat, torch.ones_like(flat)))
        return (sums / counts).view_as(x)
    if isinstance(layer, Index):
        weights = (x / (0.5 if layer.keepdim else 1)).exp()
        index = (weights[:, 1:2] + 2 * weights[:, 2:3]) / weights.sum(1, keepdim=True)
        return index if layer.keepdim else index.squeeze(1)
    if isinstance(layer, OneHot):
        return (x / 2).exp() / (x / 2).exp().sum(1, keepdim=True)
    return x


@every_case
def test_backward_is_the_stand_ins(layer: nn.Module, stand_in: StandIn) -> None:
    replaced = replace_layers(layer, {type(layer): stand_in})
    x = images(torch.float64).requires_grad_()
    value, smooth = replaced(x), smoothed(layer, x)
    pull = torch.randn(value.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (found,) = torch.autograd.grad((pull * value).sum(), x)
    (expected,) = torch.autograd.grad((pull * smooth).sum(), x)
    assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_the_gradient_of_a_loss_is_taken_at_the_exact_value() -> None:
    x = torch.tensor([[[[0.2, 0.9]]]], requires_grad=True)
    replaced = replace_layers(Quantised(), {Quantised: Identity()})
    (gradient,) = torch.autograd.grad(replaced(x).square().sum(), x)
    assert_close(gradient, torch.tensor([[[[2 / 7, 12 / 7]]]]))  # twice the rounded values 1/7 and 6/7


class Nested(nn.Module):
    """Layers in a list, a dictionary, below a block and below themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), Quantised())
        self.several = nn.ModuleList([Quantised(), nn.Sequential(nn.Dropout(0.5), Hard(0.1))])
        self.named = nn.ModuleDict({"last": nn.Conv2d(3, 2, 1), "hard": SharperHard()})

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.stem, *self.several, *self.named.values()):
            x = layer(x)
        return x


class SharperHard(Hard):
    pass


def state(network: nn.Module) -> list[Any]:
    return [
        [(name, id(module), type(module)) for name, module in network.named_modules()],
        [(name, id(parameter), parameter.requires_grad) for name, parameter in network.named_parameters()],
        [(name, id(buffer)) for name, buffer in network.named_buffers()],
        [module.training for module in network.modules()],
        [dict(module._forward_hooks) for module in network.modules()],
        [(name, value.tolist()) for name, value in network.state_dict().items()],
    ]


def kinds(network: nn.Module) -> list[str]:
    return [type(module).__name__ for module in network.modules()]


def test_layers_are_found_wherever_they_are_and_the_network_stays_as_it_is() -> None:
    torch.manual_seed(0)
    network = Nested()
    network.stem[1].eval()
    network.stem[0].weight.requires_grad_(False)
    seen: list[int] = []
    network.stem[0].register_forward_hook(lambda *_: seen.append(1))
    before = state(network)
    replaced = replace_layers(network, {Quantised: Identity(), Hard: Threshold()})
    assert state(network) == before
    assert type(replaced) is Nested
    assert kinds(replaced).count("_StoodIn") == 4  # a subclass is replaced too
    x = images()
    with attack_mode(network), attack_mode(replaced):
        assert replaced(x).equal(network(x))
        x.requires_grad_()
        assert not network(x).requires_grad
        assert torch.autograd.grad(replaced(x).sum(), x)[0].abs().sum() > 0
    assert state(network) == before
    assert seen


def test_the_copy_shares_weights_and_statistics() -> None:
    network = Nested().train()
    replaced = replace_layers(network, {Quantised: Identity()})
    assert {id(each) for each in replaced.parameters()} == {id(each) for each in network.parameters()}
    assert {id(each) for each in replaced.buffers()} == {id(each) for each in network.buffers()}
    assert [each.training for each in replaced.modules()] == [True] * len(list(replaced.modules()))
    nn.init.zeros_(network.get_parameter("named.last.weight"))
    assert replaced.get_parameter("named.last.weight").eq(0).all()


def test_a_layer_used_in_two_places_is_replaced_in_both() -> None:
    same = Quantised()
    network = nn.Sequential(same, nn.Conv2d(3, 3, 1), same)
    replaced = replace_layers(network, {Quantised: Identity()})
    x = images().requires_grad_()
    assert replaced(x).equal(network(x))
    assert torch.autograd.grad(replaced(x).sum(), x)[0].abs().sum() > 0
    deep = nn.Sequential(nn.Sequential(same), nn.Sequential(same), same)
    assert torch.autograd.grad(replace_layers(deep, {Quantised: Identity()})(x).sum(), x)[0].eq(1).all()


def test_a_block_used_in_two_places_is_replaced_in_both() -> None:
    block = nn.Sequential(nn.Conv2d(3, 3, 1), Hard(0.5, 0.0, 1.0))
    network = nn.Sequential(nn.Sequential(block, block), block)
    replaced = replace_layers(network, {Hard: Threshold(at=0.5)})
    x = images().requires_grad_()
    assert replaced(x).equal(network(x))
    assert torch.autograd.grad(replaced(x).sum(), x)[0].abs().sum() > 0


def test_the_network_itself_may_be_the_layer() -> None:
    network = Hard()
    replaced = replace_layers(network, {nn.Module: Threshold(at=0.25)})
    assert replaced is not network
    x = images().requires_grad_()
    assert torch.autograd.grad(replaced(x).sum(), x)[0].gt(0).all()
    assert not network(x).requires_grad


def test_whole_numbers_come_as_floats_for_what_follows() -> None:
    network = nn.Sequential(Index(keepdim=True), nn.Conv2d(1, 2, 1))
    x = images().requires_grad_()
    replaced = replace_layers(network, {Index: Argmax()})
    assert torch.autograd.grad(replaced(x)[:, :1].sum(), x)[0].abs().sum() > 0


def test_a_layer_that_is_not_there_is_refused_with_those_that_are() -> None:
    there = "BatchNorm2d, Conv2d, Hard, Quantised, Sequential"
    network = nn.Sequential(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)), Quantised(), Hard())
    with pytest.raises(
        InputError, match=f"^Sequential must have a Jpeg to replace and has none; its layers are {there}$"
    ):
        replace_layers(network, {Hard: Identity(), Jpeg: Identity()})


@pytest.mark.parametrize(
    ("layer", "stand_in", "message"),
    [
        (nn.MaxPool2d(2), Identity(), r"keeps the shape, got \(2, 3, 12, 10\) to \(2, 3, 6, 5\); choose"),
        (nn.MaxPool2d(2), Mean(3), r"Mean gives \(2, 3, 12, 10\) for MaxPool2d's \(2, 3, 6, 5\); choose"),
        (nn.Conv2d(3, 2, 1), Threshold(), r"Threshold gives \(2, 3, 12, 10\) for Conv2d's \(2, 2, 12, 10\)"),
        (nn.Conv2d(3, 2, 1), Argmax(), r"Argmax gives \(2, 1, 12, 10\) for Conv2d's \(2, 2, 12, 10\)"),
    ],
)  # fmt: skip
def test_a_stand_in_of_another_shape_is_refused(layer: nn.Module, stand_in: StandIn, message: str) -> None:
    replaced = replace_layers(layer, {type(layer): stand_in})
    with pytest.raises(InputError, match=message):
        replaced(images().requires_grad_())


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_settings_that_make_no_stand_in_are_refused(value: float) -> None:
    with pytest.raises(InputError, match="sharpness must be above 0"):
        Threshold(sharpness=value)
    with pytest.raises(InputError, match="temperature must be above 0"):
        Argmax(value)
    for size in (0, 4, -3):
        with pytest.raises(InputError, match=f"size must be odd and at least 1, got {size}"):
            Mean(size)
