"""Scores from numbers, worked out by hand and in a simulation whose AUC is known."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

from seg_mia.errors import InputError
from seg_mia.membership import auc, calibrated, calibrated_threshold, loss_threshold, shadow_threshold

MEMBERS = np.array([True, True, False, False])
BALANCED = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0], [0, 1, 0, 1]], dtype=bool)
"""Four shadows in two pairs: each sample is in half of them."""
DIFFICULTY = np.array([0.0, 10.0, 20.0, 30.0])


def test_the_loss_threshold_is_the_shadows_mean_over_its_members() -> None:
    guesses = loss_threshold(np.array([0.2, 0.9]), np.array([0.1, 0.3, 0.6, 1.0]), MEMBERS)
    np.testing.assert_allclose(guesses.scores, [-0.2, -0.9])
    assert guesses.threshold == pytest.approx(-0.2)


def test_or_lies_where_the_shadows_balanced_accuracy_is_highest() -> None:
    threshold = shadow_threshold(np.array([0.1, 0.3, 0.6, 1.0]), MEMBERS, rule="shadow_roc")
    assert threshold == pytest.approx(-0.45)


def test_calibration_takes_the_mean_of_shadows_that_did_not_see_a_sample() -> None:
    seen = np.array([[False, True, False], [False, False, True]])
    shadows = np.array([[2.0, 1.0, 1.0], [4.0, 3.0, 7.0]])
    # Expected losses are (2 + 4) / 2, 3 and 1.
    np.testing.assert_allclose(calibrated(np.array([1.0, 0.5, 2.0]), shadows, seen), [2.0, 2.5, -1.0])


def test_a_shadow_on_the_other_half_is_subtracted() -> None:
    shadows, seen = np.array([[2.0, 1.0]]), np.zeros((1, 2), dtype=bool)
    np.testing.assert_allclose(calibrated(np.array([1.5, 4.0]), shadows, seen), [0.5, -3.0])


def test_the_threshold_lies_between_members_and_nonmembers_of_shadows_that_take_turns() -> None:
    # A loss is the difficulty, one less for members: their scores are 1, those of non-members 0.
    assert calibrated_threshold(DIFFICULTY - BALANCED, BALANCED) == pytest.approx(0.5)


def test_samples_that_a_shadow_is_not_judged_by_teach_no_threshold() -> None:
    losses = DIFFICULTY - BALANCED
    wrong = np.column_stack([losses, [[9.0], [-9.0], [9.0], [-9.0]]])
    seen = np.column_stack([BALANCED, np.zeros((4, 1), dtype=bool)])
    judged = np.column_stack([np.ones_like(BALANCED), np.zeros((4, 1), dtype=bool)])
    assert calibrated_threshold(wrong, seen, judged) == pytest.approx(0.5)


@pytest.mark.parametrize("shadows", [1, 2])
def test_shadows_that_cannot_take_turns_teach_none(shadows: int) -> None:
    # Of a pair of complementary shadows, one judges the other on members alone.
    assert calibrated_threshold((DIFFICULTY - BALANCED)[:shadows], BALANCED[:shadows]) == 0


@pytest.mark.parametrize("effect", [0.0, 1.0])
def test_calibration_takes_difficulty_out(effect: float) -> None:
    generator = np.random.default_rng(0)
    difficulty = generator.normal(0, 2, 2000)
    members = generator.permuted(np.arange(2000) < 1000)
    pairs = [generator.permuted(np.arange(2000) < 1000) for _ in range(4)]
    seen = np.stack([row for pair in pairs for row in (pair, ~pair)])

    def losses(trained: NDArray[np.bool_]) -> NDArray[np.float64]:
        noise: NDArray[np.float64] = generator.normal(0, 0.5, trained.shape)
        return difficulty - effect * trained + noise

    victim, shadows = losses(members), losses(seen)
    # Gaussian scores whose means differ by the effect: AUC = Phi(effect / sqrt(2 variance)).
    plain = norm.cdf(effect / np.sqrt(2 * (4 + 0.25)))
    better = norm.cdf(effect / np.sqrt(2 * (0.25 + 0.25 / 4)))
    assert auc(-victim, members) == pytest.approx(plain, abs=0.04)
    scores = calibrated(victim, shadows, seen)
    assert auc(scores, members) == pytest.approx(better, abs=0.03)
    if effect:  # without one there is nothing that a threshold could be chosen by
        assert calibrated_threshold(shadows, seen) == pytest.approx(effect / 2, abs=0.2)


@pytest.mark.parametrize(
    ("shadows", "seen", "telling"),
    [
        (np.ones((1, 2)), np.array([[True, False]]), "1 of 2 have none"),
        (np.ones(2), np.zeros(2, dtype=bool), r"must be \(shadows, n\)"),
        (np.ones((1, 2)), np.zeros((1, 2)), "seen bool of that shape"),
        (np.array([[1.0, np.nan]]), np.zeros((1, 2), dtype=bool), "1 of 2 are not"),
        (np.ones((1, 3)), np.zeros((1, 3), dtype=bool), r"victim must be \(n,\)"),
    ],
)
def test_refuses(shadows: NDArray[np.float64], seen: NDArray[np.bool_], telling: str) -> None:
    with pytest.raises(InputError, match=telling):
        calibrated(np.ones(2), shadows, seen)
