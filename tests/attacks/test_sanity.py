"""A check of gradients: silent for a network that can be followed, and not for those that hide them."""

import pytest
import torch
from torch import Tensor, nn

from seg_mia.attacks.sanity import sanity_check
from seg_mia.results.sanity import signs_of_masking
from tests.attacks.networks import discs, trained

pytestmark = pytest.mark.usefixtures("thorough_checks")


class Flat(nn.Module):
    """The network's labels: gradients are zero."""

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = trained()(x)
        return (output > 0).to(x) - 0.5 + 0 * output


class Misleading(nn.Module):
    """The network with a gradient of the wrong sign."""

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = trained()(x)
        return 2 * output.detach() - output


def test_a_network_that_can_be_followed_gives_no_sign() -> None:
    x, mask = discs(3, 5)
    check = sanity_check(trained(), x, mask, epsilon=0.03)
    assert check.images == 3
    assert check.zero_gradient == 0
    assert (check.dice_unbounded, list(signs_of_masking(check))) == (0, [])
    assert (check.dice_best or 1) < (check.dice_clean or 0)


def test_a_network_without_gradients_is_told() -> None:
    x, mask = discs(2, 5)
    signs = " ".join(signs_of_masking(sanity_check(Flat(), x, mask, epsilon=0.06)))
    assert "no gradient on 2 of 2 images" in signs
    assert "without gradients is stronger" in signs
    assert "unbounded attack leaves" in signs


def test_a_misleading_gradient_is_told() -> None:
    x, mask = discs(2, 5)
    signs = list(signs_of_masking(sanity_check(Misleading(), x, mask, epsilon=0.06)))
    assert any("without gradients is stronger" in sign for sign in signs)
    assert any("unbounded" in sign for sign in signs)


def test_images_without_a_labelled_pixel_are_no_sign() -> None:
    x, mask = discs(2, 5)
    mask[1] = 255
    check = sanity_check(trained(), x, torch.as_tensor(mask), epsilon=0.03)
    assert check.zero_gradient == 0


EPSILON = 0.04


class Turning(nn.Module):
    """Two channels about 0.5 with a gradient that turns: up in one, up in the other, and back.

    Steps of a quarter of the radius lead round a square. Ten of them end at its far corner, where the
    foreground is lost, twenty where they began.
    """

    def forward(self, x: Tensor) -> Tensor:
        away = (x - 0.5) / (EPSILON / 4)
        first, second = away[:, :1], away[:, 1:]
        up, beside = first > 0.5, second > 0.5
        along = (~up & ~beside).to(x) - (up & beside).to(x)
        across = (up & ~beside).to(x) - (~up & beside).to(x)
        value, slope = 1.5 - first - second, -(along * first + across * second)
        return value.detach() + slope - slope.detach()


class Grating(nn.Module):
    """Foreground but for a strip of grey levels, behind a gradient that says the brighter, the less of it."""

    def forward(self, x: Tensor) -> Tensor:
        away = (x - 0.5) / EPSILON
        strip = (away > 0.5) & (away < 1.5)
        return 1 - 2 * strip.to(x) - away + away.detach()


def test_more_steps_that_are_weaker_are_told() -> None:
    x, mask = torch.full((2, 2, 4, 4), 0.5), torch.ones(2, 4, 4, dtype=torch.int64)
    signs = list(signs_of_masking(sanity_check(Turning(), x, mask, epsilon=EPSILON)))
    assert "more steps leave a higher Dice (1.000 to 0.000)" in signs
    assert not any("larger radius" in sign for sign in signs)


def test_a_larger_radius_that_is_weaker_is_told() -> None:
    x, mask = torch.full((2, 1, 4, 4), 0.5), torch.ones(2, 4, 4, dtype=torch.int64)
    signs = list(signs_of_masking(sanity_check(Grating(), x, mask, epsilon=EPSILON)))
    assert "a larger radius leaves a higher Dice (1.000 to 0.000)" in signs
    assert not any("more steps" in sign for sign in signs)
