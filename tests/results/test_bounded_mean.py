"""Intervals over images hold the mean, and are Clopper and Pearson's where images are all or nothing."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from seg_mia.membership.certify import clopper_pearson
from seg_mia.results.base import Average, Measure
from seg_mia.results.bounded_mean import dice_after, dice_lost, over_images
from seg_mia.results.perturbation import AttackedData, PerturbationSummary


def average(mean: float, std: float = 0.0, *, largest: float | None = None) -> Average:
    return Average(mean, std, None, None, largest)


def found(measure: Measure | None) -> tuple[float, float]:
    assert measure is not None
    assert measure.low is not None
    assert measure.high is not None
    return measure.low, measure.high


@pytest.mark.parametrize("images", [2, 4, 30, 101])
def test_images_that_all_came_out_alike_give_the_bound_of_n_of_n(images: int) -> None:
    least = 0.025 ** (1 / images)  # 0.398 of 4
    assert found(over_images(average(1.0), images)) == pytest.approx((least, 1.0))
    assert found(over_images(average(0.0), images)) == pytest.approx((0.0, 1 - least))


@pytest.mark.parametrize(("successes", "images"), [(1, 2), (1, 4), (9, 10), (50, 101)])
def test_images_that_are_all_or_nothing_give_clopper_and_pearson(successes: int, images: int) -> None:
    share = successes / images
    own = found(over_images(average(share, (share * (1 - share)) ** 0.5), images))
    assert own == pytest.approx(clopper_pearson(successes, images, level=0.025))


def test_of_many_images_it_is_1_96_standard_errors() -> None:
    assert found(over_images(average(0.5, 0.1), 10_000)) == pytest.approx((0.498, 0.502), abs=2e-4)


@pytest.mark.parametrize("value", [0.3, 0.999])
def test_images_of_one_value_leave_room_for_others(value: float) -> None:
    # One more image at 0 of n + 1 makes the mean n / (n + 1) of it; the other end has one at 1.
    low, high = found(over_images(average(value), 10))
    assert low < value * 10 / 11 < value < (value * 10 + 1) / 11 < high <= 1


def test_what_is_no_average_of_such_values_stays_within_bounds() -> None:
    low, high = found(over_images(average(0.99, 0.9), 5))
    assert 0 <= low <= 0.99 <= high <= 1
    assert found(over_images(average(0.0, 0.1), 5))[0] == 0
    assert over_images(average(0.5, 0.1), 1) == Measure(0.5)
    assert over_images(Average(None, None, None, None, None), 9) == Measure(None)


@pytest.mark.parametrize("images", [2, 4, 8, 16, 50])
@pytest.mark.parametrize(
    ("drawn", "mean"),
    [
        (lambda rng, size: rng.beta(2, 2, size), 0.5),
        (lambda rng, size: rng.beta(10, 1.5, size), 10 / 11.5),
        (lambda rng, size: 1.0 * (rng.random(size) < 0.03), 0.03),
        (lambda rng, size: np.where(rng.random(size) < 0.9, 0.9, 0.05), 0.815),
    ],
)
def test_nineteen_of_twenty_hold_the_mean(
    drawn: Callable[[np.random.Generator, tuple[int, int]], NDArray[np.float64]], mean: float, images: int
) -> None:
    values = drawn(np.random.default_rng(0), (1000, images))
    own = [found(over_images(average(float(one.mean()), float(one.std())), images)) for one in values]
    assert np.mean([low <= mean <= high for low, high in own]) >= 0.95


def fooled(after: Average, *, images: int = 4, before: float = 0.6) -> PerturbationSummary:
    return PerturbationSummary(
        attack={},
        attacker_knowledge="weights",
        is_targeted=False,
        victim="victim",
        data=AttackedData(fingerprint=None, subset="nonmembers", role="victim"),
        images=images,
        units=images,
        undefined=0,
        unchanged=0,
        no_gradient=0,
        results={"dice_clean": average(before, 0.2), "dice_adversarial": after},
        success=[],
        strengths=[],
    )


def test_a_dice_lost_on_four_images_is_not_lost_for_sure() -> None:
    one = fooled(average(0.0, largest=0.0))
    assert found(dice_lost(one)) == pytest.approx((0.025**0.25, 1.0))  # 0.398: no more is known
    assert found(dice_after(one)) == pytest.approx((0.0, 0.6 * (1 - 0.025**0.25)))


def test_an_image_that_is_better_after_widens_the_range() -> None:
    alike = found(dice_after(fooled(average(0.6, 0.2, largest=0.6))))
    better = found(dice_after(fooled(average(0.6, 0.2, largest=0.9))))
    assert alike[1] == pytest.approx(0.6)
    assert 0.6 < better[1] <= 0.9


def test_without_a_dice_before_or_after_nothing_is_lost() -> None:
    one = fooled(average(0.0))
    assert dice_lost(one.model_copy(update={"results": {}})) is None
    assert dice_lost(fooled(average(0.0), before=0.0)) is None
