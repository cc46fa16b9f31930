"""Lower bounds on the privacy loss of a Gaussian mechanism from one training."""

from functools import lru_cache

import numpy as np
import pytest
from scipy import integrate, special, stats

from seg_mia.errors import InputError
from seg_mia.membership.certify import one_run_lower_bound
from seg_mia.membership.gaussian_one_run import error_chances, gaussian_one_run_bound, gaussian_p_value

DELTA = 1e-3


def coins(count: int, errors: int) -> tuple[np.ndarray, np.ndarray]:
    """Return scores and coins, half of them inserted, of which `errors` (even) are guessed wrongly."""
    inserted = np.arange(count) < count // 2
    scores = inserted.astype(float)
    scores[: errors // 2], scores[count // 2 : count // 2 + errors // 2] = 0.0, 1.0
    return scores, inserted


@pytest.mark.parametrize(("count", "errors", "epsilon"), [(100, 10, 6.7), (300, 30, 8.2), (100, 20, 3.2)])
def test_published_bounds(count: int, errors: int, epsilon: float) -> None:
    bound = gaussian_one_run_bound(*coins(count, errors), delta=DELTA)
    assert bound.epsilon == pytest.approx(epsilon, abs=0.05)
    assert bound.rule == "gaussian_one_run"


def test_bound_of_a_pair_is_far_lower() -> None:
    scores, inserted = coins(300, 30)
    assert one_run_lower_bound(scores, inserted, delta=DELTA, guesses=300).epsilon < 2.5


def test_perfect_guesses_have_no_low_ceiling() -> None:
    bound = gaussian_one_run_bound(*coins(300, 0), delta=DELTA)
    assert bound.epsilon == bound.attainable > 20


def test_chance_proves_nothing() -> None:
    assert gaussian_one_run_bound(*coins(100, 50), delta=DELTA).epsilon == 0


def test_error_chances_of_a_single_canary_by_integration() -> None:
    mu = 1.5

    def error(w: float) -> float:
        density = (stats.norm.pdf(w) + stats.norm.pdf(w - mu)) / 2
        return float(density * special.expit(-abs(mu * mu / 2 - mu * w)))

    # It is the error of the best test: Phi(-mu / 2).
    assert error_chances(1, mu)[0] == pytest.approx(stats.norm.cdf(-mu / 2), rel=1e-4)
    assert error_chances(1, mu)[0] == pytest.approx(integrate.quad(error, -9, 9 + mu)[0], rel=1e-4)


def test_error_chances_fall_and_average_to_the_best_test() -> None:
    chances = error_chances(600, 2.0)
    assert (np.diff(chances) <= 1e-12).all()
    assert chances.mean() == pytest.approx(stats.norm.cdf(-1.0), rel=1e-3)


def test_p_value_bounds_the_binomial_of_equal_errors() -> None:
    # Without privacy loss each guess is a coin toss: Chernoff's bound is above the binomial tail.
    assert (
        stats.binom.cdf(30, 100, 0.5) <= gaussian_p_value(100, 30, 1e-6) < 10 * stats.binom.cdf(30, 100, 0.5)
    )


@lru_cache
def rejected(errors: int, mu: float) -> bool:
    return gaussian_p_value(200, errors, mu) < 0.05


@pytest.mark.parametrize("mu", [0.5, 1.0, 2.05, 3.0])
def test_true_mechanisms_are_rejected_in_at_most_a_twentieth_of_200_trainings(mu: float) -> None:
    generator, rejections = np.random.default_rng(0), 0
    for _ in range(200):
        inserted = generator.random(200) < 0.5
        scores = generator.normal(size=200) + mu * inserted
        guessed = np.zeros(200, dtype=bool)
        guessed[np.argsort(-scores)[:100]] = True
        rejections += rejected(int((guessed != inserted).sum()), mu)
    assert rejections <= 10


def test_strong_canaries_refute_a_smaller_promise() -> None:
    generator = np.random.default_rng(1)
    inserted = generator.random(300) < 0.5
    bound = gaussian_one_run_bound(generator.normal(size=300) + 2.05 * inserted, inserted, delta=1 / 3000)
    assert 3.5 < bound.epsilon < 8.5  # 8.5 is the mechanism's own


def test_coins_must_be_fair() -> None:
    with pytest.raises(InputError, match="fair coin"):
        gaussian_one_run_bound(np.arange(300.0), np.arange(300) < 20, delta=DELTA)
