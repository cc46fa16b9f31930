"""Decisions about one victim by thresholds of other networks."""

import numpy as np
import pytest
from scipy import stats

from seg_mia.errors import InputError
from seg_mia.membership.answers import Answers
from seg_mia.membership.fleet import difficulty_calibrated
from seg_mia.membership.fleet.arrays import Folds, Inside
from seg_mia.membership.fleet.scorers import Calibrated, Lira
from seg_mia.membership.fleet.victim import (
    Thresholds,
    in_turn,
    null_chances,
    transferred_thresholds,
    victim_rates,
)
from seg_mia.membership.scorers import Threshold
from seg_mia.results.evaluation import membership_scores
from seg_mia.results.rates import threshold_rates
from tests.membership.fleet.worlds import Values, members_of, signals_of


def everything(inside: Inside) -> Inside:
    return np.ones(inside.shape[1], dtype=np.bool_)


def test_each_network_is_attacked_by_all_but_its_complement() -> None:
    inside = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=bool)
    signals = np.arange(12.0).reshape(4, 3)
    seen = list[list[float]]()

    def attack(numbers: Folds, target: Values, references: Values, inside: Inside) -> Values:  # noqa: ARG001
        assert signals[numbers[1:], 0].tolist() == references[:, 0].tolist()
        seen.append(references[:, 0].tolist())
        return target

    judged = np.ones((4, 3), dtype=np.bool_)
    judged[3, 1] = False
    scores = in_turn(signals, inside, attack, everything, judged)
    # Networks 0 and 1 complement each other, and 2 and 3.
    assert seen == [[6, 9], [6, 9], [0, 3], [0, 3]]
    assert np.isnan(scores[3, 1])
    np.testing.assert_array_equal(scores[:3], signals[:3])
    few = in_turn(signals, inside, attack, lambda membership: membership.sum(axis=0) > 1)
    assert np.isnan(few).all()


def test_thresholds_are_quantiles_of_patients_outside() -> None:
    # Two networks, patients of two samples: means outside are 4, 3, 2, 1 and a member of 9.
    scores = np.array([[9.0, 9, 3, 5, 2, 4], [1, 3, np.nan, 1, 9, 9]])
    inside = np.array([[1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1]], dtype=bool)
    lowest = transferred_thresholds(scores, inside, np.array(list("aabbcc")), (0.25, 0.5, 0.1))
    assert lowest[0.25] == pytest.approx(3)
    assert lowest[0.25] > 3
    assert lowest[0.5] == pytest.approx(2)
    assert lowest[0.1] == pytest.approx(4)
    assert transferred_thresholds(scores, np.ones_like(inside), np.array(list("aabbcc"))) == {}


def test_chances_are_uniform_without_membership() -> None:
    generator = np.random.default_rng(0)
    inside = members_of(generator, 32, 400)
    signals = signals_of(generator, inside, effect=0, difficulty=1.0)
    scores = in_turn(signals[:-2], inside[:-2], lambda _, *arrays: difficulty_calibrated(*arrays), everything)
    target = difficulty_calibrated(signals[-1], signals[:-2], inside[:-2])
    names = np.char.zfill(np.arange(400).astype(str), 3)
    chances = null_chances(target, scores, inside[:-2], names)
    assert chances is not None
    assert stats.kstest(chances, "uniform").pvalue > 0.01
    assert null_chances(target, scores[:1], inside[:1], names) is None


def test_the_rates_of_a_victim_by_hand() -> None:
    scores = np.array([4.0, 3, 2, 1, 3.5, 0.5, 0, 0])
    members = np.arange(8) < 4
    names = np.array(list("abcdefgh"))
    thresholds = Thresholds(names, {0.25: 2.5}, np.array([0.01, 0.2, 0.3, 0.9, 0.1, 0.6, 0.7, 0.8]))
    rates = victim_rates(scores, members, names, thresholds, fprs=(0.25,))
    (pooled,), (transferred,), (calibrated,) = rates.pooled, rates.transferred, rates.calibrated
    assert (rates.members, rates.nonmembers) == (4, 4)
    assert (pooled.tpr, pooled.achieved_fpr) == (1.0, 0.25)
    assert (transferred.tpr, transferred.achieved_fpr) == (0.5, 0.25)
    assert (calibrated.tpr, calibrated.achieved_fpr) == (0.5, 0.25)
    exact = stats.binomtest(2, 4).proportion_ci(method="exact")
    assert (transferred.low, transferred.high) == pytest.approx((exact.low, exact.high))
    exact = stats.binomtest(1, 4).proportion_ci(method="exact")
    assert (transferred.achieved_low, transferred.achieved_high) == pytest.approx((exact.low, exact.high))
    assert transferred.ppv[0.1] == pytest.approx(0.1 * 0.5 / (0.1 * 0.5 + 0.9 * 0.25))
    assert (transferred.expected_false_positives, transferred.resolvable, transferred.flagged) == (
        1,
        True,
        True,
    )
    assert victim_rates(scores, members, names, fprs=(0.25,)).transferred == []
    with pytest.raises(InputError, match="got 8 for 7"):
        victim_rates(scores[:7], members[:7], names[:7], thresholds)


@pytest.mark.parametrize(
    ("nonmembers", "chosen_on", "resolvable", "flagged"),
    [
        (50, None, True, False),  # 5 expected of the victim's
        (50, 50, True, False),
        (50, 49, True, True),  # 4.9 expected of those it was chosen on
        (50, 9, False, True),  # their maximum, whatever the nominal rate
        (49, 500, True, True),
        (9, 500, False, True),
    ],
)
def test_both_sides_of_a_shadows_threshold_limit_its_rate(
    nonmembers: int, chosen_on: int | None, resolvable: bool, flagged: bool
) -> None:
    members = np.arange(nonmembers + 20) < 20
    names = np.char.zfill(np.arange(len(members)).astype(str), 3)
    thresholds = Thresholds(names, {0.1: 0.5}, np.full(len(names), 0.2), chosen_on)
    rates = victim_rates(members.astype(np.float64), members, names, thresholds, fprs=(0.1,))
    result = threshold_rates(rates)
    (transferred,) = result.transferred
    assert transferred.expected == pytest.approx(nonmembers / 10)
    assert transferred.expected_choosing == (None if chosen_on is None else pytest.approx(chosen_on / 10))
    assert (transferred.resolvable, transferred.flagged) == (resolvable, flagged)
    assert transferred.tpr.resolvable == transferred.achieved_fpr.resolvable == resolvable
    for alone in (*result.pooled, *result.calibrated):  # decided here, or by fitted distributions
        assert (alone.resolvable, alone.flagged) == (nonmembers >= 10, nonmembers < 50)
        assert alone.expected_choosing is None


@pytest.mark.parametrize("scorer", [Lira(), Calibrated(), Threshold()])
def test_scorers_decide_by_their_shadows_at_the_nominal_rate(scorer: Lira | Calibrated | Threshold) -> None:
    generator = np.random.default_rng(1)
    inside = np.concatenate([members_of(generator, 2, 600)[:1], members_of(generator, 16, 600)])
    groups = np.repeat(np.char.zfill(np.arange(300).astype(str), 3), 2)
    inside = np.repeat(inside[:, ::2], 2, axis=1)
    signals = signals_of(generator, inside, effect=1.5, difficulty=1.0, level=1.0)
    if isinstance(scorer, Threshold):  # does not take out levels
        signals -= np.median(signals, axis=1, keepdims=True)
    ids = np.char.zfill(np.arange(600).astype(str), 3)
    judged = np.ones(600, dtype=np.bool_)
    victim, *shadows = (
        Answers(ids, groups, members, judged, -row) for members, row in zip(inside, signals, strict=True)
    )
    scorer.fit(shadows[:1] if isinstance(scorer, Threshold) else shadows)
    guesses = scorer.score(victim, shadows)
    found = membership_scores(guesses, inside[0], groups).thresholds
    assert found is not None
    assert (found.members + found.nonmembers, len(found.pooled), len(found.transferred)) == (300, 3, 3)
    assert [rate.expected for rate in found.transferred] == pytest.approx([15, 1.5, 0.15], abs=2)
    assert [rate.resolvable for rate in found.transferred] == [True, True, False]
    assert found.transferred[0].achieved_fpr.value == pytest.approx(0.1, abs=0.06)
    for rates in (found.pooled, found.transferred):
        assert rates[0].tpr.value == pytest.approx(found.pooled[0].tpr.value, abs=0.1)
    assert len(found.calibrated) == (0 if isinstance(scorer, Threshold) else 3)
    if found.calibrated:
        assert found.calibrated[0].achieved_fpr.value == pytest.approx(0.1, abs=0.06)
        assert found.calibrated[0].tpr.value == pytest.approx(found.pooled[0].tpr.value, abs=0.15)


def test_few_shadows_have_no_thresholds_of_patients() -> None:
    generator = np.random.default_rng(2)
    inside = members_of(generator, 6, 40)
    signals = signals_of(generator, inside, effect=1)
    names, judged = np.char.zfill(np.arange(40).astype(str), 2), np.ones(40, dtype=np.bool_)
    victim, _, *shadows = (
        Answers(names, names, members, judged, -row) for members, row in zip(inside, signals, strict=True)
    )
    scorer = Lira()
    scorer.fit(shadows)
    thresholds = scorer.score(victim, shadows).thresholds
    # Without a shadow and its complement each sample has one reference of either side, two are needed.
    assert thresholds is not None
    assert (dict(thresholds.lowest), thresholds.chances) == ({}, None)


def test_a_rate_is_resolvable_only_if_the_threshold_was_chosen_on_nonmembers_enough() -> None:
    """Of 30 non-members of one shadow the threshold of 1 % is their maximum, however many the victim has."""
    generator = np.random.default_rng(0)
    names, members = np.char.zfill(np.arange(1000).astype(str), 3), np.arange(1000) < 500
    victim = Answers(names, names, members, np.ones(1000, dtype=np.bool_), generator.normal(size=1000))
    for count, resolvable in ((30, False), (200, True)):
        inside = np.arange(2 * count) < count
        shadow = Answers(
            names[: 2 * count], names[: 2 * count], inside, inside | True, generator.normal(size=2 * count)
        )
        scorer = Threshold()
        scorer.fit([shadow])
        guesses = scorer.score(victim, [])
        assert guesses.thresholds is not None
        assert guesses.thresholds.nonmembers == count
        found = membership_scores(guesses, members, names).thresholds
        assert found is not None
        assert [rate.resolvable for rate in found.transferred] == [True, resolvable, False]
        assert [rate.resolvable for rate in found.pooled] == [True, True, False]
