import math
from dataclasses import astuple
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from seg_mia.errors import InputError
from seg_mia.membership.intervals import Interval, auc_bounds, intervals, paired_difference
from seg_mia.membership.rates import effective_groups, tpr_bounds
from seg_mia.membership.roc import auc, confusion, tpr_at_fpr

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

SIMULATIONS = 500
NORMAL = NormalDist()
FPRS = (0.2, 0.05)


def shift(area: float) -> float:
    """How far apart two normal distributions of variance 1 lie that have this AUC."""
    return math.sqrt(2) * NORMAL.inv_cdf(area)


def noise(rng: np.random.Generator, units: int, size: int, shared: float) -> Floats:
    """Normal numbers of variance 1, `size` in a unit, which share that part of their variance."""
    own = rng.normal(size=(units, size)) * math.sqrt(1 - shared)
    return (own + rng.normal(size=(units, 1)) * math.sqrt(shared)).ravel()


def draw(seed: int, decimals: int) -> tuple[Floats, Bools, list[str]]:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 5, 14)
    groups = [f"patient {unit}" for unit, size in enumerate(sizes) for _ in range(size)]
    members = np.repeat(np.arange(14) % 2 == 0, sizes)
    order = rng.permutation(len(members))
    scores = (rng.normal(size=len(members)) + members).round(decimals)
    return scores[order], members[order], [groups[i] for i in order]


def inside(interval: Interval, truth: float) -> bool:
    return interval.low <= truth <= interval.high


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31), decimals=st.sampled_from([0, 1, 12]), grouped=st.booleans())
def test_an_interval_holds_the_plain_statistic(seed: int, decimals: int, grouped: bool) -> None:
    scores, members, names = draw(seed, decimals)
    groups = names if grouped else None
    result = intervals(scores, members, groups, threshold=0.5, fprs=FPRS, level=0.8)
    assert [interval.value for interval in result.values()] == plain(scores, members)
    for interval in result.values():
        assert 0 <= interval.low <= interval.value <= interval.high <= 1
    for fpr in FPRS:
        low, high = tpr_bounds(scores, members, groups, fpr=fpr, tail=0.1)
        rate = result[f"tpr_at_fpr_{fpr:g}"]
        assert (rate.low, rate.high) == pytest.approx((low, high))
    area = result["auc"]
    turned = intervals(-scores, members, groups, threshold=0.5, level=0.8)["auc"]
    assert (1 - turned.high, 1 - turned.low) == pytest.approx((area.low, area.high))
    other = intervals(-scores, ~members, groups, threshold=0.5, level=0.8)["auc"]
    assert (other.low, other.high) == pytest.approx((area.low, area.high))


def plain(scores: Floats, members: Bools) -> list[float]:
    decided = confusion(scores, members, 0.5)
    tprs = [tpr_at_fpr(scores, members, fpr) for fpr in FPRS]
    return [auc(scores, members), decided.accuracy, decided.balanced_accuracy, decided.f1, *tprs]


def test_the_area_has_the_variance_of_obuchowski_as_a_jackknife_has_it() -> None:
    # DeLong's without groups, worked out from all pairs; by groups the sums of their placements.
    rng = np.random.default_rng(4)
    members = np.arange(60) < 25
    scores = rng.normal(size=60) + members
    patients = [f"{i // 5}" for i in range(60)]
    above = (scores[:25, None] > scores[25:]).astype(float)
    area = above.mean()
    for groups, parts in (
        (None, (above.mean(1) - area, above.mean(0) - area)),
        (patients, tuple((v - area).reshape(-1, 5).sum(1) for v in (above.mean(1), above.mean(0)))),
    ):
        variance = sum(
            (len(sums) / (len(sums) - 1)) ** 2 * float((sums**2).sum()) / n**2
            for sums, n in zip(parts, (25, 35), strict=True)
        )
        width = stats.t.isf(0.05, min(map(len, parts)) - 1) * math.sqrt(variance) / (area * (1 - area))
        expected = stats.logistic.cdf(stats.logistic.ppf(area) + np.array([-width, width]))
        assert auc_bounds(scores, members, groups, tail=0.05) == pytest.approx(tuple(expected))


def test_patients_of_unlike_sizes_count_as_kish_counts_them() -> None:
    assert effective_groups(np.repeat(np.arange(6), 4)) == pytest.approx(6)
    assert effective_groups(np.array([0, 0, 0, 0, 1, 2])) == pytest.approx(36 / 18)


def test_close_to_the_bootstrap_of_scipy_where_there_are_many_samples() -> None:
    rng = np.random.default_rng(0)
    members = np.arange(440) < 240
    scores = rng.normal(size=440) + members
    own = intervals(scores, members, threshold=0.4)

    def area(first: Floats, second: Floats, axis: int) -> Floats:
        return np.asarray(stats.mannwhitneyu(first, second, axis=axis).statistic / (240 * 200))

    def balanced(first: Floats, second: Floats, axis: int) -> Floats:
        return np.asarray(((first >= 0.4).mean(axis) + (second < 0.4).mean(axis)) / 2)

    samples = scores[members], scores[~members]
    for name, statistic in {"auc": area, "balanced_accuracy": balanced}.items():
        theirs = stats.bootstrap(
            samples, statistic, n_resamples=2000, batch=500, method="percentile", rng=rng
        ).confidence_interval
        assert (own[name].low, own[name].high) == pytest.approx((theirs.low, theirs.high), abs=0.008)


def test_two_rates_are_joined_as_worked_out_by_hand() -> None:
    # 7 of 10 members and 3 of 15 non-members are called.
    scores = np.array([1.0] * 7 + [0.0] * 3 + [1.0] * 3 + [0.0] * 12)
    tpr, fpr = (stats.binomtest(k, n).proportion_ci(0.95, method="exact") for k, n in ((7, 10), (3, 15)))
    found = intervals(scores, MEMBERS, threshold=0.5)
    down, up = math.hypot(0.7 - tpr.low, fpr.high - 0.2), math.hypot(tpr.high - 0.7, 0.2 - fpr.low)
    assert astuple(found["balanced_accuracy"]) == pytest.approx((0.75, 0.75 - down / 2, 0.75 + up / 2))
    down = math.hypot(10 * (0.7 - tpr.low), 15 * (fpr.high - 0.2)) / 25
    up = math.hypot(10 * (tpr.high - 0.7), 15 * (0.2 - fpr.low)) / 25
    assert astuple(found["accuracy"]) == pytest.approx((0.76, 0.76 - down, 0.76 + up))

    def f1(true: float, false: float) -> float:
        return 2 * 10 * true / (10 * true + 15 * false + 10)

    down = math.hypot(0.7 - f1(tpr.low, 0.2), 0.7 - f1(0.7, fpr.high))
    up = math.hypot(f1(tpr.high, 0.2) - 0.7, f1(0.7, fpr.low) - 0.7)
    assert astuple(found["f1"]) == pytest.approx((0.7, 0.7 - down, 0.7 + up))


def test_the_keys_name_the_rates() -> None:
    scores, members, _ = draw(0, 12)
    result = intervals(scores, members, threshold=0)
    rates = ["tpr_at_fpr_0.1", "tpr_at_fpr_0.01", "tpr_at_fpr_0.001"]
    assert list(result) == ["auc", "accuracy", "balanced_accuracy", "f1", *rates]


def test_a_higher_level_is_wider() -> None:
    scores, members, _ = draw(0, 12)
    narrow, wide = (intervals(scores, members, threshold=0, level=level)["auc"] for level in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


MEMBERS = np.arange(25) < 10
PATIENTS = [f"p{i // 5}" for i in range(25)]  # two of members, three of non-members


@pytest.mark.parametrize(("groups", "units"), [(None, (10, 15)), (PATIENTS, (2, 3))])
def test_perfect_scores_have_the_bounds_of_clopper_and_pearson(
    groups: list[str] | None, units: tuple[int, int]
) -> None:
    def exact(trials: int) -> float:
        return float(stats.binomtest(trials, trials).proportion_ci(0.95, method="exact").low)

    pairs = exact(units[0])
    missed = [1 - exact(trials) for trials in units]
    right = intervals(MEMBERS.astype(float), MEMBERS, groups, threshold=0.5, fprs=(0.1,))
    assert astuple(right["auc"]) == pytest.approx((1, pairs, 1))
    assert astuple(right["balanced_accuracy"]) == pytest.approx((1, 1 - math.hypot(*missed) / 2, 1))
    assert right["f1"].low < right["f1"].value == right["f1"].high == 1
    wrong = intervals(1.0 - MEMBERS, MEMBERS, groups, threshold=0.5, fprs=(0.1,))
    assert astuple(wrong["auc"]) == pytest.approx((0, 0, 1 - pairs))
    assert astuple(wrong["balanced_accuracy"]) == pytest.approx((0, 0, math.hypot(*missed) / 2))
    assert (wrong["f1"].value, wrong["f1"].low) == (0, 0)
    assert 0 < wrong["f1"].high < 1


def test_equal_scores_are_chance_exactly_but_not_surely() -> None:
    slack = 1 - 0.025 ** (1 / 10)
    same = intervals(np.ones(25), MEMBERS, threshold=2)
    assert astuple(same["auc"]) == pytest.approx((0.5, 0.5 - slack / 2, 0.5 + slack / 2))
    assert same["balanced_accuracy"].low < 0.4
    assert same["balanced_accuracy"].high > 0.6
    assert same["f1"].value == same["f1"].low == 0
    all_called = intervals(np.ones(25), MEMBERS, threshold=0)["f1"]
    assert all_called.low < all_called.value == 20 / 35 < all_called.high


def test_the_same_scores_differ_by_nothing() -> None:
    scores, members, groups = draw(2, 1)
    assert paired_difference(scores, scores, members, groups) == Interval(0, 0, 0)
    assert paired_difference(scores, 2 * scores, members) == Interval(0, 0, 0)


def test_a_difference_is_close_to_the_paired_interval_of_delong_where_there_are_many_samples() -> None:
    rng = np.random.default_rng(5)
    members = np.arange(900) < 400
    shared = rng.normal(size=900)
    first, second = (shared + rng.normal(size=900) + shift * members for shift in (1.2, 0.6))
    above = (first[:400, None] > first[400:]).astype(float) - (second[:400, None] > second[400:])
    width = 1.96 * math.sqrt(above.mean(1).var(ddof=1) / 400 + above.mean(0).var(ddof=1) / 500)
    result = paired_difference(first, second, members)
    assert result.value == pytest.approx(above.mean())
    assert (result.low, result.high) == pytest.approx((above.mean() - width, above.mean() + width), abs=0.002)
    turned = paired_difference(second, first, members)
    assert (turned.low, turned.high) == pytest.approx((-result.high, -result.low))


def test_a_difference_to_scores_that_tell_nothing_is_as_unsure_as_the_other_area() -> None:
    members = np.arange(40) < 20
    perfect, nothing = 1.0 * members, np.zeros(40)
    result = paired_difference(perfect, nothing, members)
    area = auc_bounds(perfect, members)
    assert result.value == 0.5
    assert result.low < area[0] - 0.5 < result.high
    assert result.high > 0.5


def test_a_difference_near_one_is_covered() -> None:
    members = np.arange(40) < 20
    covered = 0
    for seed in range(SIMULATIONS):
        rng = np.random.default_rng(seed)
        common, noise_of_second = rng.normal(size=40), rng.normal(size=40)
        first = common + shift(0.99) * members
        second = 0.7 * common + math.sqrt(0.51) * noise_of_second + shift(0.95) * members
        covered += inside(paired_difference(first, second, members), 0.99 - 0.95)
    assert covered / SIMULATIONS >= 0.94


@pytest.mark.parametrize("sizes", [[40] + [2] * 19, [200] + [2] * 19])
def test_the_area_is_covered_where_one_patient_has_most_samples(sizes: list[int]) -> None:
    patients = np.repeat(np.arange(40), sizes * 2)
    members = patients < 20
    covered = 0
    for seed in range(SIMULATIONS):
        rng = np.random.default_rng(seed)
        scores = math.sqrt(0.6) * rng.normal(size=40)[patients] + math.sqrt(0.4) * rng.normal(
            size=len(patients)
        )
        low, high = auc_bounds(scores, members, patients.astype(str))
        covered += low <= 0.5 <= high
    assert covered / SIMULATIONS >= 0.94


def test_two_perfect_attacks_may_differ_by_what_their_pairs_cannot_show() -> None:
    right, wrong = MEMBERS.astype(float), 1.0 - MEMBERS
    slack = 1 - 0.025 ** (1 / 10)
    both, one = (paired_difference(right, second, MEMBERS) for second in (right, wrong))
    assert astuple(both) == pytest.approx((0, -slack, slack))
    assert astuple(one) == pytest.approx((1, 1 - 2 * slack, 1))


@pytest.mark.parametrize("area", [0.5, 0.75, 0.9])
@pytest.mark.parametrize("side", [16, 50])
def test_the_area_is_covered(side: int, area: float) -> None:
    members = np.arange(2 * side) < side
    covered = 0
    for seed in range(SIMULATIONS):
        scores = np.random.default_rng(seed).normal(size=2 * side) + shift(area) * members
        own = intervals(scores, members, threshold=0, fprs=())["auc"]
        covered += inside(own, area)
    assert 0.93 <= covered / SIMULATIONS <= 0.995


def test_the_area_of_alike_samples_is_covered_by_whole_groups_only() -> None:
    members = np.arange(240) < 120
    groups = [f"{i // 4:02d}" for i in range(240)]
    covered = np.zeros(2)
    for seed in range(SIMULATIONS):
        scores = noise(np.random.default_rng(seed), 60, 4, 0.6) + shift(0.75) * members
        for i, known in enumerate((groups, None)):
            own = intervals(scores, members, known, threshold=0, fprs=())["auc"]
            covered[i] += inside(own, 0.75)
    by_group, by_sample = covered / SIMULATIONS
    assert 0.9 <= by_group <= 0.985
    assert by_sample < 0.85


def test_the_difference_is_covered_and_that_of_alike_samples_by_whole_groups_only() -> None:
    members = np.arange(160) < 80
    groups = [f"{i // 4:02d}" for i in range(160)]
    covered = np.zeros(3)
    for seed in range(SIMULATIONS):
        rng = np.random.default_rng(seed)
        for i, (shared, known) in enumerate(((0.0, None), (0.6, groups), (0.6, None))):
            one, other = noise(rng, 40, 4, shared), noise(rng, 40, 4, shared)
            first = one + shift(0.8) * members
            second = (one + other) / math.sqrt(2) + shift(0.7) * members
            own = paired_difference(first, second, members, known)
            covered[i] += inside(own, 0.8 - 0.7)
    alone, by_group, by_sample = covered / SIMULATIONS
    assert 0.9 <= alone <= 0.985
    assert 0.9 <= by_group <= 0.985
    assert by_sample < 0.85


def test_too_few_groups_or_levels_out_of_range_are_refused() -> None:
    scores, members, groups = draw(0, 1)
    one_patient = [name if member else "x" for name, member in zip(groups, members, strict=True)]
    with pytest.raises(InputError, match="got 7 and 1; score more patients"):
        intervals(scores, members, one_patient, threshold=0)
    with pytest.raises(InputError, match="got 7 and 1; score more patients"):
        paired_difference(scores, scores, members, one_patient)
    for level in (0, 1, 95):
        with pytest.raises(InputError, match=f"level must lie between 0 and 1, got {level}; 0.95"):
            intervals(scores, members, threshold=0, level=level)
        with pytest.raises(InputError, match=f"got {level}"):
            paired_difference(scores, scores, members, level=level)


def test_without_a_threshold_nothing_is_decided() -> None:
    scores, members, _ = draw(0, 1)
    decided, undecided = (intervals(scores, members, threshold=value) for value in (0.0, math.nan))
    assert decided.keys() - undecided.keys() == {"accuracy", "balanced_accuracy", "f1"}
    assert all(decided[name] == undecided[name] for name in undecided)


def test_scores_that_do_not_fit_are_refused() -> None:
    scores, members, groups = draw(0, 1)
    with pytest.raises(InputError, match="1 of"):
        intervals(np.append(scores[1:], math.nan), members, threshold=0)
    with pytest.raises(InputError, match="one shape"):
        paired_difference(scores, scores[1:], members)
    with pytest.raises(InputError, match="shape"):
        intervals(scores, members, groups[1:], threshold=0)
    with pytest.raises(InputError, match=r"fpr must lie in \[0, 1\]"):
        intervals(scores, members, threshold=0, fprs=(2,))
