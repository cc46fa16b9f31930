"""Transfer: momentum by hand, masks that move with their image, ensembles of surrogates."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from seg_mia.attacks.best import mask_dice
from seg_mia.attacks.pgd import pgd
from seg_mia.attacks.transfer import Surrogates, Transfer, _diversified, transfer
from seg_mia.errors import InputError
from tests.attacks.networks import Linear, discs, linear_data, trained


class Valley(nn.Module):
    """One logit per pixel, 10 |x - 0.47|: lowest at 0.47."""

    def forward(self, x: Tensor) -> Tensor:
        return 10 * (x - 0.47).abs()


@pytest.mark.parametrize(("momentum", "third"), [(0.0, 0.48), (1.0, 0.44)])
def test_momentum_by_hand(momentum: float, third: float) -> None:
    # Of truth 1 the logit is to fall: 0.5, 0.48, 0.46; there the gradient turns, the sum 1 + 1 - 1 does not.
    x, mask = torch.full((1, 1, 1, 2), 0.5, dtype=torch.float64), torch.ones(1, 1, 2, dtype=torch.int64)
    options: dict[str, Any] = {"epsilon": 0.5, "step_size": 0.02, "diverse": 0.0, "momentum": momentum}
    second = transfer(Valley(), x, mask, steps=2, **options).images
    assert_close(second, torch.full_like(x, 0.46))
    assert_close(transfer(Valley(), x, mask, steps=3, **options).images, torch.full_like(x, third))


def test_without_momentum_and_diversity_it_is_the_basic_iterative_method() -> None:
    x, mask = discs(4, 5)
    options: dict[str, Any] = {"epsilon": 0.04, "step_size": 0.01, "steps": 6}
    plain = transfer(trained(), x, mask, momentum=0.0, diverse=0.0, **options)
    assert_close(plain.images, pgd(trained(), x, mask, **options).images)
    assert_close(plain.notes["surrogate_dice"], mask_dice(trained()(plain.images), mask))


@pytest.mark.parametrize("size", [(16, 20), (8, 10, 6)])
def test_masks_move_with_their_image(size: tuple[int, ...]) -> None:
    # The image shows its mask: wherever it has a sure value, the moved mask agrees.
    mask = torch.randint(2, (2, *size), generator=torch.Generator().manual_seed(0))
    mask = mask.repeat_interleave(3, -1)[..., : size[-1]]
    draw, checked = torch.Generator().manual_seed(1), 0
    for _ in range(5):
        image, moved = _diversified(1.0 + mask.unsqueeze(1).double(), mask, 0.6, 1.0, draw)
        seen = image.squeeze(1)
        for value in (0, 1):
            sure = (seen - 1 - value).abs() < 1e-9
            assert ((moved == value) | (moved == 255))[sure].all()
            checked += int((moved == value)[sure].sum())
        assert (moved[seen < 0.4] == 255).all()
        assert (moved == 255).any()
    assert checked > 0


def test_an_ignored_pixel_stays_ignored_and_nothing_moves_without_diversity() -> None:
    x, mask = discs(2, 5)
    mask[:, 3:6] = 255
    draw = torch.Generator().manual_seed(0)
    image, same = _diversified(x, mask, 0.85, 0.0, draw)
    assert image is x
    assert same is mask
    _, moved = _diversified(x, mask, 0.99, 1.0, draw)
    assert (moved[:, 4] == 255).all()


def test_a_smaller_mask_shrinks_about_the_centre() -> None:
    x, mask = torch.zeros(1, 1, 20, 20), torch.ones(1, 8, 8, dtype=torch.int64)
    x[..., 9:11, 9:11] = 1.0
    for seed in range(4):
        image, moved = _diversified(x, mask, 0.5, 1.0, torch.Generator().manual_seed(seed))
        assert_close(image, image.flip(-1), atol=1e-6, rtol=0)
        assert (moved == moved.flip(1)).all()


def test_several_surrogates_are_the_mean_of_their_class_logits() -> None:
    x, mask = linear_data()
    both = Surrogates([Linear(1), Linear(2)])
    assert_close(both(x), Linear(2)(x))
    alone, together = (transfer(net, x, mask, steps=4).images for net in (Linear(2), both))
    assert_close(alone, together)
    with pytest.raises(InputError, match="outputs of one shape"):
        Surrogates([Linear(1), nn.AvgPool2d(2)])(x)


def test_images_of_one_network_fool_another() -> None:
    x, mask = discs(8, 9)
    other = nn.Sequential(*trained().children(), nn.BatchNorm2d(1, affine=False)).eval()
    result = transfer(other, x, mask, epsilon=0.06, step_size=0.01)
    assert mask_dice(trained()(result.images), mask).mean() < 0.8 * mask_dice(trained()(x), mask).mean()


def test_a_surrogate_must_be_named() -> None:
    with pytest.raises(InputError, match="needs the attacker's own network"):
        Transfer().check()
    Transfer(surrogate="run").check()


@pytest.mark.parametrize("knobs", [{"momentum": -1.0}, {"smallest": 0.0}, {"diverse": 1.5}, {"steps": 0}])
def test_options_outside_their_range_are_refused(knobs: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="at least"):
        Transfer(**knobs)
