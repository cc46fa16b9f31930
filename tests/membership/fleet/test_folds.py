"""Folds of a cross-validation as references: exact under the null, and an effect known in advance."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from seg_mia.errors import InputError
from seg_mia.membership.fleet.folds import fold_differences, fold_ranks, left_out_ranks
from seg_mia.membership.fleet.recipe import pooled_auc


def world(shift: float, samples: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    generator = np.random.default_rng(seed)
    fold = generator.permutation(np.arange(samples) % 5)
    inside = np.arange(5)[:, None] != fold
    easy = generator.normal(0, 2, samples)
    signals = easy + shift * inside + generator.normal(size=inside.shape)
    return signals + generator.normal(0, 1, (5, 1)), inside


def centred(signals: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(signals - np.median(signals, axis=1, keepdims=True))


def test_by_hand() -> None:
    signals = np.array([[1.0, 5.0], [4.0, 2.0], [6.0, 3.0]])
    inside = np.array([[False, True], [True, True], [True, False]])
    ranks = fold_ranks(signals, inside)
    # The first sample is lowest where it was left out, the second is not.
    assert (ranks.lowest, ranks.samples, ranks.chance) == (1, 2, 1 / 3)
    assert ranks.p_value == pytest.approx(1 - (2 / 3) ** 2)
    scores, members = fold_differences(signals, inside)
    # First sample: member 4 and non-member 1 against 6, then member 6 and non-member 1 against 4.
    assert scores[:, 0].tolist() == [-2, -5, 2, -3]
    assert scores[:, 1].tolist() == [5 - 2, 3 - 2, 2 - 5, 3 - 5]
    assert members.tolist() == [[True, True], [False, False]] * 2


def test_ties_are_shared() -> None:
    inside = ~np.eye(3, dtype=bool)
    assert fold_ranks(np.ones((3, 3)), inside).lowest == 1
    assert left_out_ranks(np.ones((3, 3)), inside).tolist() == [1, 1, 1]


def test_ranks_are_those_of_the_network_that_left_the_sample_out() -> None:
    # Columns: the lowest of three, the highest, and a tie with the lowest.
    signals = np.array([[1.0, 5.0, 2.0], [4.0, 6.0, 3.0], [6.0, 3.0, 2.0]])
    inside = np.array([[False, True, True], [True, False, True], [True, True, False]])
    assert left_out_ranks(signals, inside).tolist() == [1.5, 0.5, 1]


def test_nothing_is_found_where_nothing_is() -> None:
    areas, shares, claims = list[float](), list[float](), 0
    for seed in range(200):
        signals, inside = world(0, 200, seed)
        scores, members = fold_differences(centred(signals), inside)
        areas.append(pooled_auc(scores, members).value)
        ranks = fold_ranks(centred(signals), inside)
        shares.append(ranks.lowest / ranks.samples)
        claims += ranks.p_value <= 0.05
    assert np.mean(areas) == pytest.approx(0.5, abs=0.006)
    assert np.mean(shares) == pytest.approx(0.2, abs=0.006)
    assert claims <= 0.05 * 200 + 3 * math.sqrt(200 * 0.05 * 0.95)


def test_an_effect_is_measured() -> None:
    signals, inside = world(0.5, 8000, 0)
    scores, members = fold_differences(centred(signals), inside)
    # Deviation of a difference to the mean of three: sqrt(1 + 1 / 3).
    expected = stats.norm.cdf(0.5 / math.sqrt(2 * (1 + 1 / 3)))
    area = pooled_auc(scores, members)
    assert area.value == pytest.approx(expected, abs=0.012)
    assert area.low < expected < area.high
    assert fold_ranks(centred(signals), inside).p_value < 1e-9


def test_refuses() -> None:
    signals, inside = world(0, 20, 0)
    inside[:, 0] = True
    with pytest.raises(InputError, match="1 of 20 are not"):
        fold_ranks(signals, inside)
    with pytest.raises(InputError, match="there are 2"):
        fold_differences(signals[:2, :2], ~np.eye(2, dtype=bool))
