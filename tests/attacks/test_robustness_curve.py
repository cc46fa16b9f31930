"""Worst cases over the radius: known in closed form, never rising for any image."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from seg_mia.attacks.best import mask_dice
from seg_mia.attacks.robustness_curve import Curve, robustness_curve
from seg_mia.errors import InputError
from seg_mia.models.following import is_followed
from tests.attacks.networks import WEIGHTS, Linear, discs, linear_data, trained
from tests.attacks.test_strength import least_dice

RADII = (0.5, 1.0, 4.0, 10.0)


@pytest.mark.parametrize("classes", [1, 2])
def test_each_radius_reaches_the_worst_case_of_a_linear_network(classes: int) -> None:
    x, mask = linear_data()
    logits = Linear()(x)
    result = robustness_curve(Linear(classes), x, mask, radii=RADII, steps=15)
    for radius in RADII:
        moved = radius / 255 * sum(map(abs, WEIGHTS))
        expected = least_dice(mask, logits - moved, logits + moved)
        assert_close(result.notes[f"dice.at_{radius:g}"].float(), expected, atol=0.01, rtol=0)
    assert_close(result.notes["dice"], result.notes["dice.at_10"])
    assert_close(mask_dice(Linear()(result.images), mask), result.notes["dice"].float())


def test_the_smallest_change_that_fools_a_linear_network() -> None:
    # All pixels alike: the logit 3 * 0.7 - 4 * 0.3 + 0.25 falls by 7 per unit, so all are lost at once.
    x, mask = torch.full((1, 2, 4, 4), 0.3).double(), torch.ones(1, 4, 4, dtype=torch.int64)
    x[:, 0] = 0.7
    boundary = (0.7 * 3 - 0.3 * 4 + 0.25) / 7
    result = robustness_curve(Linear(), x, mask, radii=(10, 30, 60), steps=10)
    assert 30 / 255 < boundary < 60 / 255
    # Six bisections of the 30 levels between the radii.
    least = result.notes["minimal_linf"].item()
    assert boundary <= least <= boundary + 30 / 255 / 2**6 + 1e-9
    none = robustness_curve(Linear(), x, mask, radii=(10, 30), steps=10)
    assert none.notes["minimal_linf"].isnan().all()


def test_no_image_has_a_higher_dice_in_a_larger_ball() -> None:
    x, mask = discs(6, 5)
    result = robustness_curve(trained(), x, mask, radii=RADII, steps=3)
    clean = mask_dice(trained()(x), mask)
    dice = torch.stack([clean, *(result.notes[f"dice.at_{radius:g}"] for radius in RADII)])
    assert (dice.diff(dim=0) <= 0).all()
    assert (dice[-1] < dice[0]).all()
    assert ((result.images - x).abs() <= 10 / 255 + 1e-6).all()
    # An image is fooled within a radius exactly if half of its Dice is lost there.
    least = result.notes["minimal_linf"].nan_to_num(nan=torch.inf)
    for radius, row in zip(RADII, dice[1:], strict=True):
        assert ((least <= radius / 255) == (row <= clean / 2)).all()


def test_points_are_of_what_a_query_is_answered() -> None:
    class Released(Linear):
        """Follows a network by which everything stays right, and releases another."""

        def forward(self, x: Tensor) -> Tensor:
            logits = super().forward(x)
            return logits if is_followed() else -logits

    x, mask = linear_data()
    result = robustness_curve(Released(), x, mask, radii=(1.0, 4.0), steps=3)
    for radius in (1.0, 4.0):
        plain = robustness_curve(Linear(), x, mask, radii=[n for n in (1.0, 4.0) if n <= radius], steps=3)
        released = mask_dice(Released()(plain.images), mask)
        assert_close(result.notes[f"dice.at_{radius:g}"].float(), released.float())
        assert not torch.allclose(released.float(), plain.notes["dice"].float())


def test_an_image_that_was_missed_before_any_attack_needs_no_change() -> None:
    x, mask = discs(1, 5)
    result = robustness_curve(trained(), x, 1 - mask, radii=(1,), steps=2)
    assert result.notes["dice.at_1"] <= mask_dice(trained()(x), 1 - mask)
    lost = robustness_curve(Linear(), torch.full((1, 2, 4, 4), 0.5), torch.ones(1, 4, 4).long(), radii=(1,))
    assert lost.notes["minimal_linf"].item() == 0


@pytest.mark.parametrize(
    "knobs",
    [{"radii": []}, {"radii": [2, 1]}, {"radii": [1, 1]}, {"radii": [300]}, {"steps": 0}, {"fooled": 1.0},
     {"losses": []}, {"losses": ["dice", "dice"]}],
)  # fmt: skip
def test_options_outside_their_range_are_refused(knobs: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="must be"):
        Curve(**knobs)
