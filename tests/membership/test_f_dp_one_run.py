"""Lower bounds on the privacy loss of a Gaussian mechanism from its trade-off function and one training."""

from functools import lru_cache, partial

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import optimize, stats

from seg_mia.errors import InputError
from seg_mia.membership.certify import Certified, one_run_lower_bound
from seg_mia.membership.f_dp_one_run import f_dp_one_run_bound, refuted
from seg_mia.membership.gaussian_one_run import gaussian_one_run_bound
from seg_mia.membership.tradeoff import gaussian_epsilon
from seg_mia.results.privacy import EpsilonLowerBound

DELTA = 1e-3


def coins(samples: int, guesses: int, right: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return scores and coins whose `guesses` outermost have as many right guesses, about half each."""
    scores = np.arange(samples, dtype=np.float64)
    inserted = scores >= samples / 2
    wrong = guesses - right
    inserted[: wrong // 2] = True
    inserted[samples - (wrong - wrong // 2) :] = False
    return scores, inserted


@pytest.mark.parametrize(
    ("samples", "guesses", "right", "epsilon"),
    [
        (100, 50, 50, 4.27057),
        (100, 50, 45, 1.94139),
        (300, 150, 140, 2.80115),
        (300, 300, 270, 2.66708),
        (1000, 500, 450, 2.38667),
        (200, 100, 60, 0.02689),
    ],
)
def test_bounds_of_jax_privacy(samples: int, guesses: int, right: int, epsilon: float) -> None:
    # jax_privacy 2.0.0, `_epsilon_one_run_fdp` at significance 0.05 and delta 1e-3.
    bound = f_dp_one_run_bound(*coins(samples, guesses, right), delta=DELTA, guesses=guesses)
    assert bound.epsilon == pytest.approx(epsilon, abs=4e-3)
    assert bound.rule == "f_dp_one_run"
    assert bound.members + bound.nonmembers == guesses


@pytest.mark.parametrize(
    ("samples", "guesses", "right", "mu"),
    [(20, 10, 9, 0.8), (20, 20, 16, 0.8), (30, 12, 12, 1.2), (16, 16, 10, 0.5), (30, 12, 11, 2.0)],
)
def test_refuted_levels_are_above_the_largest_probability_by_linear_programming(
    samples: int, guesses: int, right: int, mu: float
) -> None:
    most = largest_probability(samples, guesses, right, mu)
    assert not refuted(samples, guesses, right, mu=mu, alpha=min(1.0, most - 1e-3))
    assert most > 0.999 or refuted(samples, guesses, right, mu=mu, alpha=most + 1e-3)


def largest_probability(samples: int, guesses: int, right: int, mu: float) -> float:
    """Return the largest chance of `right` correct guesses that the theorem's inequalities leave.

    r_k <= 1 - f(h_(k-1)) for each k, the concave right side as the lowest of its tangents.
    """
    z = np.linspace(-6, 4, 200)
    values, slopes = stats.norm.cdf(z + mu), stats.norm.pdf(z + mu) / stats.norm.pdf(z)
    number = np.arange(guesses + 1)
    rows = [
        np.where(number >= k, number, 0) / samples
        - slope * np.where(number >= k - 1, guesses - number, 0) / samples
        for k in range(1, guesses + 1)
        for slope in slopes
    ]
    limits = np.tile(values - slopes * stats.norm.cdf(z), guesses)
    result = optimize.linprog(
        -(number >= right).astype(float),
        A_ub=np.array(rows),
        b_ub=limits,
        A_eq=np.ones((1, guesses + 1)),
        b_eq=[1.0],
        bounds=(0, 1),
    )
    return -float(result.fun)


def test_nothing_is_refuted_by_chance_and_more_right_guesses_refute_more() -> None:
    bounds = [
        f_dp_one_run_bound(*coins(200, 100, right), delta=DELTA).epsilon for right in (50, 70, 85, 95, 100)
    ]
    assert bounds[0] == 0
    assert bounds == sorted(bounds)
    perfect = f_dp_one_run_bound(*coins(200, 100, 100), delta=DELTA)
    assert perfect.epsilon == perfect.attainable


def test_the_ceiling_is_above_that_of_any_mechanism_and_below_that_of_the_order_of_losses() -> None:
    scores, inserted = coins(300, 150, 140)
    ceiling = f_dp_one_run_bound(scores, inserted, delta=DELTA).attainable
    assert one_run_lower_bound(scores, inserted, delta=DELTA).attainable < ceiling
    assert ceiling < gaussian_one_run_bound(scores, inserted, delta=DELTA).attainable


@lru_cache
def known(right: int) -> EpsilonLowerBound:
    scores, inserted = coins(200, 100, right)
    bound = partial(f_dp_one_run_bound, scores, inserted, delta=DELTA)
    return EpsilonLowerBound.measured(lambda level: bound(confidence=level), delta=DELTA)


@pytest.mark.parametrize("mu", [0.5, 1.0, 2.05, 3.0])
def test_bounds_exceed_the_epsilon_of_at_most_a_twentieth_of_200_mechanisms(mu: float) -> None:
    generator, epsilon, above, jointly = np.random.default_rng(0), gaussian_epsilon(mu, DELTA), 0, 0
    for _ in range(200):
        inserted = generator.random(200) < 0.5
        order = np.argsort(-(generator.normal(size=200) + mu * inserted))
        right = int(inserted[order[:50]].sum() + (~inserted[order[150:]]).sum())
        bound, joint = known(right), known(right).jointly(6)
        assert joint is not None
        above += (bound.epsilon or 0.0) > epsilon
        jointly += (joint.epsilon or 0.0) > epsilon
    assert above <= 10
    assert jointly <= 2


def test_the_guessing_rule_follows_from_the_scores_alone() -> None:
    generator = np.random.default_rng(3)
    scores = generator.normal(size=60)
    bounds: list[Certified] = [
        f_dp_one_run_bound(scores, generator.random(60) < 0.5, delta=DELTA) for _ in range(4)
    ]
    assert len({bound.threshold for bound in bounds}) == 1


def test_bad_arguments_are_refused() -> None:
    scores, inserted = coins(40, 20, 20)
    with pytest.raises(InputError, match="guesses must lie in"):
        f_dp_one_run_bound(scores, inserted, delta=DELTA, guesses=41)
    with pytest.raises(InputError, match="fair coin"):
        f_dp_one_run_bound(np.arange(300.0), np.arange(300) < 20, delta=DELTA)
