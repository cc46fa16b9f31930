"""The joint density of both sides: against conditional normals, its prior, and worlds with few networks."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from seg_mia.errors import InputError
from seg_mia.membership import auc, tpr_at_fpr
from seg_mia.membership.fleet import attacked, difficulty_calibrated, lira_offline, lira_online
from seg_mia.membership.fleet.joint import JointPrior, VariancePrior, fitted_joint, joint_predictive
from seg_mia.membership.fleet.posterior import fitted_prior, predictive
from seg_mia.membership.fleet.scoring import FleetAttack
from tests.membership.fleet.worlds import members_of, signals_of

Values = NDArray[np.float64]
Inside = NDArray[np.bool_]

KNOWN = VariancePrior(shape=1e9, mean=0.5), VariancePrior(shape=1e9, mean=0.3)
PRIOR = JointPrior(
    middle=np.array([1.0, 2.0]),
    trend=np.zeros(2),
    covariance=np.array([[4.0, 3.5], [3.5, 4.0]]),
    alone=KNOWN,
    informed=KNOWN,
)


@pytest.mark.parametrize("online", [True, False])
def test_with_known_variances_it_is_a_conditional_normal(online: bool) -> None:
    signals, inside = np.array([[0.2], [1.1], [3.0]]), np.array([[False], [False], [True]])
    densities = joint_predictive(signals, inside, PRIOR, online=online)
    used = [0, 1, 2] if online else [0, 1]
    noise = [0.5, 0.5, 0.3]
    for side, density in enumerate(densities):
        # Joint normal of the observed signals and the next one.
        sides = [int(inside[row, 0]) for row in used] + [side]
        covariance = PRIOR.covariance[np.ix_(sides, sides)]
        covariance = covariance + np.diag([noise[row] for row in used] + [[0.5, 0.3][side]])
        middle = PRIOR.middle[sides]
        weights = np.linalg.solve(covariance[:-1, :-1], covariance[:-1, -1])
        mean = middle[-1] + weights @ (signals[used, 0] - middle[:-1])
        variance = covariance[-1, -1] - weights @ covariance[:-1, -1]
        assert density.middle[0] == pytest.approx(mean, rel=1e-6)
        assert density.deviation[0] == pytest.approx(math.sqrt(variance), rel=1e-6)


def test_the_prior_is_found_again() -> None:
    generator = np.random.default_rng(0)
    inside = members_of(generator, 8, 20000)
    deviation = np.sqrt(2 / generator.gamma(4.0, 1.0, 20000))
    easy = 1 + 2 * deviation + generator.normal(0, 2, 20000)
    effect = 0.5 + deviation - 0.2 * (easy - 1 - 2 * deviation) + generator.normal(0, 0.5, 20000)
    narrower = np.where(inside, 0.5, 1.0)
    signals = easy + inside * effect + deviation * narrower * generator.normal(size=inside.shape)
    prior = fitted_joint(signals, inside)
    # The trend is on the root of the mean of both sides' variances, sqrt((1 + 1/4) / 2) = 0.79 deviations.
    assert prior.trend * 0.79 == pytest.approx([2, 3], abs=0.4)
    assert prior.covariance[0] == pytest.approx([4, 3.2], abs=0.3)
    assert prior.covariance[1, 1] == pytest.approx(4 - 1.6 + 0.16 + 0.25, abs=0.3)
    assert [each.mean for each in prior.alone] == pytest.approx([2 / 3, 1 / 6], rel=0.05)
    assert [each.shape for each in prior.alone] == pytest.approx([4, 4], rel=0.15)
    # Given the other side's variance, which has few networks, less is left to vary.
    assert all(told.shape > alone.shape for told, alone in zip(prior.informed, prior.alone, strict=True))


def sides_apart(target: Values, references: Values, inside: Inside) -> Values:
    """The Bayesian ratio whose sides know nothing of each other."""
    densities = (predictive(references, side, fitted_prior(references, side)) for side in (inside, ~inside))
    within, outside = (density.logpdf(target) for density in densities)
    return within - outside


def test_one_effect_for_all_is_learnt_from_all() -> None:
    generator = np.random.default_rng(1)
    inside = members_of(generator, 6, 3000)
    signals = signals_of(generator, inside, effect=1.5, difficulty=3)
    scores = attacked(signals, inside, lira_online)
    # Both sides estimate the difficulty, four networks in all: variance 1 + 1 / 4, instead of 1 + 1 / 2.
    best = stats.norm.cdf(1.5 / math.sqrt(2 * 1.25))
    assert auc(scores.ravel(), inside.ravel()) == pytest.approx(best, abs=0.01)
    alone = attacked(signals, inside, partial(lira_online, variance="fixed"))
    assert auc(alone.ravel(), inside.ravel()) < best - 0.03


def heavy(generator: np.random.Generator, inside: Inside) -> Values:
    """Return signals with one effect and variances without a fourth moment."""
    spread = np.sqrt(0.5 / generator.gamma(1.5, 1.0, inside.shape[1]))
    easy = generator.normal(0, 3, inside.shape[1])
    return np.asarray(easy + 1.5 * inside + spread * generator.normal(size=inside.shape))


def varying(generator: np.random.Generator, inside: Inside) -> Values:
    """Return signals with effects and variances of each sample's own."""
    spread = np.sqrt(1 / generator.gamma(3.0, 0.5, inside.shape[1]))
    effect = spread * generator.exponential(1.5, inside.shape[1])
    easy = generator.normal(0, 3, inside.shape[1])
    return np.asarray(easy + effect * inside + spread * generator.normal(size=inside.shape))


@pytest.mark.parametrize("world", [heavy, varying])
@pytest.mark.parametrize("references", [4, 16])
def test_it_does_not_lose(world: Callable[[np.random.Generator, Inside], Values], references: int) -> None:
    generator = np.random.default_rng(references)
    inside = members_of(generator, references + 4, 1500)
    signals = world(generator, inside)
    rivals: list[FleetAttack] = [
        lira_online,
        sides_apart,
        partial(lira_online, variance="fixed"),
        difficulty_calibrated,
    ]
    targets = range(4)
    areas, rates = list[float](), list[float]()
    for attack in rivals:
        scores = [attack(signals[target], signals[4:], inside[4:]) for target in targets]
        areas.append(float(np.mean([auc(row, inside[k]) for k, row in enumerate(scores)])))
        rates.append(float(np.mean([tpr_at_fpr(row, inside[k], 0.01) for k, row in enumerate(scores)])))
    margin = 0.01 if references == 4 else 0.0
    assert areas[0] > max(areas[1:]) + margin
    assert rates[0] > max(rates[1:]) - 0.01


def test_offline_the_expected_effect_is_that_of_the_difficulty() -> None:
    # Hard samples show membership more; the target's samples are in no reference.
    generator = np.random.default_rng(5)
    known = members_of(generator, 8, 2000)
    inside = np.concatenate([known, np.zeros((8, 2000), dtype=bool)], axis=1)
    easy = generator.normal(0, 3, 4000)
    effect = np.maximum(1.5 - 0.4 * easy, 0.2)
    signals = easy + effect * inside + generator.normal(size=inside.shape)
    members = generator.random(2000) < 0.5
    target = easy[2000:] + effect[2000:] * members + generator.normal(size=2000)
    prior = fitted_joint(signals, inside)
    asked = target, signals[:, 2000:], inside[:, 2000:]
    without, with_effect = lira_offline(*asked), lira_offline(*asked, effect=prior)
    assert auc(with_effect, members) > auc(without, members) + 0.02
    # With the density's own middle there is nothing to tell apart.
    assert without.max() < 0 < with_effect.max()
    # Signals of networks that were trained on a sample do not count for it.
    seen = members_of(generator, 8, 2000)
    moved = np.where(seen, signals[:, 2000:] + 100, signals[:, 2000:])
    for shift in (signals[:, 2000:], moved):
        first = lira_offline(target, shift, seen, effect=prior)
        np.testing.assert_allclose(first, lira_offline(target, signals[:, 2000:], seen, effect=prior))
    with pytest.raises(InputError, match="goes with variance bayesian"):
        lira_offline(*asked, effect=prior, variance="fixed")


def test_refuses_networks_without_both_sides() -> None:
    signals = np.random.default_rng(0).normal(size=(4, 20))
    with pytest.raises(InputError, match="2 or more networks on each side"):
        fitted_joint(signals, np.zeros((4, 20), dtype=bool))
    halves = np.tile(np.arange(20) < 10, (4, 1))
    with pytest.raises(InputError, match="samples with networks on both sides, got none"):
        fitted_joint(signals, halves)
