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
from seg_mia.membership import bootstrap
from seg_mia.membership.bootstrap import Interval, draw_counts, intervals, paired_difference
from seg_mia.membership.rates import tpr_bounds
from seg_mia.membership.roc import auc, confusion, tpr_at_fpr

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

SIMULATIONS = 300
DRAWS = 400
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


def test_each_side_is_drawn_apart() -> None:
    members = np.arange(30) % 3 == 0
    counts = draw_counts(members, None, draws=50, seed=0)
    assert counts.shape == (50, 30)
    assert counts.dtype == np.int64
    assert counts.min() == 0
    assert (counts[:, members].sum(axis=1) == 10).all()
    assert (counts[:, ~members].sum(axis=1) == 20).all()


def test_whole_groups_are_drawn_as_many_as_there_are() -> None:
    _, members, groups = draw(0, 1)
    counts = draw_counts(members, groups, draws=50, seed=0)
    names, first, unit = np.unique(groups, return_index=True, return_inverse=True)
    of_groups = counts[:, first]
    np.testing.assert_array_equal(counts, of_groups[:, unit])
    assert (of_groups[:, members[first]].sum(axis=1) == 7).all()
    assert (of_groups[:, ~members[first]].sum(axis=1) == len(names) - 7).all()
    assert counts.sum(axis=1).std() > 0


def test_each_sample_is_drawn_once_on_average_with_a_binomial_spread() -> None:
    members = np.arange(20) < 8
    counts = draw_counts(members, None, draws=20_000, seed=0)
    np.testing.assert_allclose(counts.mean(axis=0), 1, atol=0.04)
    np.testing.assert_allclose(counts[:, members].var(axis=0), 7 / 8, atol=0.05)
    np.testing.assert_allclose(counts[:, ~members].var(axis=0), 11 / 12, atol=0.05)


def test_the_seed_decides_and_memory_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    _, members, groups = draw(1, 1)
    whole = draw_counts(members, groups, draws=101, seed=3)
    assert not np.array_equal(whole, draw_counts(members, groups, draws=101, seed=4))
    for rows in (1, 7):
        monkeypatch.setattr(bootstrap, "CELLS", rows * len(members))
        np.testing.assert_array_equal(whole, draw_counts(members, groups, draws=101, seed=3))


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31), decimals=st.sampled_from([0, 1, 12]), grouped=st.booleans())
def test_an_interval_holds_the_percentiles_of_the_plain_statistic(
    seed: int, decimals: int, grouped: bool
) -> None:
    scores, members, names = draw(seed, decimals)
    groups = names if grouped else None
    result = intervals(scores, members, groups, threshold=0.5, fprs=FPRS, draws=40, level=0.8, seed=seed)
    replicates = draw_counts(members, groups, draws=40, seed=seed)
    drawn = [plain(np.repeat(scores, counts), np.repeat(members, counts)) for counts in replicates]
    expected = np.quantile(drawn, [0.1, 0.9], axis=0)
    points = plain(scores, members)
    assert [interval.value for interval in result.values()] == points
    for fpr in FPRS:  # which are not resampled
        low, high = tpr_bounds(scores, members, groups, fpr=fpr, tail=0.1)
        rate = result[f"tpr_at_fpr_{fpr:g}"]
        assert (rate.low, rate.high) == pytest.approx((low, high))
    resampled = len(points) - len(FPRS)
    for interval, point, low, high in list(zip(result.values(), points, *expected, strict=True))[:resampled]:
        if point in {0, 1}:
            assert interval.low <= low <= high <= interval.high
        else:
            assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-12)


def plain(scores: Floats, members: Bools) -> list[float]:
    decided = confusion(scores, members, 0.5)
    tprs = [tpr_at_fpr(scores, members, fpr) for fpr in FPRS]
    return [auc(scores, members), decided.accuracy, decided.balanced_accuracy, decided.f1, *tprs]


def test_close_to_the_percentile_intervals_of_scipy() -> None:
    rng = np.random.default_rng(0)
    members = np.arange(110) < 60
    scores = rng.normal(size=110) + members
    own = intervals(scores, members, threshold=0.4, draws=5000)

    def area(first: Floats, second: Floats, axis: int) -> Floats:
        return np.asarray(stats.mannwhitneyu(first, second, axis=axis).statistic / (60 * 50))

    def balanced(first: Floats, second: Floats, axis: int) -> Floats:
        return np.asarray(((first >= 0.4).mean(axis) + (second < 0.4).mean(axis)) / 2)

    samples = scores[members], scores[~members]
    for name, statistic in {"auc": area, "balanced_accuracy": balanced}.items():
        theirs = stats.bootstrap(
            samples, statistic, n_resamples=5000, batch=500, method="percentile", rng=rng
        ).confidence_interval
        assert (own[name].low, own[name].high) == pytest.approx((theirs.low, theirs.high), abs=0.008)


def test_the_keys_name_the_rates() -> None:
    scores, members, _ = draw(0, 12)
    result = intervals(scores, members, threshold=0, draws=10)
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

    pairs, everyone, missed = exact(units[0]), exact(sum(units)), (1 - exact(sum(units))) * 25
    right = intervals(MEMBERS.astype(float), MEMBERS, groups, threshold=0.5, fprs=(0.1,), draws=20)
    for name, low in {"auc": pairs, "balanced_accuracy": pairs}.items():
        assert astuple(right[name]) == pytest.approx((1, low, 1))
    assert astuple(right["accuracy"]) == pytest.approx((1, everyone, 1))
    lowest = max(0, 2 * (10 - missed) / (20 - missed))
    assert astuple(right["f1"]) == pytest.approx((1, lowest, 1))
    wrong = intervals(1.0 - MEMBERS, MEMBERS, groups, threshold=0.5, fprs=(0.1,), draws=20)
    for name in ("auc", "balanced_accuracy"):
        assert astuple(wrong[name]) == pytest.approx((0, 0, 1 - pairs))
    assert astuple(wrong["accuracy"]) == pytest.approx((0, 0, 1 - everyone))
    assert (wrong["f1"].value, wrong["f1"].low) == (0, 0)
    assert 0 < wrong["f1"].high < 1


def test_equal_scores_are_chance_exactly_but_not_surely() -> None:
    slack = 1 - 0.025 ** (1 / 10)
    same = intervals(np.ones(25), MEMBERS, threshold=2, draws=20)
    assert same["auc"].value == 0.5
    assert astuple(same["auc"]) == pytest.approx((0.5, 0.5 - slack / 2, 0.5 + slack / 2))
    assert same["balanced_accuracy"].low == pytest.approx(0.5 - slack)
    assert same["balanced_accuracy"].high == pytest.approx(0.5 + slack)
    assert same["f1"].value == same["f1"].low == 0
    all_called = intervals(np.ones(25), MEMBERS, threshold=0, draws=20)["f1"]
    assert all_called.low < all_called.value == 20 / 35 < all_called.high


def test_the_same_scores_differ_by_nothing() -> None:
    scores, members, groups = draw(2, 1)
    assert paired_difference(scores, scores, members, groups) == Interval(0, 0, 0)
    assert paired_difference(scores, 2 * scores, members) == Interval(0, 0, 0)


def test_a_difference_is_that_of_the_plain_areas_in_every_replicate() -> None:
    first, members, groups = draw(2, 1)
    second = draw(4, 0)[0].repeat(2)[: len(first)]
    result = paired_difference(first, second, members, groups, draws=40, level=0.8, seed=5)
    drawn = []
    for counts in draw_counts(members, groups, draws=40, seed=5):
        both = (auc(np.repeat(scores, counts), np.repeat(members, counts)) for scores in (first, second))
        drawn.append(next(both) - next(both))
    assert result.value == auc(first, members) - auc(second, members)
    assert (result.low, result.high) == pytest.approx(tuple(np.quantile(drawn, [0.1, 0.9])), abs=1e-12)


def test_two_perfect_attacks_may_differ_by_what_their_pairs_cannot_show() -> None:
    right, wrong = MEMBERS.astype(float), 1.0 - MEMBERS
    slack = 1 - 0.025 ** (1 / 10)
    both, one = (paired_difference(right, second, MEMBERS, draws=20) for second in (right, wrong))
    assert astuple(both) == pytest.approx((0, -slack, slack))
    assert astuple(one) == pytest.approx((1, 1 - 2 * slack, 1))


@pytest.mark.parametrize("area", [0.5, 0.75, 0.9])
def test_the_area_is_covered(area: float) -> None:
    members = np.arange(100) < 50
    covered = 0
    for seed in range(SIMULATIONS):
        scores = np.random.default_rng(seed).normal(size=100) + shift(area) * members
        own = intervals(scores, members, threshold=0, fprs=(), draws=DRAWS, seed=seed)["auc"]
        covered += inside(own, area)
    assert 0.9 <= covered / SIMULATIONS <= 0.985


def test_the_area_of_alike_samples_is_covered_by_whole_groups_only() -> None:
    members = np.arange(240) < 120
    groups = [f"{i // 4:02d}" for i in range(240)]
    covered = np.zeros(2)
    for seed in range(SIMULATIONS):
        scores = noise(np.random.default_rng(seed), 60, 4, 0.6) + shift(0.75) * members
        for i, known in enumerate((groups, None)):
            own = intervals(scores, members, known, threshold=0, fprs=(), draws=DRAWS, seed=seed)["auc"]
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
            own = paired_difference(first, second, members, known, draws=DRAWS, seed=seed)
            covered[i] += inside(own, 0.8 - 0.7)
    alone, by_group, by_sample = covered / SIMULATIONS
    assert 0.9 <= alone <= 0.985
    assert 0.9 <= by_group <= 0.985
    assert by_sample < 0.85


def test_too_few_groups_replicates_or_levels_are_refused() -> None:
    scores, members, groups = draw(0, 1)
    one_patient = [name if member else "x" for name, member in zip(groups, members, strict=True)]
    with pytest.raises(InputError, match="got 7 and 1; score more patients"):
        intervals(scores, members, one_patient, threshold=0)
    with pytest.raises(InputError, match="got 7 and 1; score more patients"):
        paired_difference(scores, scores, members, one_patient)
    with pytest.raises(InputError, match="draws must be at least 1, got 0"):
        draw_counts(members, None, draws=0, seed=0)
    for level in (0, 1, 95):
        with pytest.raises(InputError, match=f"level must lie between 0 and 1, got {level}; 0.95"):
            intervals(scores, members, threshold=0, level=level)
        with pytest.raises(InputError, match=f"got {level}"):
            paired_difference(scores, scores, members, level=level)


def test_scores_that_do_not_fit_are_refused() -> None:
    scores, members, groups = draw(0, 1)
    with pytest.raises(InputError, match="1 of"):
        intervals(np.append(scores[1:], math.nan), members, threshold=0)
    with pytest.raises(InputError, match="one shape"):
        paired_difference(scores, scores[1:], members)
    with pytest.raises(InputError, match="shape"):
        draw_counts(members, groups[1:], draws=1, seed=0)
    with pytest.raises(InputError, match="threshold must be a number"):
        intervals(scores, members, threshold=math.nan)
    with pytest.raises(InputError, match=r"fpr must lie in \[0, 1\]"):
        intervals(scores, members, threshold=0, fprs=(2,))
