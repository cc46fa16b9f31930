"""Rounded frequencies: the transform against SciPy's, rounding by hand, and a victim that is misled."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.fft import dctn
from torch import Tensor, nn
from torch.testing import assert_close

from seg_mia.attacks.best import mask_dice
from seg_mia.attacks.frequency import Blocks, Frequency, Tables, cosines, frequency
from seg_mia.errors import InputError
from tests.attacks.networks import discs, trained


def test_the_transform_of_a_block_is_that_of_scipy() -> None:
    x = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values = Blocks(x, 8).values
    assert values.shape == (2, 3, 6, 64)
    block = 255 * x[1, 2, 8:16, 16:24].numpy()
    assert_close(values[1, 2, 5].view(8, 8), torch.from_numpy(dctn(block, norm="ortho")))
    volume = torch.rand(1, 1, 4, 8, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    cube = 255 * volume[0, 0, :, 4:].numpy()
    assert_close(Blocks(volume, 4).values[0, 0, 1].view(4, 4, 4), torch.from_numpy(dctn(cube, norm="ortho")))


@pytest.mark.parametrize("size", [(16, 16), (13, 10), (5, 9, 6)])
def test_frequencies_come_back_from_blocks_of_any_size(size: tuple[int, ...]) -> None:
    x = torch.rand(2, 3, *size, dtype=torch.float64)
    blocks = Blocks(x, 4)
    # A step of nearly 0 rounds nothing.
    assert_close(blocks.rounded(torch.full_like(blocks.values, 1e-9)), x)
    # Steps of 1: a frequency moves by half a level at most.
    change = 255 * (blocks.rounded(blocks.table("image")) - x)
    assert 0 < change.abs().max() <= 0.5 * 4 ** (len(size) / 2)


def test_rounding_by_hand_and_its_gradient() -> None:
    # One constant block of 2 x 2: its only frequency is 2 * 255 * 0.1 = 51, at a step of 20 rounded to 60.
    x = torch.full((1, 1, 2, 2), 0.1, dtype=torch.float64)
    blocks = Blocks(x, 2)
    table = torch.full((1, 1, 1, 4), 20.0, dtype=torch.float64, requires_grad=True)
    image = blocks.rounded(table)
    assert_close(image, torch.full_like(x, 30 / 255))
    (gradient,) = torch.autograd.grad(image.sum(), table)
    # The slope of q round(v / q) is 3, that of the cubic -3 (51/20 - 3)^2 51/20; 4 pixels of 1 / (2 * 255).
    assert gradient[0, 0, 0, 0].item() == pytest.approx(2 / 255 * (3 - 3 * 0.45**2 * 51 / 20))
    assert_close(cosines(2, x) @ cosines(2, x).T, torch.eye(2, dtype=torch.float64))


class Brightness(nn.Module):
    """One logit per pixel, positive above 0.5."""

    def forward(self, x: Tensor) -> Tensor:
        return 40 * (x - 0.5)


def test_a_block_near_the_boundary_is_rounded_across_it() -> None:
    # Its frequency, 8 times the level 127, is below the boundary's 1020; a larger step rounds it up.
    x = torch.full((1, 1, 8, 8), 127 / 255, dtype=torch.float64)
    mask = torch.zeros(1, 8, 8, dtype=torch.int64)
    result = frequency(Brightness(), x, mask, strongest=20, steps=20, loss="cross_entropy")
    assert result.notes["dice"].item() == 0
    assert np.ptp(result.images.numpy()) < 1e-9
    assert 0.5 / 255 < (result.images - x).max() <= 10 / 8 / 255


@pytest.mark.parametrize("tables", ["image", "block"])
def test_of_several_blocks_those_within_reach_are_rounded_across(tables: Tables) -> None:
    """Frequencies move by at most 10: of 1016 and 1018 to above 1020, not of 800; 1280 stays above."""
    levels = torch.tensor([[127, 127.25], [100, 160]], dtype=torch.float64)
    x = levels.repeat_interleave(8, 0).repeat_interleave(8, 1)[None, None] / 255
    mask = (x[:, 0] > 0.5).long()
    result = frequency(Brightness(), x, mask, strongest=20, steps=20, tables=tables)
    # One block is true foreground, two more become it: the worst case, 2 / (2 + 2).
    assert result.notes["dice"].item() == pytest.approx(0.5)
    assert mask_dice(Brightness()(result.images), mask).item() == pytest.approx(0.5)
    change = 8 * 255 * (result.images - x)
    assert change.abs().max() <= 10
    assert (change[0, 0, :8] > 2 - 1e-9).all()


def test_each_block_may_have_its_own_table_and_similarity_restrains() -> None:
    x, mask = discs(4, 5)

    def left(**knobs: Any) -> tuple[float, float]:
        result = frequency(trained(), x, mask, steps=8, **knobs)
        assert_close(mask_dice(trained()(result.images), mask), result.notes["dice"])
        return float(result.notes["dice"].mean()), float((result.images - x).square().mean())

    shared, own = left(), left(tables="block")
    assert own[0] < shared[0] < float(mask_dice(trained()(x), mask).mean())
    assert left(similarity=100.0)[1] < shared[1]


@pytest.mark.parametrize("knobs", [{"strongest": 1.0}, {"block": 1}, {"steps": 0}, {"similarity": -1.0}])
def test_options_outside_their_range_are_refused(knobs: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="must be above 1"):
        Frequency(**knobs)
