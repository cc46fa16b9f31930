"""Bounds on mu at one threshold: simulated mechanisms of known mu, and binomial tails by hand."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from seg_mia.errors import InputError
from seg_mia.membership.certify import epsilon_lower_bound
from seg_mia.membership.gaussian_threshold import few_errors, gaussian_threshold_bound, rejected_mu
from seg_mia.membership.tradeoff import gaussian_epsilon


def scores_of(
    generator: np.random.Generator, mu: float, members: int, nonmembers: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return scores of the best attack on a mu-Gaussian mechanism, of independent samples."""
    inside = np.arange(members + nonmembers) < members
    order = generator.permutation(len(inside))
    scores = generator.normal(size=len(inside)) + mu * inside
    return scores[order], inside[order]


@pytest.mark.parametrize(
    ("mu", "members", "nonmembers"), [(0.5, 256, 256), (2.0, 256, 256), (3.0, 256, 256), (3.0, 12, 200)]
)
def test_at_most_one_in_twenty_bounds_exceeds_the_truth(mu: float, members: int, nonmembers: int) -> None:
    generator, delta = np.random.default_rng(3), 1 / 2560
    bounds = [
        gaussian_threshold_bound(*scores_of(generator, mu, members, nonmembers), delta=delta).epsilon
        for _ in range(200)
    ]
    assert np.mean(np.array(bounds) > gaussian_epsilon(mu, delta)) <= 0.05


@pytest.mark.parametrize(
    ("mu", "count", "expected", "other"), [(2.0, 256, 5.1, 1.84), (3.0, 1000, 11.8, 3.8)]
)
def test_it_shows_far_more_than_any_pair_of_epsilon_and_delta(
    mu: float, count: int, expected: float, other: float
) -> None:
    generator, delta = np.random.default_rng(0), 1 / count
    drawn = [scores_of(generator, mu, count, count) for _ in range(20)]
    bounds = [gaussian_threshold_bound(*scores, delta=delta) for scores in drawn]
    assert np.mean([bound.epsilon for bound in bounds]) == pytest.approx(expected, abs=0.3)
    assert np.mean([bound.epsilon for bound in bounds]) < gaussian_epsilon(mu, delta)
    pairs = [epsilon_lower_bound(*scores, delta=delta).epsilon for scores in drawn[:5]]
    assert np.mean(pairs) == pytest.approx(other, abs=0.3)
    assert bounds[0].attainable > 2 * gaussian_epsilon(mu, delta) / 1.5
    assert (bounds[0].rule, bounds[0].members, bounds[0].nonmembers) == ("gaussian_threshold", count, count)


def test_errors_of_equal_groups_by_hand() -> None:
    """With as many non-members the threshold has both rates Phi(-mu / 2)."""
    rate = float(stats.norm.cdf(-0.75))
    expected = 2 * stats.binom.cdf(9, 60, rate)
    assert few_errors(60, 60, 9, 1.5) == pytest.approx(float(expected), rel=1e-9)
    mu = rejected_mu(60, 60, 9, 0.05)
    assert few_errors(60, 60, 9, mu) <= 0.05 < few_errors(60, 60, 9, mu + 1e-6) + 1e-9
    # No error of 60 on either side: (1 - p)^60 = 0.025.
    perfect = rejected_mu(60, 60, 0, 0.05)
    assert perfect == pytest.approx(-2 * stats.norm.ppf(1 - 0.025 ** (1 / 60)), abs=1e-6)


def test_errors_of_unequal_groups_lie_on_the_curve() -> None:
    """50 beta = 200 alpha and beta = Phi(Phi^-1(1 - alpha) - mu)."""
    mu, members, nonmembers = 1.2, 50, 200
    grid = np.linspace(1e-6, 0.25, 2_000_001)
    beta = stats.norm.cdf(stats.norm.ppf(1 - grid) - mu)
    alpha = float(grid[np.argmin(np.abs(members * beta - nonmembers * grid))])
    expected = stats.binom.cdf(5, members, nonmembers / members * alpha) + stats.binom.cdf(
        5, nonmembers, alpha
    )
    assert few_errors(members, nonmembers, 5, mu) == pytest.approx(float(expected), rel=1e-3)


def test_equal_scores_show_nothing_and_their_order_does_not_matter() -> None:
    members = np.arange(80) < 40
    found = [gaussian_threshold_bound(np.zeros(80), members, delta=1e-3, seed=seed) for seed in range(5)]
    assert max(bound.epsilon for bound in found) < 0.5
    reversed_scores = gaussian_threshold_bound(-1.0 * members, members, delta=1e-3)
    assert reversed_scores.epsilon == 0


def test_more_confidence_shows_less() -> None:
    drawn = scores_of(np.random.default_rng(1), 2.0, 100, 80)
    bounds = [
        gaussian_threshold_bound(*drawn, delta=1e-3, confidence=level).epsilon for level in (0.9, 0.95, 0.999)
    ]
    assert bounds == sorted(bounds, reverse=True)
    assert math.isfinite(bounds[0])


@pytest.mark.parametrize(("delta", "confidence"), [(0.0, 0.95), (1.0, 0.95), (1e-3, 1.0)])
def test_impossible_settings_are_refused(delta: float, confidence: float) -> None:
    with pytest.raises(InputError, match="between 0 and 1"):
        gaussian_threshold_bound(np.arange(8.0), np.arange(8) < 4, delta=delta, confidence=confidence)
