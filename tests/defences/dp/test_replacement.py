"""Epsilon under replacing one unit, beside integrals, closed forms and numbers of another package."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.stats import norm

from seg_mia.defences.dp.accounting import Mechanism
from seg_mia.defences.dp.replacement import group_epsilon, replacement_epsilon
from seg_mia.membership.tradeoff import gaussian_epsilon


def densities(x: NDArray[np.float64], noise: float, rate: float) -> list[NDArray[np.float64]]:
    """Return the densities of one noisy sum with one unit and with another, whose gradient is opposite."""
    absent = (1 - rate) * norm.pdf(x, 0, noise)
    return [absent + rate * norm.pdf(x, mean, noise) for mean in (1, -1)]


def one_step_delta(epsilon: float, noise: float, rate: float) -> float:
    """Return the hockey-stick divergence of one step by numerical integration."""

    def excess(x: float) -> float:
        p, q = densities(np.array([x]), noise, rate)
        return max(0.0, float((p - math.exp(epsilon) * q)[0]))

    return float(quad(excess, -12 * noise, 1 + 12 * noise, limit=1000, points=[0.0, 1.0])[0])


@pytest.mark.parametrize(
    ("noise", "rate", "delta"), [(1.0, 0.1, 1e-3), (0.5, 0.3, 1e-4), (2.0, 0.9, 1e-3), (1.0, 1.0, 1e-5)]
)
def test_one_step_is_the_divergence_of_two_mixtures(noise: float, rate: float, delta: float) -> None:
    epsilon = replacement_epsilon(noise, rate, 1, delta)
    assert epsilon is not None
    assert one_step_delta(epsilon, noise, rate) <= delta
    assert one_step_delta(epsilon - 0.01, noise, rate) > delta


def test_two_steps_are_the_divergence_of_their_products() -> None:
    noise, rate, delta = 1.0, 0.2, 1e-3
    x = np.linspace(-9, 10, 4001)
    p, q = densities(x, noise, rate)
    first, second = np.multiply.outer(p, p), np.multiply.outer(q, q)
    cell = (x[1] - x[0]) ** 2
    epsilon = replacement_epsilon(noise, rate, 2, delta)
    assert epsilon is not None

    def of(e: float) -> float:
        return float(np.maximum(first - math.exp(e) * second, 0).sum() * cell)

    assert of(epsilon) <= delta < of(epsilon - 0.01)


def test_with_all_units_in_each_step_mu_doubles() -> None:
    mechanism = Mechanism(5.0, 1.0, 1e-3, "prv", 0.6)
    mu = math.hypot(0.6, 4 / 5)
    assert mechanism.replaced(16) == gaussian_epsilon(2 * mu, 1e-3) > 2 * mechanism.spent(16)
    assert mechanism.replaced(0) == gaussian_epsilon(1.2, 1e-3)
    on_grid = replacement_epsilon(5.0, 1.0, 16, 1e-3, 0.6)
    assert mechanism.replaced(16) <= on_grid <= mechanism.replaced(16) + 2e-3  # type: ignore[operator]
    assert Mechanism(5.0, 1.0, 1e-3, "rdp", 0.6).replaced(16) > mechanism.replaced(16)
    assert Mechanism(0.0, 0.2, 1e-3, "prv").replaced(1) == math.inf


@pytest.mark.parametrize(
    ("noise", "rate", "steps", "delta", "release", "add_or_remove", "replace"),
    [
        (0.8602, 8 / 300, 2625, 1 / 300, 0.0, 8.2729, 14.71),
        (1.0, 0.1, 40, 1e-4, 0.8, 4.972097, 9.242016),
        (0.8, 0.05, 100, 1e-4, 0.5, 5.096607, 7.575506),
        (2.0, 0.5, 30, 1e-4, 1.0, 7.682928, 17.236652),
    ],
)
def test_sampled_steps_are_those_of_dp_accounting(
    noise: float,
    rate: float,
    steps: int,
    delta: float,
    release: float,
    add_or_remove: float,
    replace: float,
) -> None:
    """Numbers of dp-accounting 0.6.0 (PLD), ADD_OR_REMOVE_ONE and REPLACE_ONE."""
    mechanism = Mechanism(noise, rate, delta, "prv", release)
    assert add_or_remove - 1e-4 <= mechanism.spent(steps) <= add_or_remove + 0.02
    assert mechanism.replaced(steps) == pytest.approx(replace, abs=0.006)
    loose = Mechanism(noise, rate, delta, "rdp", release).replaced(steps)
    assert loose > mechanism.replaced(steps)


def test_a_group_of_two_by_hand() -> None:
    """delta(e) = exp(-3 e): exp(-3 e) (1 + exp(e)) = 1e-3 at e = 3.47... and epsilon is twice that."""
    found = group_epsilon(lambda e: np.exp(-3 * e), 1e-3) / 2
    assert math.exp(-3 * found) * (1 + math.exp(found)) == pytest.approx(1e-3, rel=1e-4)
    assert math.exp(-3 * found) * (1 + math.exp(found)) <= 1e-3
    assert group_epsilon(lambda e: np.full_like(e, 0.1), 1e-3) == math.inf


def test_the_bound_for_a_group_holds_where_the_truth_is_known() -> None:
    """Adding or removing is mu-Gaussian, replacing 2 mu: the group's bound is above it."""
    noise, steps, delta = 4.0, 4, 1e-5
    for rate in (1 - 1e-9, 0.999):
        loose = Mechanism(noise, rate, delta, "rdp").replaced(steps)
        exact = gaussian_epsilon(2 * math.sqrt(steps) / noise, delta)
        assert exact < loose < 2 * exact


@pytest.mark.parametrize(("noise", "rate", "steps", "delta"), [(0.02, 0.5, 10, 1e-5), (1.0, 0.1, 40, 1e-12)])
def test_what_no_grid_holds_is_left_to_the_bound_for_groups(
    noise: float, rate: float, steps: int, delta: float
) -> None:
    assert replacement_epsilon(noise, rate, steps, delta) is None
    mechanism = Mechanism(noise, rate, delta, "prv")
    assert mechanism.replaced(steps) == Mechanism(noise, rate, delta, "rdp").replaced(steps)
    assert mechanism.replaced(steps) > mechanism.spent(steps)


def test_more_steps_and_a_higher_rate_cost_more() -> None:
    by_steps = [Mechanism(2.0, 0.3, 1e-3, "prv").replaced(steps) for steps in (0, 1, 5, 20)]
    by_rate = [Mechanism(2.0, rate, 1e-3, "prv").replaced(4) for rate in (0.1, 0.3, 0.9, 1.0)]
    assert by_steps == sorted(by_steps)
    assert by_rate == sorted(by_rate)
