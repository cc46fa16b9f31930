"""Several signals at once, against another library's densities and in worlds of known best attack."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from seg_mia.errors import InputError
from seg_mia.membership import auc
from seg_mia.membership.fleet import dense_lira, lira_online, lira_vector, pooled_cells
from seg_mia.membership.fleet.covariance import pooled_covariance
from tests.membership.fleet.worlds import coins, members_of

COVARIANCE = np.array([[1.0, 0.8, 0.0], [0.8, 2.0, 0.3], [0.0, 0.3, 0.5]])
EFFECT = np.array([0.6, -0.2, 0.3])


def world(inside: NDArray[np.bool_], seed: int) -> NDArray[np.float64]:
    generator = np.random.default_rng(seed)
    easy = generator.normal(0, 2, (inside.shape[1], 3))
    noise = generator.multivariate_normal(np.zeros(3), COVARIANCE, size=inside.shape)
    return np.asarray(easy + inside[:, :, None] * EFFECT + noise, dtype=np.float64)


def test_the_ratio_is_that_of_two_normal_densities() -> None:
    generator = np.random.default_rng(0)
    inside = members_of(generator, 8, 50)
    signals, target = world(inside, 1), generator.normal(size=(50, 3))
    expected = np.zeros(50)
    for sign, side in ((1, inside), (-1, ~inside)):
        covariance = pooled_covariance(signals, side)
        for sample in range(50):
            mean = signals[side[:, sample], sample].mean(axis=0)
            expected[sample] += sign * stats.multivariate_normal.logpdf(target[sample], mean, covariance)
    np.testing.assert_allclose(lira_vector(target, signals, inside, density="pooled"), expected)


def test_separate_densities_are_those_of_single_signals_and_best_where_signals_are_independent() -> None:
    generator = np.random.default_rng(10)
    inside = coins(generator, 97, 2000)
    noise = generator.normal(size=(*inside.shape, 2))
    signals = generator.normal(0, 2, (2000, 2)) + inside[:, :, None] * np.array([1.0, 0.7]) + noise
    scores = lira_vector(signals[0], signals[1:], inside[1:])
    each = [lira_online(signals[0, :, i], signals[1:, :, i], inside[1:]) for i in range(2)]
    np.testing.assert_allclose(scores, each[0] + each[1])
    best = stats.norm.cdf(math.sqrt((1 + 0.49) / 2))
    assert auc(scores, inside[0]) == pytest.approx(best, abs=0.025)


def test_the_pooled_covariance_is_that_within_samples() -> None:
    inside = members_of(np.random.default_rng(2), 8, 4000)
    np.testing.assert_allclose(pooled_covariance(world(inside, 3), inside), COVARIANCE, atol=0.06)


def test_a_covariance_of_few_networks_is_drawn_towards_its_diagonal() -> None:
    inside = np.array([[True] * 3, [True] * 3, [False] * 3, [False] * 3])
    signals = world(inside, 4)
    strayed = signals[:2] - signals[:2].mean(axis=0)
    plain = np.einsum("kni,knj->ij", strayed, strayed) / 3
    shrunk = pooled_covariance(signals, inside)
    np.testing.assert_allclose(np.diag(shrunk), np.diag(plain))
    off = ~np.eye(3, dtype=bool)
    weights = shrunk[off] / plain[off]
    np.testing.assert_allclose(weights, weights[0])
    assert 0 <= weights[0] < 1


def test_many_networks_reach_the_best_attack_and_one_signal_does_not() -> None:
    # Known densities: AUC = Phi(sqrt(d' S^-1 d / 2)).
    inside = coins(np.random.default_rng(5), 97, 3000)
    signals = world(inside, 6)
    distance = EFFECT @ np.linalg.solve(COVARIANCE, EFFECT)
    best = stats.norm.cdf(math.sqrt(distance / 2))
    rest = signals[0], signals[1:], inside[1:]
    for density in ("joint", "pooled"):
        assert auc(lira_vector(*rest, density=density), inside[0]) == pytest.approx(best, abs=0.025)
    assert auc(dense_lira(*rest), inside[0]) == pytest.approx(best, abs=0.025)
    alone = auc(lira_online(signals[0, :, 0], signals[1:, :, 0], inside[1:]), inside[0])
    assert alone == pytest.approx(stats.norm.cdf(0.6 / math.sqrt(2)), abs=0.03)
    assert alone < best - 0.05


def test_the_matched_filter_by_hand() -> None:
    # Differences of all samples are alike up to noise, so the direction is their mean.
    inside = members_of(np.random.default_rng(7), 6, 400)
    signals = world(inside, 8)
    target = np.zeros((400, 3))
    scores = dense_lira(target, signals, inside)
    means = [
        np.stack([signals[side[:, i], i].mean(axis=0) for i in range(400)]) for side in (inside, ~inside)
    ]
    direction = (means[0] - means[1]).mean(axis=0)
    weights = np.linalg.solve(COVARIANCE, direction)
    expected = -((means[0] + means[1]) / 2) @ weights
    assert np.corrcoef(scores, expected)[0, 1] > 0.99


def test_cells_are_means_over_valid_pixels() -> None:
    maps = np.arange(24.0).reshape(1, 4, 6)
    valid = np.ones((1, 4, 6), dtype=bool)
    valid[0, 0, 0] = False
    valid[0, 2:, 3:] = False
    kept = maps[valid]
    expected = [[(1 + 2 + 6 + 7 + 8) / 5, (3 + 4 + 5 + 9 + 10 + 11) / 6, 16.0, kept.mean()]]
    np.testing.assert_allclose(pooled_cells(maps, valid, cells=2), expected)


def test_refuses() -> None:
    inside = members_of(np.random.default_rng(9), 4, 6)
    with pytest.raises(InputError, match="takes several signals"):
        lira_vector(np.ones(6), np.ones((4, 6)), inside)
    with pytest.raises(InputError, match="equal for all"):
        lira_vector(np.ones((6, 2)), np.ones((4, 6, 2)), inside, density="pooled")
    with pytest.raises(InputError, match="covariance needs samples inside, or outside, 2"):
        lira_vector(np.ones((6, 2)), np.ones((2, 6, 2)), inside[:2], density="pooled")
    with pytest.raises(InputError, match="fewer cells"):
        pooled_cells(np.ones((2, 4, 4)), cells=5)
    with pytest.raises(InputError, match="1 of 2 have none"):
        pooled_cells(np.ones((2, 4, 4)), np.stack([np.ones((4, 4)), np.zeros((4, 4))]).astype(bool), cells=2)
