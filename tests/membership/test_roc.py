import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, roc_auc_score, roc_curve

from seg_mia.errors import InputError
from seg_mia.membership.roc import (
    Confusion,
    auc,
    best_threshold,
    check_members,
    check_scores,
    confusion,
    pooled,
    resolvable,
    roc,
    tpr_at_fpr,
)

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Statistic = Callable[[Floats, Bools], object]

SCORES = np.array([0.9, 0.8, 0.7, 0.7, 0.4, 0.2])
MEMBERS = np.array([True, False, True, False, True, False])

seeds = st.integers(0, 2**31)
decimals = st.sampled_from([0, 1, 12])  # many ties, some, none

every_statistic = pytest.mark.parametrize(
    "statistic",
    [
        check_scores,
        roc,
        auc,
        best_threshold,
        lambda s, m: tpr_at_fpr(s, m, 0.1),
        lambda s, m: confusion(s, m, 0.5),
        lambda s, m: pooled(s, m, [str(i) for i in range(len(s))]),
    ],
)


def draw(seed: int, decimals: int = 12) -> tuple[Floats, Bools]:
    rng = np.random.default_rng(seed)
    members = rng.permutation(np.arange(rng.integers(4, 60)) < rng.integers(2, 40))
    members[:4] = [True, False, True, False]
    return (rng.normal(size=len(members)) + members).round(decimals), members


def test_the_curve_by_hand() -> None:
    curve = roc(SCORES, MEMBERS)
    assert curve.thresholds.tolist() == [math.inf, 0.9, 0.8, 0.7, 0.4, 0.2]
    assert curve.tpr.tolist() == [0, 1 / 3, 1 / 3, 2 / 3, 1, 1]
    assert curve.fpr.tolist() == [0, 0, 1 / 3, 2 / 3, 2 / 3, 1]
    assert auc(SCORES, MEMBERS) == pytest.approx((3 + 1.5 + 1) / 9)


@settings(deadline=None)
@given(seed=seeds, decimals=decimals)
def test_equal_to_scikit_learn_and_scipy(seed: int, decimals: int) -> None:
    scores, members = draw(seed, decimals)
    fpr, tpr, thresholds = roc_curve(members, scores, drop_intermediate=False)
    curve = roc(scores, members)
    np.testing.assert_allclose(curve.fpr, fpr, rtol=1e-12)
    np.testing.assert_allclose(curve.tpr, tpr, rtol=1e-12)
    np.testing.assert_array_equal(curve.thresholds, thresholds)
    area = auc(scores, members)
    assert area == pytest.approx(roc_auc_score(members, scores), abs=1e-12)
    inside, outside = scores[members], scores[~members]
    pairs = len(inside) * len(outside)
    assert area == pytest.approx(mannwhitneyu(inside, outside).statistic / pairs, abs=1e-12)


@settings(deadline=None)
@given(seed=seeds, decimals=decimals)
def test_only_the_order_of_scores_matters_and_the_opposite_order_has_the_opposite_area(
    seed: int, decimals: int
) -> None:
    scores, members = draw(seed, decimals)
    assert auc(np.exp(scores), members) == auc(scores, members)
    assert auc(-scores, members) == pytest.approx(1 - auc(scores, members), abs=1e-12)
    assert auc(scores, ~members) == pytest.approx(1 - auc(scores, members), abs=1e-12)


def test_equal_scores_are_chance_and_parted_ones_certainty() -> None:
    assert auc(np.full(6, 0.3), MEMBERS) == 0.5
    assert auc(MEMBERS.astype(float), MEMBERS) == 1
    assert auc(1.0 - MEMBERS, MEMBERS) == 0
    curve = roc(np.full(6, 0.3), MEMBERS)
    assert (curve.fpr.tolist(), curve.tpr.tolist()) == ([0, 1], [0, 1])


def test_single_precision_has_the_same_curve() -> None:
    narrow = SCORES.astype(np.float32)
    curve = roc(narrow, MEMBERS)
    assert all(axis.dtype == np.float64 for axis in (curve.fpr, curve.tpr, curve.thresholds))
    assert curve.tpr.tolist() == roc(SCORES, MEMBERS).tpr.tolist()


def test_a_rate_between_two_points_has_the_value_of_the_lower() -> None:
    members = np.array([True, False, True, True, False])
    scores = np.array([5.0, 4.0, 3.0, 2.0, 1.0])
    assert [tpr_at_fpr(scores, members, fpr) for fpr in (0, 0.49, 0.5, 0.99, 1)] == [1 / 3, 1 / 3, 1, 1, 1]
    tied = np.array([5.0, 5.0, 3.0, 2.0, 1.0])
    assert tpr_at_fpr(tied, members, 0.49) == 0


@settings(deadline=None)
@given(seed=seeds, decimals=decimals, fpr=st.floats(0, 1) | st.sampled_from([0.1, 0.01, 0.25]))
def test_the_rate_is_the_best_of_the_points_allowed(seed: int, decimals: int, fpr: float) -> None:
    scores, members = draw(seed, decimals)
    curve = roc(scores, members)
    assert tpr_at_fpr(scores, members, fpr) == curve.tpr[curve.fpr <= fpr + 1e-12].max()


@pytest.mark.parametrize(("nonmembers", "fpr"), [(100, 0.29), (1000, 0.001), (10, 1 - 0.9), (3, 1 / 3)])
def test_rounding_takes_no_false_positive_away(nonmembers: int, fpr: float) -> None:
    allowed = round(nonmembers * fpr)
    scores = -np.arange(nonmembers + 2.0)
    members = np.isin(np.arange(nonmembers + 2), [0, allowed + 1])
    assert tpr_at_fpr(scores, members, fpr) == 1
    assert tpr_at_fpr(scores, members, fpr - 1e-4) == 0.5
    assert resolvable(nonmembers, fpr)


def test_which_rates_can_be_seen() -> None:
    assert resolvable(1000, 0.001)
    assert not resolvable(999, 0.001)
    assert resolvable(1, 1)
    assert not resolvable(1, 0.5)


@settings(deadline=None)
@given(seed=seeds, decimals=decimals, threshold=st.floats(-2, 2))
def test_decisions_equal_those_of_scikit_learn(seed: int, decimals: int, threshold: float) -> None:
    scores, members = draw(seed, decimals)
    called = scores >= threshold
    confused = confusion(scores, members, threshold)
    assert confused.accuracy == pytest.approx(accuracy_score(members, called))
    assert confused.balanced_accuracy == pytest.approx(balanced_accuracy_score(members, called))
    assert confused.f1 == pytest.approx(f1_score(members, called, zero_division=0))


def test_decisions_by_hand() -> None:
    assert confusion(SCORES, MEMBERS, 0.7) == Confusion(2, 2, 1, 1)
    assert confusion(SCORES, MEMBERS, math.inf) == Confusion(0, 0, 3, 3)
    assert confusion(SCORES, MEMBERS, -math.inf) == Confusion(3, 3, 0, 0)
    assert Confusion(0, 0, 3, 3).f1 == 0
    assert Confusion(2, 2, 1, 1).f1 == 4 / 7


def test_a_threshold_between_two_single_precision_scores_parts_them() -> None:
    above = np.nextafter(np.float32(1), np.float32(2))
    scores = np.array([above, above, 1, 1], np.float32)
    members = np.array([True, True, False, False])
    assert confusion(scores, members, best_threshold(scores, members)) == Confusion(2, 0, 2, 0)


def test_the_best_threshold_lies_midway() -> None:
    members = np.array([True, True, True, False, False, False])
    assert best_threshold(np.array([9.0, 8.0, 7.0, 3.0, 2.0, 1.0]), members) == 5
    assert best_threshold(np.array([9.0, 8.0, 2.0, 3.0, 1.0, 0.0]), members) == pytest.approx((1 + 2) / 2)


def test_of_several_best_thresholds_the_middle_one_is_taken() -> None:
    members = np.array([True, False, True, False, True, False])
    # In floating point 1 - 2/3 is above 2/3 - 1/3, and the last of these three would win.
    assert best_threshold(np.array([6.0, 5.0, 4.0, 3.0, 2.0, 1.0]), members) == 3.5
    assert best_threshold(np.array([4.0, 3.0, 2.0, 1.0]), members[:4]) == 1.5


def test_without_a_threshold_better_than_chance_all_are_members() -> None:
    assert best_threshold(np.full(6, 0.3), MEMBERS) == 0.3
    assert best_threshold(1.0 - MEMBERS, MEMBERS) == 0
    assert confusion(1.0 - MEMBERS, MEMBERS, 0) == Confusion(3, 3, 0, 0)


@settings(deadline=None)
@given(seed=seeds, decimals=decimals)
def test_no_threshold_is_better_than_the_best(seed: int, decimals: int) -> None:
    scores, members = draw(seed, decimals)
    best = confusion(scores, members, best_threshold(scores, members)).balanced_accuracy
    others = [confusion(scores, members, t).balanced_accuracy for t in roc(scores, members).thresholds]
    assert best == pytest.approx(max(others))


@pytest.mark.parametrize("low", [1.0, -1.0, 0.0, 1e308, -1.7e308, 5e-324])
def test_neighbouring_numbers_are_parted(low: float) -> None:
    high = math.nextafter(low, math.inf)
    members = np.array([True, True, False, False])
    threshold = best_threshold(np.array([high, high, low, low]), members)
    assert low < threshold <= high
    assert math.isfinite(best_threshold(np.array([1.7e308, 1.7e308, 1.6e308, 1.6e308]), members))


def test_patients_have_their_mean_score() -> None:
    groups = ["b", "c", "b", "d", "a", "c"]
    members = np.array([True, False, True, False, True, False])
    scores, inside, names = pooled(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), members, groups)
    assert names == ["a", "b", "c", "d"]
    assert scores.tolist() == [5, 2, 4, 4]
    assert inside.tolist() == [True, True, False, False]
    assert inside.dtype == np.bool_


def test_patients_of_one_side_may_become_too_few_for_a_curve() -> None:
    scores, inside, _ = pooled(SCORES, MEMBERS, ["a", "b", "a", "c", "a", "d"])
    with pytest.raises(InputError, match="got 1 and 3"):
        auc(scores, inside)


@every_statistic
def test_scores_that_cannot_be_ranked_are_refused(statistic: Statistic) -> None:
    with pytest.raises(InputError, match=r"one shape \(n,\), got \(6,\) and \(5,\); give one"):
        statistic(SCORES, MEMBERS[:5])
    with pytest.raises(InputError, match=r"got \(1, 6\) and \(1, 6\)"):
        statistic(SCORES[None], MEMBERS[None])
    broken = SCORES.copy()
    broken[1:4] = math.nan, math.inf, -math.inf
    with pytest.raises(InputError, match="3 of 6 are NaN or infinite; check"):
        statistic(broken, MEMBERS)
    with pytest.raises(InputError, match="got 1 and 5; score more"):
        statistic(SCORES, np.arange(6) < 1)
    with pytest.raises(InputError, match="got 5 and 1; score more"):
        statistic(SCORES, np.arange(6) > 0)
    with pytest.raises(InputError, match="got 0 and 0"):
        statistic(np.zeros(0), np.zeros(0, bool))


def test_members_told_by_numbers_are_refused() -> None:
    numbers = MEMBERS.astype(int)
    with pytest.raises(InputError, match=r"got int64 \(6,\); convert it with .astype\(bool\)"):
        auc(SCORES, numbers)
    with pytest.raises(InputError, match=r"got bool \(1, 6\)"):
        check_members(MEMBERS[None])


def test_groups_that_do_not_fit_are_refused() -> None:
    check_scores(SCORES, MEMBERS, ["a", "b", "a", "c", "a", "d"])
    with pytest.raises(InputError, match=r"shape \(6,\), got \(2,\); name one group"):
        check_scores(SCORES, MEMBERS, ["a", "b"])
    with pytest.raises(InputError, match="2 of 3 hold both, 'a' first; split by group"):
        check_scores(SCORES, MEMBERS, ["a", "a", "b", "b", "c", "b"])


def test_rates_and_thresholds_that_are_none_are_refused() -> None:
    for fpr in (-0.1, 1.1, math.nan):
        with pytest.raises(InputError, match=r"fpr must lie in \[0, 1\], got"):
            tpr_at_fpr(SCORES, MEMBERS, fpr)
    with pytest.raises(InputError, match="threshold must be a number, got nan; choose it"):
        confusion(SCORES, MEMBERS, math.nan)
