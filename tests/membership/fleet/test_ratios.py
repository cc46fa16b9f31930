"""RMIA and BASE against loops, and in a world whose best attack is known."""

import math

import numpy as np
import pytest
from scipy import stats

from seg_mia.errors import InputError
from seg_mia.membership import auc, tpr_at_fpr
from seg_mia.membership.fleet import Population, base, less_population, rmia, tuned_offline_a
from seg_mia.membership.fleet.ratios import log_ratio
from tests.membership.fleet.worlds import coins, members_of, signals_of

GENERATOR = np.random.default_rng(0)
SEEN = members_of(GENERATOR, 4, 6)
OTHERS = members_of(GENERATOR, 4, 10)
P = GENERATOR.uniform(0.05, 0.95, (5, 6))
Z = GENERATOR.uniform(0.05, 0.95, (5, 10))


def reference(p: float, refs: list[float], seen: list[bool], a: float | None) -> float:
    """Return p(x | theta) / p(x)."""
    outside = [value for value, inner in zip(refs, seen, strict=True) if not inner]
    mean_out = sum(outside) / len(outside)
    if a is None:
        inner_values = [value for value, inner in zip(refs, seen, strict=True) if inner]
        return p / ((sum(inner_values) / len(inner_values) + mean_out) / 2)
    return p / (((1 + a) * mean_out + 1 - a) / 2)


@pytest.mark.parametrize("a", [None, 0.0, 0.3, 1.0])
@pytest.mark.parametrize("gamma", [1.0, 2.0])
def test_rmia_counts_the_population_that_is_exceeded(a: float | None, gamma: float) -> None:
    expected = []
    for x in range(6):
        own = reference(P[0, x], P[1:, x].tolist(), SEEN[:, x].tolist(), a)
        ratios = [reference(Z[0, z], Z[1:, z].tolist(), OTHERS[:, z].tolist(), a) for z in range(10)]
        expected.append(sum(own / ratio > gamma for ratio in ratios) / 10)
    population = Population(np.log(Z[0]), np.log(Z[1:]), OTHERS)
    scores = rmia(np.log(P[0]), np.log(P[1:]), SEEN, population, gamma=gamma, offline_a=a)
    np.testing.assert_allclose(scores, expected)


@pytest.mark.parametrize("online", [True, False])
def test_base_is_the_log_ratio_to_the_mean(online: bool) -> None:
    expected = []
    for x in range(6):
        values = [P[1 + k, x] for k in range(4) if online or not SEEN[k, x]]
        expected.append(math.log(P[0, x]) - math.log(sum(values) / len(values)))
    np.testing.assert_allclose(base(np.log(P[0]), np.log(P[1:]), SEEN, online=online), expected)


def test_base_orders_as_rmia_with_a_large_population() -> None:
    scores = base(np.log(P[0]), np.log(P[1:]), SEEN)
    large = np.random.default_rng(1).uniform(0.01, 1, (5, 20000))
    halves = np.tile(np.array([True, True, False, False])[:, None], (1, 20000))
    population = Population(np.log(large[0]), np.log(large[1:]), halves)
    shares = rmia(np.log(P[0]), np.log(P[1:]), SEEN, population)
    assert stats.spearmanr(scores, shares).statistic == pytest.approx(1)


def test_tiny_probabilities_stay_finite() -> None:
    scores = base(np.log(P[0]) - 5000, np.log(P[1:]) - 5000, SEEN)
    np.testing.assert_allclose(scores, base(np.log(P[0]), np.log(P[1:]), SEEN), atol=1e-9)


def test_ratios_take_difficulty_out() -> None:
    generator = np.random.default_rng(2)
    inside = coins(generator, 65, 3000)
    # Log p with little noise: the ratio is nearly the best attack, Phi(effect / (noise sqrt 2)).
    signals = signals_of(generator, inside, effect=0.3, difficulty=1.0, noise=0.2) - 20
    best = stats.norm.cdf(0.3 / (0.2 * math.sqrt(2)))
    rest = signals[0], signals[1:], inside[1:]
    large = rmia(*rest, Population(*rest), offline_a=None)
    for scores in (base(*rest), base(*rest, online=False), log_ratio(*rest), large):
        assert auc(scores, inside[0]) == pytest.approx(best, abs=0.02)
        for fpr in (0.1, 0.3):  # the ROC of two normal densities
            tpr = stats.norm.cdf(0.3 / 0.2 + stats.norm.ppf(fpr))
            assert tpr_at_fpr(scores, inside[0], fpr) == pytest.approx(tpr, abs=0.05)


def test_offline_a_is_chosen_on_references() -> None:
    generator = np.random.default_rng(3)
    inside = members_of(generator, 6, 400)
    signals = signals_of(generator, inside, effect=0.3, difficulty=1.0, noise=0.2) - 20
    # So far below 0 the constant part of p(x) = ((1 + a) p_out + 1 - a) / 2 hides references unless a = 1.
    assert tuned_offline_a(signals, inside) == 1
    with pytest.raises(InputError, match="which 1 references do not allow"):
        tuned_offline_a(signals[:1], inside[:1])


def test_the_populations_level_is_taken_out() -> None:
    np.testing.assert_allclose(less_population(np.array([1.0, 2.0]), np.array([0.0, 1.0])), [0.5, 1.5])
    with pytest.raises(InputError, match="got none"):
        less_population(np.ones(2), np.ones(0))


def test_refuses() -> None:
    population = Population(np.log(Z[0]), np.log(Z[1:]), OTHERS)
    empty = Population(np.ones(0), np.ones((4, 0)), np.ones((4, 0), dtype=bool))
    logs = np.log(P[0]), np.log(P[1:]), SEEN
    with pytest.raises(InputError, match="gamma must be at least 1"):
        rmia(*logs, population, gamma=0.5)
    with pytest.raises(InputError, match="needs a population, got none"):
        rmia(*logs, empty)
    with pytest.raises(InputError, match="at most 0, got 2.57"):
        rmia(logs[0] + 3, *logs[1:], population)
    with pytest.raises(InputError, match="not trained on it"):
        base(*logs[:2], np.ones_like(SEEN), online=False)
