import pytest
import torch
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from seg_mia.errors import InputError
from seg_mia.models.stitched import Stitched, crop_sides


class Pointwise(nn.Module):
    """Each pixel's answer depends on that pixel alone."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((2 * x - 1, x**2), dim=1)


class Place(nn.Module):
    """Answers with the row and the column inside the crop, and keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.asked.append(x)
        count, _, height, width = x.shape
        rows = torch.arange(height, dtype=x.dtype).view(1, 1, -1, 1).expand(count, 1, height, width)
        columns = torch.arange(width, dtype=x.dtype).view(1, 1, 1, -1).expand(count, 1, height, width)
        return torch.cat((rows, columns), dim=1)


class Mean(nn.Module):
    """Every pixel's answer is the mean of its crop."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3), keepdim=True).expand_as(x)


class Deep(nn.Module):
    """The final head, and one at half its resolution."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return 3 * x, F.avg_pool2d(x, 2)


def asked(network: nn.Module, x: Tensor, size: int | None = None) -> Tensor:
    answer = Stitched(network, size=size).eval()(x)
    assert isinstance(answer, Tensor)
    return answer


def images(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.mark.parametrize("size", [None, 1, 3, 4, 6])
def test_where_a_pixel_decides_alone_stitching_changes_nothing(size: int | None) -> None:
    x = images(2, 3, 6, 11)
    assert_close(asked(Pointwise(), x, size), Pointwise()(x), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("shape", "size", "rows", "columns"),
    [
        ((4, 4), None, [0, 1, 0, 1], [0, 1, 0, 1]),
        ((5, 7), None, [0, 1, 0, 0, 1], [0, 1, 0, 1, 0, 0, 1]),
        ((5, 7), 3, [0, 1, 0, 1, 2], [0, 1, 2, 0, 0, 1, 2]),
        ((7, 4), 4, [0, 1, 2, 0, 1, 2, 3], [0, 1, 2, 3]),
        ((4, 6), 9, [0, 1, 2, 3], [0, 1, 0, 1, 2, 3]),
        ((1, 3), None, [0], [0, 0, 0]),
    ],
)
def test_crops_start_every_side_and_the_last_at_the_edge(
    shape: tuple[int, int], size: int | None, rows: list[int], columns: list[int]
) -> None:
    whole = asked(Place(), torch.zeros(2, 1, *shape), size)
    for image in whole:
        assert image[0].tolist() == [[row] * shape[1] for row in rows]
        assert image[1].tolist() == [columns] * shape[0]


@given(st.integers(1, 12), st.integers(1, 12), st.none() | st.integers(1, 14))
def test_every_pixel_lies_in_the_last_crop_that_holds_it(height: int, width: int, size: int | None) -> None:
    side = crop_sides(size, (height, width))[0]
    whole = asked(Place(), torch.zeros(1, 1, height, width), size)[0]
    for length, places in ((height, whole[0, :, 0]), (width, whole[1, 0])):
        edge = length - side
        assert places.tolist() == [at - edge if at >= edge else at % side for at in range(length)]


def test_of_overlapping_crops_the_one_further_right_or_down_is_shown() -> None:
    x = torch.arange(9.0).view(1, 1, 3, 3)  # the crops' means are 2, 3, 5 and 6
    whole = asked(Mean(), torch.cat((x, 10 * x)), 2)
    expected = torch.tensor([[2.0, 3, 3], [5, 6, 6], [5, 6, 6]])
    assert_close(whole[:, 0], torch.stack((expected, 10 * expected)))


def test_all_crops_go_through_the_network_as_one_batch() -> None:
    network, x = Place(), images(3, 2, 5, 4)
    asked(network, x, 2)
    (crops,) = network.asked
    assert crops.shape == (3 * 6, 2, 2, 2)
    assert torch.equal(crops[-3:], x[..., 3:5, 2:4])


@pytest.mark.parametrize(
    ("size", "image", "side"),
    [
        (None, (6, 10), 3),
        (None, (9, 4), 2),
        (None, (5, 5), 2),
        (None, (1, 8), 1),
        (4, (6, 10), 4),
        (8, (6, 10), 6),
        (1, (2, 2), 1),
    ],
)
def test_the_side_is_the_given_one_or_half_the_shorter_side(
    size: int | None, image: tuple[int, int], side: int
) -> None:
    assert crop_sides(size, image) == (side, side)


def test_in_training_the_network_sees_what_came_and_gives_what_it_gives() -> None:
    network, x = Place(), images(2, 1, 5, 7)
    assert torch.equal(Stitched(network, size=2).train()(x), Place()(x))
    assert [seen is x for seen in network.asked] == [True]
    heads = Stitched(Deep(), size=2).train()(x)
    assert isinstance(heads, tuple)
    for mine, expected in zip(heads, Deep()(x), strict=True):
        assert torch.equal(mine, expected)


def test_of_several_heads_the_final_one_is_stitched() -> None:
    x = images(2, 1, 6, 10)
    assert torch.equal(asked(Deep(), x, 4), 3 * x)


def test_an_image_gets_alone_what_it_gets_in_a_batch() -> None:
    network = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 3, 1)).double()
    x = images(4, 2, 7, 9)
    together = asked(network, x, 4)
    assert together.dtype == torch.float64
    for n in range(4):
        assert_close(together[n : n + 1], asked(network, x[n : n + 1], 4), rtol=0, atol=1e-12)


def test_the_gradient_is_that_of_the_answers_that_are_shown() -> None:
    x = images(2, 1, 2, 3).requires_grad_()
    (gradient,) = torch.autograd.grad(asked(Mean(), x, 2).sum(), x)
    # of two columns each, the left crop is shown in one, the right one in both
    assert_close(gradient, torch.tensor([0.5, 1.5, 1.0]).double().expand(2, 1, 2, 3))


def test_the_gradient_is_right_for_any_network() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Tanh()).double()
    assert torch.autograd.gradcheck(Stitched(network, size=3).eval(), images(1, 1, 4, 5).requires_grad_())


@pytest.mark.parametrize(
    ("network", "side"), [(nn.Conv2d(1, 1, 3), 2), (nn.Upsample(scale_factor=2), 8), (nn.MaxPool2d(2), 2)]
)
def test_logits_of_another_size_are_refused(network: nn.Module, side: int) -> None:
    with pytest.raises(InputError, match=rf"their size \(4, 4\), got \({side}, {side}\)"):
        asked(network, images(1, 1, 8, 8, dtype=torch.float32))


@pytest.mark.parametrize("size", [0, -3])
def test_a_side_below_one_pixel_is_refused(size: int) -> None:
    with pytest.raises(InputError, match=f"at least 1 pixel wide, got {size}; leave it out"):
        Stitched(Pointwise(), size=size)


def test_the_weights_are_the_networks() -> None:
    assert list(Stitched(nn.Conv2d(1, 1, 1)).state_dict()) == ["network.weight", "network.bias"]


def test_crops_of_flat_volumes_are_half_of_each_axis() -> None:
    shapes = []

    class Recorded(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            shapes.append(tuple(x.shape))
            return 2 * x

    x = torch.rand(1, 1, 4, 10, 13)
    with torch.no_grad():
        assert_close(Stitched(Recorded()).eval()(x), 2 * x)
    assert shapes == [(2 * 2 * 3, 1, 2, 5, 6)]
    assert crop_sides(None, (10, 13)) == (5, 5)
    assert crop_sides(8, (4, 10, 13)) == (4, 4, 4)
