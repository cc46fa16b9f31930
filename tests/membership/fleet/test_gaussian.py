"""LiRA against loops with another library's densities, and in worlds whose best attack is known."""

import math
from functools import partial
from itertools import pairwise
from statistics import NormalDist

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from seg_mia.errors import InputError
from seg_mia.membership import auc, tpr_at_fpr
from seg_mia.membership.fleet import (
    attacked,
    difficulty_calibrated,
    lira_offline,
    lira_online,
    rank_among_out,
    standardised,
)
from seg_mia.membership.fleet.gaussian import Variance, pooled_variance
from tests.membership.fleet.worlds import coins, members_of, signals_of

SEEN = np.array([[1, 0, 1], [1, 0, 0], [1, 1, 1], [0, 1, 1], [0, 1, 0], [0, 0, 0]], dtype=bool)
SIGNALS = np.array(
    [[3.0, 1.0, 7.0], [4.0, 0.5, 2.0], [8.0, 2.0, 5.0], [1.0, 4.0, 6.5], [2.0, 7.0, 1.0], [0.5, 0.0, 3.5]]
)
TARGET = np.array([2.5, 3.0, 4.0])


def deviations(column: int, side: bool) -> tuple[list[float], float]:
    """Return a sample's signals on a side, and their standard deviation as published, of all of them."""
    values = [SIGNALS[row, column] for row in range(6) if SEEN[row, column] == side]
    middle = sum(values) / len(values)
    return values, math.sqrt(sum((value - middle) ** 2 for value in values) / len(values))


def pooled(side: bool) -> float:
    total, freedom = 0.0, 0
    for column in range(3):
        values, deviation = deviations(column, side)
        total += deviation**2 * len(values)
        freedom += len(values) - 1
    return math.sqrt(total / freedom)


@pytest.mark.parametrize("variance", ["per_sample", "fixed"])
@pytest.mark.parametrize("centre", ["mean", "median"])
def test_the_ratio_is_that_of_normal_densities(variance: Variance, centre: str) -> None:
    expected, offline = [], []
    for column in range(3):
        logs = []
        for side in (True, False):
            values, deviation = deviations(column, side)
            scale = deviation if variance == "per_sample" else pooled(side)
            middle = float(np.median(values)) if centre == "median" else sum(values) / len(values)
            logs.append(math.log(NormalDist(middle, scale).pdf(TARGET[column])))
            if not side:
                offline.append(math.log(NormalDist(middle, scale).cdf(TARGET[column])))
        expected.append(logs[0] - logs[1])
    knobs = {"variance": variance, "centre": centre}
    np.testing.assert_allclose(lira_online(TARGET, SIGNALS, SEEN, **knobs), expected)  # type: ignore[arg-type]
    np.testing.assert_allclose(lira_offline(TARGET, SIGNALS, SEEN, **knobs), offline)  # type: ignore[arg-type]


def test_the_robust_variance_is_the_variance_of_normal_signals_and_outliers_do_not_move_it() -> None:
    generator = np.random.default_rng(0)
    inside = members_of(generator, 8, 4000)
    signals = signals_of(generator, inside, noise=2)
    assert pooled_variance(signals, inside) == pytest.approx(4, rel=0.05)
    assert pooled_variance(signals, inside, robust=True) == pytest.approx(4, rel=0.06)
    signals[0, :200] += 1000
    assert pooled_variance(signals, inside, robust=True) == pytest.approx(4, rel=0.2)


def test_calibration_and_rank_by_hand() -> None:
    # Networks 3, 4 and 5 were not trained on the first sample, and so on.
    np.testing.assert_allclose(
        difficulty_calibrated(TARGET, SIGNALS, SEEN), [2.5 - 3.5 / 3, 3 - 0.5, 4 - 6.5 / 3]
    )
    tied = np.array([1.0, 0.5, 4.0])
    np.testing.assert_allclose(rank_among_out(tied, SIGNALS, SEEN), [1.5 / 3, 1.5 / 3, 1])


@pytest.mark.parametrize("variance", ["bayesian", "per_sample", "fixed", "robust"])
def test_many_networks_reach_the_best_attack(variance: Variance) -> None:
    # With the truth about every sample's two normal densities the AUC is Phi(effect / sqrt(2)).
    generator = np.random.default_rng(1)
    inside, effect = coins(generator, 129, 3000), 1.2
    signals = signals_of(generator, inside, effect=effect)
    scores = lira_online(signals[0], signals[1:], inside[1:], variance=variance)
    assert auc(scores, inside[0]) == pytest.approx(stats.norm.cdf(effect / math.sqrt(2)), abs=0.025)
    # Its ROC: TPR = Phi(effect + Phi^-1(FPR)).
    for fpr in (0.1, 0.3, 0.6):
        best = stats.norm.cdf(effect + stats.norm.ppf(fpr))
        assert tpr_at_fpr(scores, inside[0], fpr) == pytest.approx(best, abs=0.05)
    offline = lira_offline(signals[0], signals[1:], inside[1:], variance=variance)
    assert auc(offline, inside[0]) == pytest.approx(stats.norm.cdf(effect / math.sqrt(2)), abs=0.025)


def test_the_threshold_is_what_difficulty_leaves() -> None:
    generator = np.random.default_rng(2)
    inside = coins(generator, 1, 4000)
    signals = signals_of(generator, inside, effect=1.2)
    assert auc(signals[0], inside[0]) == pytest.approx(stats.norm.cdf(1.2 / math.sqrt(2 * 5)), abs=0.025)


def test_the_bayesian_density_is_each_samples_own_for_many_networks() -> None:
    generator = np.random.default_rng(3)
    inside = members_of(generator, 6000, 50)
    spread = np.exp(generator.normal(0, 0.5, (2, 50)))
    easy = generator.normal(0, 5, 50)
    effect = generator.normal(1, 0.5, 50)
    signals = (
        easy + effect * inside + generator.normal(size=(6000, 50)) * spread[inside.astype(int), range(50)]
    )
    target = easy + 0.5 + generator.normal(size=50) * spread[0]
    bayesian, plain = (
        lira_online(target, signals, inside, variance=kind) for kind in ("bayesian", "per_sample")
    )
    np.testing.assert_allclose(bayesian, plain, atol=0.03, rtol=0.02)


def test_the_bayesian_variance_is_better_with_four_networks_on_a_side() -> None:
    generator = np.random.default_rng(4)
    inside = members_of(generator, 8, 20000)
    spread = np.sqrt(1 / generator.gamma(2.0, 1.0, 20000))
    easy = generator.normal(0, 2, 20000)
    signals = easy + 2 * spread * inside + spread * generator.normal(size=inside.shape)
    members = generator.random(20000) < 0.5
    target = easy + 2 * spread * members + spread * generator.normal(size=20000)
    kinds: list[Variance] = ["bayesian", "fixed", "per_sample"]
    rates = [tpr_at_fpr(lira_online(target, signals, inside, variance=kind), members, 0.01) for kind in kinds]
    for better, worse in pairwise(rates):
        assert better > worse + 0.02


def test_networks_that_differ_in_level_make_it_worse_than_a_threshold_unless_standardised() -> None:
    generator = np.random.default_rng(5)
    inside = members_of(generator, 16, 600)
    signals = signals_of(generator, inside, effect=1.0, difficulty=0.5, noise=0.5, level=4.0)

    def mean_auc(scores: NDArray[np.float64]) -> float:
        return float(np.mean([auc(row, members) for row, members in zip(scores, inside, strict=True)]))

    threshold = mean_auc(signals)
    assert threshold == pytest.approx(stats.norm.cdf(1 / math.sqrt(2 * 0.5)), abs=0.02)
    fixed = partial(lira_online, variance="fixed")
    raw = mean_auc(attacked(signals, inside, fixed))
    assert raw < threshold - 0.05
    # The best attack: Phi(effect / (noise sqrt(2))).
    best = stats.norm.cdf(1 / (0.5 * math.sqrt(2)))
    for attack in (fixed, lira_online):
        level = mean_auc(attacked(standardised(signals), inside, attack))
        assert best - 0.04 < level <= best + 0.01


@pytest.mark.parametrize("online", [True, False])
def test_nothing_is_found_where_nothing_is(online: bool) -> None:
    generator = np.random.default_rng(6)
    inside = members_of(generator, 8, 2000)
    signals = signals_of(generator, inside, effect=0)
    scores = attacked(signals, inside, lira_online if online else lira_offline)
    assert auc(scores.ravel(), inside.ravel()) == pytest.approx(0.5, abs=0.015)


def test_a_complement_among_the_references_would_show_what_is_not_there() -> None:
    generator = np.random.default_rng(7)
    inside = members_of(generator, 6, 4000)
    signals = signals_of(generator, inside, effect=0)
    scores = attacked(signals, inside, partial(lira_online, variance="fixed"), np.arange(6))
    assert auc(scores.ravel(), inside.ravel()) < 0.48


@pytest.mark.parametrize(
    ("target", "signals", "seen", "telling"),
    [
        (TARGET[:2], SIGNALS, SEEN, "target and references must have the same samples"),
        (TARGET, SIGNALS, SEEN.astype(float), "inside bool"),
        (TARGET, SIGNALS[0], SEEN[0], r"signals must be \(networks, n\)"),
        (TARGET, np.where(SEEN, np.nan, SIGNALS), SEEN, "must be finite, 9 of 18 are not"),
        (TARGET, SIGNALS[:3], SEEN[:3], "not trained on it, 1 of 3 have fewer among 3"),
        (TARGET, SIGNALS[:0], SEEN[:0], "must have at least one network and one sample"),
        (TARGET[:, None], SIGNALS, SEEN, "takes one signal"),
        (TARGET, SIGNALS[[0, 3]], np.array([[1, 1, 1], [0, 0, 0]], dtype=bool), "variance between networks"),
    ],
)
def test_refuses(
    target: NDArray[np.float64], signals: NDArray[np.float64], seen: NDArray[np.bool_], telling: str
) -> None:
    with pytest.raises(InputError, match=telling):
        lira_online(target, signals, seen)


def test_each_samples_own_variance_needs_two_networks_and_a_name_must_be_known() -> None:
    with pytest.raises(InputError, match="at least 2 reference networks trained on it, 1 of 3"):
        lira_online(TARGET, SIGNALS[[0, 1, 3, 5]], SEEN[[0, 1, 3, 5]], variance="per_sample")
    with pytest.raises(InputError, match="variance must be one of"):
        lira_offline(TARGET, SIGNALS, SEEN, variance="none")  # type: ignore[arg-type]
