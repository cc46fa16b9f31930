import pytest
import torch
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)
from torch import Tensor

from seg_mia.errors import InputError
from seg_mia.models.unpadded_unet import UnpaddedUNet

TINY = (2, 3, 4, 5, 6)


def published_keys() -> list[str]:
    layers = [f"conv{k}_block.{i}" for k in range(1, 6) for i in (0, 2)]
    for k in range(1, 5):
        layers += [f"up_{k}", f"conv_up_{k}.0", f"conv_up_{k}.2"]
    return [f"{layer}.{part}" for layer in [*layers, "conv_final"] for part in ("weight", "bias")]


def by_hand(w: dict[str, Tensor], x: Tensor) -> Tensor:
    """The five-level network written out from the paper's drawing."""

    def twice(name: str, x: Tensor) -> Tensor:
        x = F.relu(F.conv2d(x, w[f"{name}.0.weight"], w[f"{name}.0.bias"]))
        return F.relu(F.conv2d(x, w[f"{name}.2.weight"], w[f"{name}.2.bias"]))

    def up(k: int, x: Tensor, skip: Tensor) -> Tensor:
        x = F.conv_transpose2d(x, w[f"up_{k}.weight"], w[f"up_{k}.bias"], stride=2)
        cut = (skip.shape[-1] - x.shape[-1]) // 2
        return twice(f"conv_up_{k}", torch.cat([x, skip[..., cut:-cut, cut:-cut]], 1))

    one = twice("conv1_block", x)
    two = twice("conv2_block", F.max_pool2d(one, 2))
    three = twice("conv3_block", F.max_pool2d(two, 2))
    four = twice("conv4_block", F.max_pool2d(three, 2))
    five = twice("conv5_block", F.max_pool2d(four, 2))
    x = up(4, up(3, up(2, up(1, five, four), three), two), one)
    return F.conv2d(x, w["conv_final.weight"], w["conv_final.bias"])


def test_state_dict_has_the_published_keys() -> None:
    assert sorted(UnpaddedUNet(widths=TINY).state_dict()) == sorted(published_keys())


def test_number_of_parameters() -> None:
    def convolution(before: int, after: int, side: int) -> int:
        return before * after * side**2 + after

    widths = (32, 64, 128, 256, 512)
    down = sum(
        convolution(a, b, 3) + convolution(b, b, 3) for a, b in zip((3, *widths), widths, strict=False)
    )
    up = sum(convolution(2 * b, b, 2) + convolution(2 * b, b, 3) + convolution(b, b, 3) for b in widths[:-1])
    with torch.device("meta"):
        network = UnpaddedUNet()
    assert sum(p.numel() for p in network.parameters()) == down + up + convolution(32, 2, 1) == 7_760_130


def test_572_gives_388() -> None:
    with torch.device("meta"):
        network, x = UnpaddedUNet(), torch.empty(1, 3, 572, 572)
    assert network(x).shape == (1, 2, 388, 388)
    assert network.output_size(572) == 388


def test_equals_the_network_written_out() -> None:
    torch.manual_seed(0)
    network, x = UnpaddedUNet(widths=TINY).double(), torch.rand(2, 3, 188, 204).double()
    y = network(x)
    assert y.shape == (2, 2, 4, 20)
    torch.testing.assert_close(y, by_hand(network.state_dict(), x), rtol=0, atol=1e-12)


def test_map_shows_the_centre_of_the_image() -> None:
    network = UnpaddedUNet(channels=1, classes=1, widths=(2, 2)).double()
    x = torch.rand(1, 1, 20, 20).double().requires_grad_()
    side = network.output_size(20)
    assert side == 4  # 20 - 4 = 16, / 2 = 8, - 4 = 4, * 2 = 8, - 4 = 4
    (gradient,) = torch.autograd.grad(network(x).sum(), x)
    assert torch.isfinite(gradient).all()
    assert network(x)[0, 0].shape == (side, side)


@pytest.mark.parametrize("levels", [2, 3, 5])
def test_output_size_is_what_the_network_returns_for_every_size_it_accepts(levels: int) -> None:
    with torch.device("meta"):
        network = UnpaddedUNet(channels=1, classes=1, widths=(1,) * levels)
        accepted = 0
        for size in range(1, 240):
            try:
                expected = network.output_size(size)
            except InputError:
                continue
            accepted += 1
            assert network(torch.empty(1, 1, size, size)).shape[-2:] == (expected, expected)
            assert (size - expected) % 2 == 0
    assert accepted >= 4


@pytest.mark.parametrize(
    ("size", "fitting"), [(573, "572 or 588"), (580, "572 or 588"), (100, "188"), (184, "188"), (0, "188")]
)
def test_refuses_a_size_that_does_not_fit_and_names_one_that_does(size: int, fitting: str) -> None:
    network = UnpaddedUNet(widths=TINY)
    with pytest.raises(InputError, match=f"got {size}; pad or crop the images to {fitting}$"):
        network.output_size(size)


def test_forward_refuses_what_it_cannot_take() -> None:
    network = UnpaddedUNet(widths=TINY)
    with pytest.raises(InputError, match="got 190; pad or crop"):
        network(torch.rand(1, 3, 188, 190))
    with pytest.raises(InputError, match="takes 3 channels, got images of 1"):
        network(torch.rand(1, 1, 188, 188))
    with pytest.raises(InputError, match="at least two levels"):
        UnpaddedUNet(widths=(4,))
