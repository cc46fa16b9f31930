"""Universal changes: the best one is known for a linear network, and it carries over to other images."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from seg_mia.attacks.best import mask_dice
from seg_mia.attacks.universal import (
    Universal,
    _divided,
    apply_universal,
    fit_universal,
    sizes,
    tiled,
    universal,
)
from seg_mia.errors import InputError
from tests.attacks.networks import Linear, Quadratic, discs, trained


@pytest.mark.parametrize("truth", [0, 1])
def test_the_best_change_of_a_linear_network_is_known(truth: int) -> None:
    # The logit 3 red - 4 green + 1/4 falls most with red down and green up, in every pixel.
    draw = torch.Generator().manual_seed(0)
    x = 0.4 + 0.2 * torch.rand(6, 2, 8, 8, generator=draw)
    mask = torch.full((6, 8, 8), truth)
    change = fit_universal(Linear(), x, mask, epsilon=0.05, epochs=14, step_size=0.02, loss="cross_entropy")
    sign = 1 - 2 * truth
    assert_close(change, 0.05 * sign * torch.tensor([1.0, -1.0]).view(1, 2, 1, 1).expand(1, 2, 8, 8))


def test_the_best_change_of_a_quadratic_network_is_known() -> None:
    # Foreground above 0.4 is lost by the end farther from 0.4, background above it is found by the nearer.
    draw = torch.Generator().manual_seed(0)
    x = 0.46 + 0.07 * torch.rand(8, 1, 8, 8, generator=draw)
    x[..., 4:] += 0.1
    mask = (Quadratic()(x)[:, 0] > 0).long()
    assert mask[..., :4].all()
    assert not mask[..., 4:].any()
    change = fit_universal(Quadratic(), x[:6], mask[:6], epsilon=0.04, epochs=14, step_size=0.02)
    best = torch.full((1, 1, 8, 8), 0.04)
    best[..., 4:] = -0.04
    assert_close(change, best)
    left = apply_universal(Quadratic(), x[6:], mask[6:], change).notes["dice"]
    assert_close(left, mask_dice(1 - 50 * (x[6:] - 0.4 + best).square(), mask[6:]))
    assert (left < 0.7).all()


def test_a_tile_is_repeated_from_the_first_pixel_on() -> None:
    tile = torch.arange(6.0).view(1, 1, 2, 3)
    expected = torch.tensor([[0, 1, 2, 0], [3, 4, 5, 3], [0, 1, 2, 0.0]])
    assert_close(tiled(tile, (3, 4))[0, 0], expected)
    assert tiled(torch.zeros(1, 2, 2, 2, 2), (3, 5, 2)).shape == (1, 2, 3, 5, 2)


def test_a_change_fitted_to_some_images_fools_others_of_another_size() -> None:
    x, mask = discs(16, 3)
    others, truth = discs(8, 4)
    wide = torch.nn.functional.pad(others, (0, 5, 0, 3), value=0.4)
    padded = torch.nn.functional.pad(truth, (0, 5, 0, 3))
    change = fit_universal(trained(), x, mask, epsilon=0.08, step_size=0.02, tiles=(24,))
    assert change.abs().max() <= 0.08
    noise = 0.08 * (2 * torch.rand(change.shape, generator=torch.Generator().manual_seed(0)) - 1).sign()

    def left(images: torch.Tensor, masks: torch.Tensor, added: torch.Tensor) -> float:
        result = apply_universal(trained(), images, masks, added)
        assert_close(result.notes["dice"], mask_dice(trained()(result.images), masks))
        return float(result.notes["dice"].mean())

    for images, masks in ((others, truth), (wide, padded)):
        assert left(images, masks, change) < 0.8 * left(images, masks, noise)
    own = universal(trained(), x, mask, epsilon=0.08, step_size=0.02, tiles=(24,))
    assert_close(own.images, (x + tiled(change, x.shape[2:])).clamp(0, 1))


def test_images_that_a_tile_is_not_fitted_to_choose_it() -> None:
    x, mask = discs(16, 3)
    draw = torch.Generator().manual_seed(7)
    (fitted, _), (judging, truth) = _divided(x, mask, draw)
    assert (len(fitted), len(judging)) == (12, 4)
    assert not any(torch.equal(a, b) for a in fitted for b in judging)

    def left(tiles: tuple[int, ...]) -> float:
        change = fit_universal(trained(), x, mask, epsilon=0.05, epochs=4, tiles=tiles, seed=7)
        return float(apply_universal(trained(), judging, truth, change).notes["dice"].mean())

    for first, second in ((4, 24), (24, 4)):
        assert left((first, second)) <= left((first,))
    assert left((24, 4)) < left((24,)) or left((4, 24)) < left((4,))


def test_few_images_fit_and_judge_and_tiles_are_no_larger_than_the_image() -> None:
    x, mask = discs(7, 3)
    (fitted, _), (judging, _) = _divided(x, mask, torch.Generator())
    assert len(fitted) == len(judging) == 7
    assert sizes((8, 16, 64), (24, 12)) == [(8, 8), (16, 12), (24, 12)]


def test_each_network_has_its_own_change_and_a_stored_one_needs_no_fit(tmp_path: Path) -> None:
    x, mask = discs(4, 3)
    attack = Universal(epochs=1, epsilon=0.05)
    with pytest.raises(InputError, match="must be fitted before"):
        attack.run(trained(), x, mask)
    files = attack.fit(trained(), x, mask)
    result = attack.run(trained(), x, mask)
    assert_close(result.images, (x + tiled(files["universal"], x.shape[2:])).clamp(0, 1))
    np.save(tmp_path / "universal.npy", files["universal"].numpy())
    stored = Universal(fitted=str(tmp_path / "universal.npy"))
    stored.check(trained())
    assert_close(stored.run(trained(), x, mask).images, result.images)
    assert stored.attacker_knowledge != attack.attacker_knowledge
    assert stored.fit(trained(), x, mask) == {}


@pytest.mark.parametrize(
    ("values", "message"),
    [(np.zeros(3, np.float32), "one change"), (np.zeros((1, 1, 2, 2), np.int64), "one change"),
     (np.full((1, 1, 2, 2), np.nan), "finite"), (np.array([{}], dtype=object), "cannot be read")],
)  # fmt: skip
def test_files_that_hold_no_change_are_refused(tmp_path: Path, values: Any, message: str) -> None:
    np.save(tmp_path / "universal.npy", values)
    with pytest.raises(InputError, match=message):
        Universal(fitted=str(tmp_path / "universal.npy")).check()
    with pytest.raises(InputError, match="cannot be read"):
        Universal(fitted=str(tmp_path / "none.npy")).check()


def test_a_change_of_other_channels_is_refused() -> None:
    x, mask = discs(1, 3)
    with pytest.raises(InputError, match="1 channels"):
        apply_universal(trained(), x, mask, torch.zeros(1, 3, 4, 4))


@pytest.mark.parametrize(
    "knobs",
    [{"epochs": 0}, {"tiles": (0,)}, {"tiles": ()}, {"momentum": 1.0}, {"step_size": 0.0}, {"epsilon": 2.0}],
)
def test_options_outside_their_range_are_refused(knobs: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="must be"):
        Universal(**knobs)
