"""Rates and intervals of a recipe: by hand, and by simulation of what they promise."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import roc_auc_score

from seg_mia.errors import InputError
from seg_mia.membership.fleet import (
    attacked,
    base,
    by_patient,
    calibrated_rates,
    decided_rate,
    difficulty_calibrated,
    lira_offline,
    p_values,
    pooled_auc,
    pooled_rates,
    pooled_roc,
    ppv,
    standardised,
    threshold_at_fpr,
    transferred_rates,
)
from seg_mia.membership.fleet.scoring import FleetAttack
from seg_mia.membership.roc import roc
from tests.membership.fleet.worlds import members_of, signals_of


def test_references_are_the_networks_of_other_folds() -> None:
    inside = np.array([[1, 0, 1, 0], [0, 1, 0, 1], [1, 1, 0, 0], [0, 0, 1, 1]], dtype=bool)
    signals = np.arange(16.0).reshape(4, 4)
    scores = attacked(signals, inside, difficulty_calibrated)
    # Networks 2 and 3 attack 0 and 1, which are complements: 0's first sample is outside 3 alone.
    assert scores[0].tolist() == [0 - 12, 1 - 13, 2 - 10, 3 - 11]
    assert scores[3].tolist() == [12 - 4, 13 - 1, 14 - 6, 15 - 3]


def test_patients_are_means_of_their_samples() -> None:
    inside = np.array([[True, False, True], [False, True, False]])
    values = np.array([[1.0, 5.0, 3.0], [2.0, 6.0, 8.0]])
    means, members, names = by_patient(values, inside, ["b", "a", "b"])
    assert names == ["a", "b"]
    assert means.tolist() == [[5, 2], [6, 5]]
    assert members.tolist() == [[False, True], [True, False]]
    assert by_patient(np.stack([values, -values], axis=2), inside, ["b", "a", "b"])[0].shape == (2, 2, 2)
    with pytest.raises(InputError, match="1 of 1 are split"):
        by_patient(values, inside, ["a", "a", "a"])


def test_the_pooled_auc_is_another_librarys() -> None:
    generator = np.random.default_rng(0)
    inside = members_of(generator, 4, 40)
    scores = np.round(generator.normal(size=inside.shape) + inside, 1)
    area = pooled_auc(scores, inside)
    assert area.value == pytest.approx(roc_auc_score(inside.ravel(), scores.ravel()))
    assert area.low < area.value < area.high


def _covers(effect: float, shared: float, seed: int) -> tuple[bool, bool]:
    """Return whether intervals by patient, and by decision, hold the true AUC in a world of 40 patients."""
    generator = np.random.default_rng(seed)
    inside = members_of(generator, 8, 40)
    patient = generator.normal(0, shared, 40)
    scores = np.asarray((effect + patient) * inside + generator.normal(size=inside.shape), dtype=np.float64)
    truth = stats.norm.cdf(effect / math.sqrt(2 + shared**2))
    flat = np.arange(scores.size)
    alone = pooled_auc(scores.reshape(1, -1), inside.reshape(1, -1), flat.astype(str))
    clustered = pooled_auc(scores, inside)
    return clustered.low <= truth <= clustered.high, alone.low <= truth <= alone.high


def test_intervals_by_patient_hold_the_truth_as_often_as_stated() -> None:
    covered = np.array([_covers(1.0, 1.0, seed) for seed in range(500)]).mean(axis=0)
    assert covered[0] == pytest.approx(0.95, abs=0.03)
    assert covered[1] < covered[0] - 0.05  # as if decisions about one patient were independent


def test_a_perfect_attack_has_a_lower_bound() -> None:
    inside = members_of(np.random.default_rng(1), 4, 20)
    area = pooled_auc(inside.astype(np.float64), inside)
    assert (area.value, area.high) == (1, 1)
    assert area.low == pytest.approx(0.025 ** (1 / 20))


def test_a_threshold_calls_no_more_than_it_may() -> None:
    scores, inside = np.array([[1.0, 2.0, 3.0, 4.0, 9.0]]), np.array([[False] * 4 + [True]])
    assert 3 < threshold_at_fpr(scores, inside, 0.25) < 3.0001
    assert 4 < threshold_at_fpr(scores, inside, 0.1) < 4.0001
    assert threshold_at_fpr(scores, inside, 1.0) == -math.inf
    with pytest.raises(InputError, match="needs non-members"):
        threshold_at_fpr(scores, np.ones_like(inside), 0.1)


def test_the_share_of_members_among_the_called() -> None:
    assert ppv(0.5, 0.01, 0.5) == pytest.approx(0.5 / 0.51)
    assert ppv(0.5, 0.01, 0.01) == pytest.approx(0.005 / (0.005 + 0.0099))
    assert ppv(0.0, 0.0, 0.5) is None


def test_pooled_rates_by_hand() -> None:
    inside = np.array([[True, True, False, False], [False, False, True, True]])
    scores = np.array([[5.0, 1.0, 2.0, 0.0], [3.0, 0.5, 4.0, 6.0]])
    # By falling score: 6 in, 5 in, 4 in, 3 out, 2 out, 1 in, 0.5 out, 0 out.
    rates = pooled_rates(scores, inside, fprs=(0.25, 0.5, 0.0), resamples=50)
    assert [rate.tpr for rate in rates] == [0.75, 1.0, 0.75]
    assert [rate.achieved_fpr for rate in rates] == [0.25, 0.5, 0.0]
    assert [rate.expected_false_positives for rate in rates] == [1, 2, 0]
    assert [rate.resolvable for rate in rates] == [True, True, False]
    assert all(rate.flagged for rate in rates)
    assert all(rate.low is None and rate.high is None for rate in rates)


def test_a_threshold_of_other_networks_counts_the_nonmembers_it_was_chosen_on() -> None:
    inside = np.array([[True, True, True, False], [False, False, False, True], [True, False, False, False]])
    scores = np.arange(12.0).reshape(3, 4)
    (rate,) = transferred_rates(scores, inside, np.array([0, 0, 1]), fprs=(0.5,))
    # Four non-members of the first fold decide for the second, three of the second for the first.
    assert (rate.chosen_on, rate.expected_choosing, rate.expected_false_positives) == (3, 1.5, 3.5)
    assert rate.resolvable
    (rare,) = transferred_rates(scores, inside, np.array([0, 0, 1]), fprs=(0.3,))
    assert rare.expected_false_positives > 1
    assert not rare.resolvable


def test_bounds_of_pooled_rates_contain_the_rate_where_they_are_given() -> None:
    generator = np.random.default_rng(4)
    truth, hits, worlds = float(stats.norm.sf(stats.norm.isf(0.1) - 1.5)), 0, 60
    for _ in range(worlds):
        inside = np.zeros((8, 50), dtype=np.bool_)
        for number in range(0, 8, 2):
            inside[number, generator.permutation(50)[:25]] = True
            inside[number + 1] = ~inside[number]
        own, shared = generator.normal(size=(8, 50)), generator.normal(size=50)
        scores = 0.5**0.5 * (own + shared) + 1.5 * inside
        resolved, rare = pooled_rates(scores, inside, fprs=(0.1, 0.02), resamples=200, seed=1)
        assert resolved.low is not None
        assert resolved.high is not None
        assert resolved.low <= resolved.tpr <= resolved.high
        assert rare.low is None  # 4 false positives expected
        hits += resolved.low <= truth <= resolved.high
    assert hits >= 0.86 * worlds


def _world(effect: float, seed: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    generator = np.random.default_rng(seed)
    inside = members_of(generator, 32, 400)
    return signals_of(generator, inside, effect=effect, difficulty=3), inside


def test_a_threshold_for_each_sample_reaches_what_one_for_all_does_not() -> None:
    # Each sample's null is normal: TPR = Phi(effect + Phi^-1(f)); signals are taken as scores.
    signals, inside = _world(2.0, 2)
    rates = calibrated_rates(signals, inside, fprs=(0.1, 0.05))
    pooled = pooled_rates(signals, inside, fprs=(0.1, 0.05), resamples=20)
    for rate, one in zip(rates, pooled, strict=True):
        best = stats.norm.cdf(2 + stats.norm.ppf(rate.fpr))
        assert rate.tpr == pytest.approx(best, abs=0.06)
        assert rate.achieved_fpr == pytest.approx(rate.fpr, abs=0.012)
        assert one.tpr < rate.tpr - 0.2


@pytest.mark.parametrize("attack", [difficulty_calibrated, lira_offline, base])
@pytest.mark.parametrize("effect", [0.0, 1.5])
def test_thresholds_of_samples_hold_for_scores_of_any_scale(attack: FleetAttack, effect: float) -> None:
    signals, inside = _world(effect, 6)
    signals = standardised(signals)
    scores = attacked(-np.logaddexp(0, -signals) if attack is base else signals, inside, attack)
    (at_10, at_1) = calibrated_rates(scores, inside, fprs=(0.1, 0.01))
    # lira_offline scores are log tail probabilities: raw ones give an FPR below 0.001 instead of 0.1.
    assert at_10.achieved_fpr == pytest.approx(0.1, abs=0.025)
    assert at_1.achieved_fpr == pytest.approx(0.01, abs=0.0075)
    if effect == 0:
        assert at_10.tpr == pytest.approx(at_10.achieved_fpr, abs=0.02)
    else:
        assert at_10.tpr > 0.4
    assert calibrated_rates(np.exp(scores / 10), inside, fprs=(0.1,)) == [at_10]


def test_null_p_values_are_uniform() -> None:
    signals, inside = _world(0.0, 3)
    chances = p_values(signals[0], signals[2:], inside[2:])
    assert stats.kstest(chances, "uniform").pvalue > 0.01


def test_thresholds_of_other_networks_carry_over() -> None:
    signals, inside = _world(2.0, 4)
    scores = attacked(signals, inside, difficulty_calibrated)
    for rate in transferred_rates(scores, inside, fprs=(0.1, 0.01)):
        assert rate.achieved_fpr == pytest.approx(rate.fpr, abs=0.005 + rate.fpr / 10)
        assert rate.ppv[0.5] == pytest.approx(rate.tpr / (rate.tpr + rate.achieved_fpr))
        assert rate.low is not None
        assert rate.high is not None
        assert rate.low < rate.tpr < rate.high
        assert rate.achieved_low is not None
        assert rate.achieved_high is not None
        assert rate.achieved_low <= rate.fpr <= rate.achieved_high


def test_the_bounds_of_carried_rates_are_those_of_a_binomial_where_each_patient_decides_once() -> None:
    # One decision for each patient: the bounds of Clopper and Pearson.
    inside = np.arange(80)[None] < 40
    called = np.zeros((1, 80), dtype=np.bool_)
    called[0, :10] = called[0, 40:42] = True
    found = decided_rate(0.1, called, inside)
    for hits, low, high in (
        (10, found.low, found.high),
        (2, found.achieved_low, found.achieved_high),
    ):
        exact = stats.binomtest(hits, 40).proportion_ci(method="exact")
        assert (low, high) == pytest.approx((exact.low, exact.high))


def _held(seed: int) -> list[bool]:
    generator = np.random.default_rng(seed)
    inside = members_of(generator, 8, 60)
    own, shared = generator.normal(size=(8, 60)), generator.normal(size=60)
    scores = 0.5**0.5 * (own + shared) + 1.5 * inside
    truth = float(stats.norm.sf(stats.norm.isf(0.1) - 1.5))
    called = scores >= stats.norm.isf(0.1)
    found = decided_rate(0.1, called, inside)
    alone = decided_rate(0.1, called.reshape(1, -1), inside.reshape(1, -1))
    pairs = [(found.low, truth, found.high), (found.achieved_low, 0.1, found.achieved_high)]
    pairs.append((alone.low, truth, alone.high))
    return [low is not None and high is not None and low <= value <= high for low, value, high in pairs]


def test_bounds_of_carried_rates_hold_the_truth_for_dependent_decisions() -> None:
    held = np.array([_held(seed) for seed in range(400)]).mean(axis=0)
    assert (held[:2] >= 0.93).all()
    assert held[2] < held[0] - 0.1  # as if decisions about one patient were independent


def test_the_thinned_curve_keeps_corners_and_both_ends() -> None:
    generator = np.random.default_rng(8)
    inside = members_of(generator, 8, 200)
    scores = generator.normal(size=inside.shape) + inside
    whole, thin = roc(scores.ravel(), inside.ravel()), pooled_roc(scores, inside, points=40)
    assert 30 <= len(thin.fpr) <= 40
    corners = set(zip(whole.fpr.tolist(), whole.tpr.tolist(), strict=True))
    assert set(zip(thin.fpr.tolist(), thin.tpr.tolist(), strict=True)) <= corners
    assert (thin.fpr[0], thin.fpr[-1], thin.tpr[-1]) == (0, 1, 1)
    assert thin.tpr[0] == whole.tpr[whole.fpr == 0].max()
    few = pooled_roc(np.array([[3.0, 1.0, 2.0, 0.0]]), np.array([[True, True, False, False]]))
    assert (few.fpr.tolist(), few.tpr.tolist()) == ([0, 0.5, 1], [0.5, 1, 1])


def test_refuses() -> None:
    inside = members_of(np.random.default_rng(5), 4, 6)
    with pytest.raises(InputError, match="folds must be"):
        attacked(np.ones((4, 6)), inside, difficulty_calibrated, np.zeros(4, dtype=np.int64))
    with pytest.raises(InputError, match="2 or more patients"):
        pooled_auc(np.ones((4, 6)), inside, ["a"] * 6)
    with pytest.raises(InputError, match="one patient per sample"):
        by_patient(np.ones((4, 6)), inside, ["a"])
