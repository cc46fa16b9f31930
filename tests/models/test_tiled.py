import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn
from torch.testing import assert_close

from seg_mia.errors import InputError
from seg_mia.models.tiled import Tiled
from seg_mia.models.windows import Layout, WindowWeights, window_starts, window_weights


def random(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


def local(dims: int = 2, channels: int = 1, classes: int = 2) -> nn.Module:
    """A network whose answer depends on the neighbours, so on the window and its border."""
    torch.manual_seed(1)
    convolution = {2: nn.Conv2d, 3: nn.Conv3d}[dims]
    network = nn.Sequential(convolution(channels, classes, 3, padding=1), nn.Tanh())
    return network.double().requires_grad_(False).eval()


class Calls(nn.Module):
    """The image itself, with the size of every call."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(tuple(x.shape))
        return x


def nnunet_gaussian(patch: tuple[int, ...]) -> Tensor:
    """nnU-Net's weights by SciPy: a filtered unit impulse in half precision, of maximum 10."""
    impulse = np.zeros(patch)
    impulse[tuple(length // 2 for length in patch)] = 1
    filtered = gaussian_filter(impulse, [length / 8 for length in patch], mode="constant")
    half = (10 * filtered / filtered.max()).astype(np.float16)
    half[half == 0] = half[half > 0].min()
    return torch.from_numpy(half.astype(np.float32))


def monai_gaussian(patch: tuple[int, ...]) -> Tensor:
    """MONAI's weights, position by position."""
    weights = torch.empty(patch)
    for position in itertools.product(*map(range, patch)):
        exponent = sum(
            (i - (n - 1) / 2) ** 2 / (2 * (n / 8) ** 2) for i, n in zip(position, patch, strict=True)
        )
        weights[position] = math.exp(-exponent)
    return weights.clamp(min=max(1e-3, float(weights.min())))


def by_hand(network: nn.Module, x: Tensor, places: list[list[int]], weights: Tensor) -> Tensor:
    """Average one image's windows at all `places` along each axis, one after the other."""
    total, sums = torch.zeros(()), torch.zeros(())
    for start in itertools.product(*places):
        inside = [slice(i, i + n) for i, n in zip(start, weights.shape, strict=True)]
        part = (slice(None), slice(None), *inside)
        answer = network(x[part])
        mask, value = torch.zeros(x.shape[2:]).double(), x.new_zeros(1, answer.shape[1], *x.shape[2:])
        mask[tuple(inside)], value[part] = weights.double(), weights * answer
        total, sums = total + value, sums + mask
    return total / sums


@pytest.mark.parametrize("patch", [(64, 64), (33, 50), (7, 7, 7), (20, 32, 24), (24, 24, 24)])
def test_weights_of_nnunet_are_an_impulse_filtered_by_scipy(patch: tuple[int, ...]) -> None:
    assert torch.equal(window_weights(patch, "gaussian", "nnunet"), nnunet_gaussian(patch))


@pytest.mark.parametrize("patch", [(8, 8), (9, 16), (5, 6, 7)])
def test_weights_of_monai_fall_from_the_middle_to_a_thousandth(patch: tuple[int, ...]) -> None:
    assert_close(window_weights(patch, "gaussian", "monai"), monai_gaussian(patch))


def test_constant_weights_are_one() -> None:
    assert torch.equal(window_weights((2, 3), "constant", "monai"), torch.ones(2, 3))


@pytest.mark.parametrize(
    ("length", "side", "overlap", "layout", "starts"),
    [
        (100, 64, 0.5, "nnunet", [0, 18, 36]),
        (110, 64, 0.5, "nnunet", [0, 23, 46]),
        (100, 64, 0.5, "monai", [0, 32, 36]),
        (65, 64, 0.5, "nnunet", [0, 1]),
        (64, 64, 0.5, "nnunet", [0]),
        (64, 64, 0.25, "monai", [0]),
        (9, 4, 0.5, "nnunet", [0, 2, 3, 5]),  # 5 / 3 rounded: 0, 1.67, 3.33, 5
        (9, 4, 0.0, "monai", [0, 4, 5]),
        (10, 4, 0.0, "nnunet", [0, 3, 6]),
        (5, 3, 0.9, "monai", [0, 1, 2]),  # a step of at least 1
        (9, 4, 0.3, "monai", [0, 2, 4, 5]),  # int(2.8)
    ],
)
def test_starts_worked_out_by_hand(
    length: int, side: int, overlap: float, layout: Layout, starts: list[int]
) -> None:
    assert window_starts([length], [side], overlap, layout) == [(start,) for start in starts]


@pytest.mark.parametrize(
    ("layout", "weights", "expected"),
    [
        ("nnunet", "gaussian", nnunet_gaussian((4, 4))),
        ("monai", "gaussian", monai_gaussian((4, 4))),
        ("monai", "constant", torch.ones(4, 4)),
    ],
)
def test_answers_are_the_weighted_mean_of_windows(
    layout: Layout, weights: WindowWeights, expected: Tensor
) -> None:
    network, x = local(), random(1, 1, 9, 6)
    places = {"nnunet": [[0, 2, 3, 5], [0, 2]], "monai": [[0, 2, 4, 5], [0, 2]]}[layout]
    tiled = Tiled(network, patch=[4, 4], overlap=0.5, weights=weights, batch=3, layout=layout).eval()
    assert_close(tiled(x), by_hand(network, x, places, expected))


def test_volumes_have_windows_along_three_axes() -> None:
    network, x = local(3), random(1, 1, 5, 4, 6)
    tiled = Tiled(network, patch=[4, 4, 4], weights="gaussian", batch=2).eval()
    assert_close(tiled(x), by_hand(network, x, [[0, 1], [0], [0, 2]], nnunet_gaussian((4, 4, 4))))


def test_mirrored_answers_of_every_window_are_averaged_after_mirroring_back() -> None:
    network, x = local(), random(1, 1, 4, 6)

    class Mirrored(nn.Module):
        def forward(self, window: Tensor) -> Tensor:
            axes = [(), (2,), (3,), (2, 3)]
            return torch.stack([network(window.flip(axis)).flip(axis) for axis in axes]).mean(0)

    tiled = Tiled(network, patch=[4, 4], mirror=[0, 1]).eval()
    assert_close(tiled(x), by_hand(Mirrored(), x, [[0], [0, 2]], nnunet_gaussian((4, 4))))
    assert not torch.allclose(tiled(x), Tiled(network, patch=[4, 4]).eval()(x))


def test_smaller_images_are_padded_with_zeros_on_both_sides() -> None:
    network, x = local(), random(2, 1, 3, 5)
    padded = torch.zeros(2, 1, 6, 6).double()
    padded[..., 1:4, 0:5] = x  # 3 and 1 positions are lacking, the odd one comes last
    assert_close(Tiled(network, patch=[6, 6]).eval()(x), network(padded)[..., 1:4, 0:5])


@pytest.mark.parametrize("batch", [1, 2, 7, 100])
def test_no_call_exceeds_the_batch_and_answers_do_not_depend_on_it(batch: int) -> None:
    calls, x = Calls(), random(3, 1, 8, 9)
    answers = Tiled(calls, patch=[4, 5], batch=batch, mirror=[0]).eval()(x)
    assert_close(answers, x)
    assert {shape[1:] for shape in calls.sizes} == {(1, 4, 5)}
    assert max(shape[0] for shape in calls.sizes) == min(batch, 27)
    assert sum(shape[0] for shape in calls.sizes) == 2 * 27


def test_an_image_gets_alone_what_it_gets_in_a_batch() -> None:
    tiled, x = Tiled(local(), patch=[4, 4], batch=5).eval(), random(3, 1, 7, 6)
    assert_close(tiled(x), torch.cat([tiled(image[None]) for image in x]))


def test_gradients_are_exact() -> None:
    tiled = Tiled(local(), patch=[3, 4], mirror=[1], batch=2).eval()
    x = random(1, 1, 4, 5).requires_grad_()  # two windows along each axis
    assert torch.autograd.gradcheck(tiled, x)
    assert torch.autograd.gradgradcheck(tiled, x, fast_mode=True)


def test_gradients_reach_the_weights() -> None:
    network, x = local().requires_grad_(), random(1, 1, 4, 6)
    tiled = Tiled(network, patch=[4, 4]).eval()
    expected = by_hand(network, x, [[0], [0, 2]], nnunet_gaussian((4, 4)))
    for mine, theirs in zip(
        torch.autograd.grad(tiled(x).square().sum(), list(network.parameters())),
        torch.autograd.grad(expected.square().sum(), list(network.parameters())),
        strict=True,
    ):
        assert_close(mine, theirs)


def kept_bytes(network: nn.Module, x: Tensor) -> int:
    """Bytes that autograd keeps for the backward pass, each storage counted once."""
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        answers = network(x)
    assert answers.requires_grad
    return sum(storages.values())


def test_what_is_kept_for_gradients_does_not_grow_with_the_windows() -> None:
    network = nn.Sequential(local(), *(nn.Sequential(nn.Conv2d(2, 2, 1), nn.Tanh()) for _ in range(5)))
    tiled = Tiled(network.double().requires_grad_(False), patch=[8, 8], batch=1).eval()
    few, many = (kept_bytes(tiled, random(1, 1, 8, width).requires_grad_()) for width in (16, 64))
    assert many - few <= 8 * 8 * (64 - 16) * (1 + 1)  # a copy of the image, and the sum of weights


def test_in_training_the_network_sees_the_whole_input() -> None:
    calls, x = Calls(), random(2, 1, 8, 8)
    assert Tiled(calls, patch=[4, 4]).train()(x) is x
    assert calls.sizes == [(2, 1, 8, 8)]


def test_the_final_head_is_averaged_and_half_precision_in_single() -> None:
    class Heads(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x[..., ::2, ::2]

    x = random(1, 1, 4, 6, dtype=torch.float32).half()
    answers = Tiled(Heads(), patch=[4, 4]).eval()(x)
    assert answers.dtype == torch.float32
    assert_close(answers, x.float())


def test_weights_have_the_names_of_a_wrapper() -> None:
    assert set(Tiled(nn.Conv2d(1, 1, 1), patch=[4, 4]).state_dict()) == {"network.weight", "network.bias"}


def refusals() -> Iterator[tuple[dict[str, object], str]]:
    yield {"patch": []}, "patch must be lengths"
    yield {"patch": [4, 0]}, r"got \[4, 0\]"
    yield {"patch": [4, 4], "overlap": 1.0}, r"overlap must lie in \[0, 1\)"
    yield {"patch": [4, 4], "overlap": -0.1}, "overlap"
    yield {"patch": [4, 4], "mirror": [2]}, "axes from 0 to 1"
    yield {"patch": [4, 4], "mirror": [0, 0]}, "different axes"
    yield {"patch": [4, 4], "batch": 0}, "at least 1 window"


@pytest.mark.parametrize(("settings", "message"), list(refusals()))
def test_settings_out_of_range_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Tiled(nn.Identity(), **settings)  # type: ignore[arg-type]


def test_answers_of_another_size_and_images_of_other_axes_are_refused() -> None:
    with pytest.raises(InputError, match=r"logits of their size \(4, 4\), got \(2, 2\)"):
        Tiled(nn.MaxPool2d(2), patch=[4, 4]).eval()(random(1, 1, 8, 8))
    with pytest.raises(InputError, match=r"2 spatial axes, as many as patch \[4, 4\]"):
        Tiled(nn.Identity(), patch=[4, 4]).eval()(random(1, 1, 8, 8, 8))
