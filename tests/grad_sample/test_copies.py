"""Units of several rows, such as augmented copies: their mean gradient is clipped, not each row's."""

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from seg_mia.grad_sample.clipping import Mode
from seg_mia.grad_sample.layers import Convolution, Layer, Linear
from tests.grad_sample.helpers import (
    assert_same,
    by_autograd,
    clipped,
    close,
    draw,
    every_mode,
    images,
    losses_of,
    small,
    trained,
)

UNITS = [[0, 0, 1, 1, 2, 2], [2, 0, 1, 0, 1, 2], [0, 0, 0, 1, 1, 1], [5, 5, 5, 5, 5, 5]]


@every_mode
def test_the_mean_over_copies_is_clipped_by_hand(mode: Mode) -> None:
    # Unit 3: (6, 0) and (0, 8), whose mean (3, 4) has norm 5; clipped rows would give (0.5, 0.5) instead.
    # Unit 9: (1, 0) and (-1, 0), whose mean is 0.
    x = torch.tensor([[6.0, 0.0], [0.0, 8.0], [1.0, 0.0], [-1.0, 0.0]])
    layer = nn.Linear(2, 1, bias=False)
    found = clipped(lambda rows: layer(x[rows])[:, 0], trained(layer), torch.tensor([3, 3, 9, 9]), mode=mode)
    assert_close(found.norms, torch.tensor([5.0, 0.0]))
    assert_close(found.sums, {"weight": torch.tensor([[0.6, 0.8]])})


@pytest.mark.parametrize("physical", [1, 4, 64])
@pytest.mark.parametrize("clip", [0.1, 1.0, 1e9])
@pytest.mark.parametrize("units", UNITS)
def test_fused_copies_equal_autograd_unit_by_unit(units: list[int], clip: float, physical: int) -> None:
    network = small()
    objective, parameters = losses_of(network, images(6)), trained(network)
    found = clipped(objective, parameters, torch.tensor(units), clip=clip, physical=physical)
    assert_same(found, by_autograd(objective, parameters, torch.tensor(units), clip))


def test_one_unit_moves_the_sum_by_the_clip_at_most_however_many_copies_it_has() -> None:
    network = small()
    objective, parameters = losses_of(network, 100 * images(12)), trained(network)
    units = torch.arange(12) // 4
    whole = clipped(objective, parameters, units, clip=0.5)
    for unit in range(3):
        rest = torch.nonzero(units != unit)[:, 0]

        def without(rows: Tensor, rest: Tensor = rest) -> Tensor:
            return objective(rest[rows])

        less = clipped(without, parameters, units[rest], clip=0.5)
        moved = torch.cat([(whole.sums[name] - less.sums[name]).flatten() for name in parameters]).norm()
        assert_close(moved, torch.tensor(0.5, dtype=torch.float64))


@pytest.mark.parametrize(
    ("layer", "x", "g", "weight"),
    [
        (Linear(), draw(6, 3, 5), draw(6, 3, 4, seed=1), draw(4, 5)),
        (
            Convolution((1, 1), (1, 1), (1, 1), 1),
            draw(6, 5, 3, 2),
            draw(6, 4, 3, 2, seed=1),
            draw(4, 5, 3, 3),
        ),
    ],
)
def test_norms_from_gram_matrices_join_the_positions_of_copies(
    layer: Layer, x: Tensor, g: Tensor, weight: Tensor
) -> None:
    summed = layer.weight_grad_sample(x, g, weight).reshape(3, 2, *weight.shape).sum(1)
    close(layer.squared_norm(x, g, weight, 2), summed.flatten(1).square().sum(1))


def test_copies_count_as_positions_where_the_cheaper_way_is_chosen() -> None:
    # 2 L (D + O) <= D O, for D = O = 8: L <= 2 positions, or 2 copies of one.
    x, weight = torch.zeros(4, 1, 8), torch.zeros(8, 8)
    assert [Linear().ghost_pays(x, x, weight, copies) for copies in (1, 2, 4)] == [True, True, False]
    network = nn.Linear(8, 8, bias=False).double()
    objective, units = losses_of(network, draw(4, 8)), torch.tensor([0, 0, 1, 1])
    found = clipped(objective, trained(network), units, clip=0.5)  # by Gram matrices
    assert_same(found, by_autograd(objective, trained(network), units, 0.5))
