"""What a promise permits, beside closed forms, cases by hand and an attacker who knows all but one coin."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from seg_mia.defences.dp.accounting import Mechanism
from seg_mia.membership.tradeoff import gaussian_delta, gaussian_epsilon, of_gaussian, of_points


@pytest.mark.parametrize(
    ("epsilon", "delta", "mu", "auc", "tpr"),
    [
        (1, 1 / 300, 0.45, 0.625, 0.030),
        (3, 1 / 300, 1.08, 0.776, 0.105),
        (8.5, 1 / 300, 2.35, 0.952, 0.51),
        (1, 1e-5, 0.27, 0.575, 0.020),
        (3, 1e-5, 0.72, 0.694, 0.054),
        (8.5, 1e-5, 1.75, 0.892, 0.28),
    ],
)
def test_a_full_batch_permits_what_a_gaussian_of_its_mu_does(
    epsilon: float, delta: float, mu: float, auc: float, tpr: float
) -> None:
    """At delta 1/n and epsilon 8.5 an attacker may be right nearly always."""
    assert gaussian_epsilon(mu, delta) == pytest.approx(epsilon, rel=0.02)
    permitted = of_gaussian(mu)
    assert permitted.auc == pytest.approx(auc, abs=0.002)
    assert permitted.tpr_at_1 == pytest.approx(tpr, abs=0.005)
    assert permitted.tpr_at_10 == pytest.approx(float(norm.cdf(norm.ppf(0.1) + mu)), rel=1e-12)
    assert permitted.by == "gaussian"


def test_nothing_permits_guessing_and_no_noise_permits_everything() -> None:
    for permitted, expected in (
        (of_gaussian(0.0), (0.5, 0.1, 0.01)),
        (of_gaussian(math.inf), (1, 1, 1)),
        (of_points([(0.0, 0.0)], "point"), (0.5, 0.1, 0.01)),
        (of_points([(math.inf, 0.01)], "point"), (1, 1, 1)),
        (of_points([], "point"), (1, 1, 1)),
        (of_points([(1e4, 0.0)], "point"), (1, 1, 1)),
    ):
        assert (permitted.auc, permitted.tpr_at_10, permitted.tpr_at_1) == pytest.approx(expected, abs=1e-4)


def test_one_pair_of_epsilon_and_delta_by_hand() -> None:
    """e^epsilon 3, no delta: TPR 3 FPR up to FPR 1/4, from there 1 - (1 - FPR) / 3; the area is 3/4."""
    permitted = of_points([(math.log(3), 0.0)], "point")
    assert (permitted.tpr_at_10, permitted.tpr_at_1) == pytest.approx((0.3, 0.03))
    assert permitted.auc == pytest.approx(0.75, abs=1e-6)
    assert of_points([(math.log(3), 0.02)], "point").tpr_at_1 == pytest.approx(0.05)
    assert of_points([(0.0, 0.2)], "point").auc == pytest.approx(1 - 0.8**2 / 2, abs=1e-6)
    both = of_points([(0.0, 0.2), (math.log(3), 0.0)], "point")
    assert (both.tpr_at_10, both.tpr_at_1) == pytest.approx((0.3, 0.03))
    assert both.auc < min(0.75, 1 - 0.8**2 / 2)


@pytest.mark.parametrize("mu", [1e-3, 0.05, 0.45, 2.35, 10.0, 300.0])
@pytest.mark.parametrize("delta", [1e-9, 1e-5, 1 / 3000])
def test_the_epsilon_of_a_gaussian_has_that_delta_and_a_little_less_has_more(mu: float, delta: float) -> None:
    epsilon = gaussian_epsilon(mu, delta)
    assert gaussian_delta(mu, epsilon) <= delta
    if epsilon:
        assert gaussian_delta(mu, epsilon * (1 - 1e-9)) > delta * (1 - 1e-6)
        a, b = norm.cdf(mu / 2 - epsilon / mu), norm.logcdf(-mu / 2 - epsilon / mu)
        assert a - math.exp(epsilon + b) == pytest.approx(delta, rel=1e-4)


def test_without_bounds_on_mu_no_epsilon_is_enough() -> None:
    assert gaussian_epsilon(math.inf, 1e-5) == math.inf
    assert gaussian_epsilon(1e-9, 1e-5) == 0


@pytest.mark.parametrize("accountant", ["prv", "rdp"])
def test_no_attacker_on_sampled_batches_reaches_more_than_is_permitted(accountant: str) -> None:
    """The best attack there is: the likelihood ratio of what T steps show of one unit, by its own coin."""
    noise, rate, steps, draws = 1.0, 0.4, 6, 100_000
    generator = np.random.default_rng(0)
    outside = generator.normal(0, noise, (draws, steps))
    inside = generator.normal(0, noise, (draws, steps)) + (generator.random((draws, steps)) < rate)

    def ratio(seen: np.ndarray) -> np.ndarray:
        loss: np.ndarray = np.log1p(rate * np.expm1((2 * seen - 1) / (2 * noise**2))).sum(1)
        return loss

    others, members = np.sort(ratio(outside)), ratio(inside)
    permitted = Mechanism(noise, rate, 1e-3, "prv" if accountant == "prv" else "rdp").permitted(steps)
    auc = float(np.searchsorted(others, members).mean() / draws)
    tpr_at_10, tpr_at_1 = (float((members > np.quantile(others, 1 - fpr)).mean()) for fpr in (0.1, 0.01))
    sampling = 4 / math.sqrt(draws)
    near = 0.03 if accountant == "prv" else 0.25  # the accountants' own slack
    for reached, most in (
        (auc, permitted.auc),
        (tpr_at_10, permitted.tpr_at_10),
        (tpr_at_1, permitted.tpr_at_1),
    ):
        assert reached - sampling <= most <= reached + sampling + near
    assert permitted.by == accountant


def test_a_whole_curve_permits_less_than_one_of_its_points() -> None:
    mechanism = Mechanism(1.0, 0.4, 1e-3, "prv")
    alone = of_points([(mechanism.spent(6), 1e-3)], "point")
    curve, loose = mechanism.permitted(6), Mechanism(1.0, 0.4, 1e-3, "rdp").permitted(6)
    assert curve.auc < loose.auc < alone.auc
    assert curve.tpr_at_1 < loose.tpr_at_1 < alone.tpr_at_1


def test_what_is_permitted_grows_with_steps_from_guessing_to_all() -> None:
    for rate in (0.3, 1.0):
        found = [Mechanism(2.0, rate, 1e-3, "rdp").permitted(steps).auc for steps in (0, 1, 10, 100, 100_000)]
        assert found[0] == 0.5
        assert found == sorted(found)
        assert found[-1] > 0.999
    assert Mechanism(0.0, 0.3, 1e-3, "prv").permitted(1).auc == 1
