"""The square attack: sides by the published schedule, squares and stripes, queries, and no gradient."""

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from seg_mia.attacks.best import mask_dice
from seg_mia.attacks.pgd import pgd
from seg_mia.attacks.square import Access, Square, objective, sides, square
from seg_mia.errors import InputError
from tests.attacks.networks import Linear, Quadratic, discs, linear_data, trained

every_access = pytest.mark.parametrize("access", ["scores", "labels"])


class Hard(nn.Module):
    """The network's labels as logits: it has no gradient."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.seen = 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        output: Tensor = self.network(x)
        return (output > 0).to(x) - 0.5


@pytest.mark.parametrize(
    ("query", "expected"), [(1, 0.8), (11, 0.4), (51, 0.2), (201, 0.1), (8001, 0.8 / 2**9)]
)
def test_squares_shrink_as_published(query: int, expected: float) -> None:
    assert sides((1000, 1000), 0.8, query, 10_000) == (round(1000 * expected**0.5),) * 2
    assert sides((1000, 1000), 0.8, query // 10, 1000) in {
        sides((1000, 1000), 0.8, query - 1, 10_000), sides((1000, 1000), 0.8, query, 10_000)
    }  # fmt: skip


def test_a_side_is_that_of_a_cube_and_fits_into_the_image() -> None:
    assert sides((10, 10, 10), 0.512, 1, 10_000) == (8, 8, 8)
    assert sides((2, 100), 0.8, 1, 10_000) == (2, 2)
    assert sides((4, 4), 0.01, 9999, 10_000) == (1, 1)


def test_of_a_thin_volume_the_cube_spans_all_slices() -> None:
    assert sides((3, 40, 50), 0.25, 1, 10_000) == (3, 22, 22)  # 500 of 2000 pixels
    for query in (1, 300, 9999):
        assert sides((1, 40, 50), 0.5, query, 10_000) == (1, *sides((40, 50), 0.5, query, 10_000))


@every_access
def test_ball_range_and_queries(access: Access) -> None:
    x, mask = discs(3, 5)
    network = Hard(trained())
    result = square(network, x, mask, access=access, epsilon=0.06, queries=40)
    assert (result.images - x).abs().max() <= 0.06 + 1e-6
    assert result.images.min() >= 0
    assert result.images.max() <= 1
    assert network.seen == result.notes["queries"].sum() == 3 * 40
    assert_close(result.notes["dice"], mask_dice(trained()(result.images), mask))
    assert result.notes["dice"].mean() < mask_dice(trained()(x), mask).mean()


def test_labels_of_a_network_without_gradient_are_those_of_one_with_it() -> None:
    x, mask = discs(2, 5)
    networks = Hard(trained()), trained()
    hard, soft = (square(each, x, mask, access="labels", epsilon=0.05, queries=30) for each in networks)
    assert_close(hard.images, soft.images, rtol=0, atol=0)
    assert_close(pgd(Hard(trained()), x, mask).images, x)


def test_a_linear_network_is_brought_to_its_worst_case() -> None:
    # One pixel: of the four signs of two channels one is the worst, and is soon tried.
    x, mask = torch.full((1, 2, 1, 1), 0.5).double(), torch.zeros(1, 1, 1, dtype=torch.int64)
    result = square(Linear(), x, mask, epsilon=0.05, queries=30)
    assert_close(result.images.flatten(), torch.tensor([0.55, 0.45]).double())
    assert result.notes["dice"].item() == 0
    assert result.notes["queries"].item() < 30


@pytest.mark.parametrize("network", [Linear(), Quadratic()])
def test_every_pixel_is_brought_to_its_worst_case(network: nn.Module) -> None:
    # Of sixteen pixels each is tried alone often enough for the worst of its signs.
    draw, channels = torch.Generator().manual_seed(0), 2 if isinstance(network, Linear) else 1
    x = 0.3 + 0.4 * torch.rand(2, channels, 4, 4, generator=draw, dtype=torch.float64)
    mask, epsilon = (network(x)[:, 0] > 0).long(), 0.04
    moves = torch.cartesian_prod(*[torch.tensor([-epsilon, epsilon]).double()] * channels).view(-1, channels)
    logits = torch.stack([network(x + move.view(1, channels, 1, 1)) for move in moves])
    expected = mask_dice(torch.where(mask.unsqueeze(1) == 1, logits.amin(0), logits.amax(0)), mask)
    result = square(network, x, mask, epsilon=epsilon, queries=800, share=0.1)
    assert (expected < 0.95).any()
    assert_close(result.notes["dice"], expected)


def test_white_box_attacks_are_at_least_as_strong() -> None:
    x, mask = linear_data()
    blind, seeing = square(Linear(), x, mask, epsilon=0.02), pgd(Linear(), x, mask, epsilon=0.02)
    left = [mask_dice(Linear()(result.images), mask) for result in (blind, seeing)]
    assert (left[1] <= left[0]).all()
    assert (left[0] < 1).all()


def test_what_is_lowered_by_hand() -> None:
    logits = torch.tensor([[[[3.0, -4.0, 0.5, 1.0]]]])
    mask = torch.tensor([[[1, 1, 0, 255]]])
    assert objective(logits, mask, "scores").item() == pytest.approx((3 - 1 - 0.5) / 3)
    assert objective(logits, mask, "labels").item() == pytest.approx(2 * 1 / (2 + 2))


def test_the_attacker_sees_what_is_read() -> None:
    assert Square().attacker_knowledge == "probabilities"
    assert Square(access="labels").attacker_knowledge == "labels"
    for knobs in ({"queries": 1}, {"share": 0.0}, {"epsilon": 2.0}):
        with pytest.raises(InputError):
            Square(**knobs)
