"""Risk by patient: other libraries' numbers, closed forms, and worlds without a leak."""

import math
from functools import partial

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from seg_mia.errors import InputError
from seg_mia.membership.fleet import (
    attacked,
    benjamini_hochberg,
    lira_online,
    mates,
    mean_p_value,
    network_halves,
    null_areas,
    pair_folds,
    patient_auc,
    patient_p_values,
    patient_risk,
    simes,
    stability,
    standardised,
    subgroups,
    survival,
    worst_decile,
)
from tests.membership.fleet.worlds import members_of, signals_of


def test_each_patients_auc_is_another_librarys() -> None:
    generator = np.random.default_rng(0)
    inside = members_of(generator, 8, 12)
    scores = np.round(generator.normal(size=inside.shape) + inside, 1)
    area, _ = patient_auc(scores, inside)
    expected = [roc_auc_score(inside[:, patient], scores[:, patient]) for patient in range(12)]
    np.testing.assert_allclose(area, expected)


def test_within_folds_wins_are_counted_in_each() -> None:
    inside = np.array([[True], [False], [True], [False], [False]])
    scores = np.array([[1.0], [2.0], [9.0], [3.0], [9.0]])
    # The first fold's only pair is lost, of the other's two one is won and one tied.
    area, _ = patient_auc(scores, inside, np.array([0, 0, 1, 1, 1]))
    assert area.tolist() == [pytest.approx(1.5 / 3)]


@pytest.mark.parametrize(("side", "published"), [(8, 0.149), (16, 0.104), (32, 0.073), (100, 0.041)])
def test_the_standard_error_at_chance(side: int, published: float) -> None:
    # Scores that interleave have an AUC near one half.
    scores = np.arange(2.0 * side)[:, None]
    inside = (np.arange(2 * side) % 4 % 3 == 0)[:, None]
    area, error = patient_auc(scores, inside)
    assert area[0] == pytest.approx(0.5, abs=1e-9)
    assert error[0] == pytest.approx(published, abs=0.0006)


def test_the_standard_error_is_the_scatter_over_fleets() -> None:
    generator = np.random.default_rng(1)
    inside = members_of(generator, 40, 4000)
    area, error = patient_auc(signals_of(generator, inside, effect=1), inside)
    assert area.mean() == pytest.approx(stats.norm.cdf(1 / math.sqrt(2)), abs=0.005)
    assert error.mean() == pytest.approx(area.std(), rel=0.06)


def test_nothing_is_significant_where_nothing_is() -> None:
    generator = np.random.default_rng(2)
    inside = members_of(generator, 32, 1000)
    risk = patient_risk(signals_of(generator, inside, effect=0), inside, permutations=60)
    assert risk.auc.mean() == pytest.approx(0.5, abs=0.01)
    assert risk.significant.sum() <= 1
    assert (risk.p_value <= 0.05).mean() == pytest.approx(0.05, abs=0.025)
    curve = risk.survival
    assert (curve.low - 0.02 <= curve.share).all()
    assert (curve.share <= curve.high + 0.02).all()
    assert risk.numbered.all()


def test_scores_fitted_on_other_networks_compare_within_a_fold_only() -> None:
    generator = np.random.default_rng(3)
    inside = members_of(generator, 16, 1500)
    signals = signals_of(generator, inside, effect=0)
    halves = pair_folds(inside, 2)
    scores = attacked(signals, inside, lira_online, halves)
    assert patient_auc(scores, inside, halves)[0].mean() == pytest.approx(0.5, abs=0.015)
    # Over all networks, each the target of all others, the same null is far below.
    alone = attacked(signals, inside, partial(lira_online, variance="fixed"), np.arange(16))
    assert patient_auc(alone, inside)[0].mean() < 0.46


def test_some_exposed_patients_are_found_and_ranked() -> None:
    generator = np.random.default_rng(4)
    inside = members_of(generator, 32, 200)
    exposed = np.arange(200) < 20
    signals = signals_of(generator, inside, effect=0) + 4 * exposed * inside
    risk = patient_risk(signals, inside, permutations=40)
    assert risk.significant[exposed].all()
    assert risk.significant[~exposed].sum() <= 5
    assert risk.rank[exposed].mean() < 11.5
    assert risk.worst_decile == pytest.approx(float(np.sort(risk.auc)[-20:].mean()))
    assert risk.worst_decile > 0.98
    at = risk.survival.at
    assert risk.survival.share[at == 0.95][0] >= 0.1 > risk.survival.high[at == 0.95][0]


def test_p_values_are_another_librarys() -> None:
    generator = np.random.default_rng(5)
    inside = np.repeat([[True], [False]], [12, 15], axis=0)
    scores = generator.normal(size=(27, 1)) + 0.7 * inside
    area, _ = patient_auc(scores, inside)
    expected = stats.mannwhitneyu(
        scores[:12, 0], scores[12:, 0], alternative="greater", method="exact"
    ).pvalue
    assert patient_p_values(area, inside)[0] == pytest.approx(expected)


def test_the_false_discovery_rate_is_another_librarys() -> None:
    chances = np.random.default_rng(6).uniform(size=200) ** 3
    expected = stats.false_discovery_control(chances) <= 0.05
    np.testing.assert_array_equal(benjamini_hochberg(chances), expected)
    assert not benjamini_hochberg(np.array([0.6, 0.9])).any()
    with pytest.raises(InputError, match="p-values must lie in"):
        benjamini_hochberg(np.array([1.2]))


def test_halves_keep_complements_together() -> None:
    inside = members_of(np.random.default_rng(7), 8, 20)
    first, second = network_halves(inside)
    assert sorted([*first, *second]) == list(range(8))
    assert set(mates(inside)[first]) == set(first)
    with pytest.raises(InputError, match="halves need at least 2 pairs"):
        network_halves(inside[:2])


def test_stability_by_hand() -> None:
    first = np.linspace(0.4, 1, 20)
    assert stability(first, first) == stability(first, first**2)
    assert stability(first, first).jaccard == 1
    opposite = stability(first, -first, top=0.1)
    assert opposite.spearman == pytest.approx(-1)
    assert opposite.jaccard == 0
    assert stability(first, np.ones(20)).spearman is None
    # The top 3 of either share one: 1 of 5.
    assert stability(np.arange(6.0), np.array([5.0, 4, 0, 1, 2, 3]), top=0.5).jaccard == pytest.approx(1 / 5)
    with pytest.raises(InputError, match="the same patients, at least 2"):
        stability(first, first[1:])


def test_subgroups_differ_by_their_means() -> None:
    area = np.concatenate([np.full(30, 0.8), np.full(30, 0.6), [0.5]])
    found = subgroups(area, ["a"] * 30 + ["b"] * 30 + ["c"], resamples=200)
    assert [(group.value, group.patients) for group in found] == [("a", 30), ("b", 30)]
    assert found[0].auc == pytest.approx(0.8)
    assert found[0].difference.value == pytest.approx(0.8 - (30 * 0.6 + 0.5) / 31)
    assert found[0].difference.low > 0.15
    with pytest.raises(InputError, match="labels must name"):
        subgroups(area, ["a"])


def test_few_patients_and_a_side_without_networks() -> None:
    assert worst_decile(np.array([0.2, 0.9])) == 0.9
    with pytest.raises(InputError, match="1 of 2 have none"):
        patient_auc(np.ones((2, 2)), np.array([[True, True], [False, True]]))
    with pytest.raises(InputError, match="score vectors first"):
        patient_auc(np.ones((2, 1, 2)), np.array([[True], [False]]))
    with pytest.raises(InputError, match="folds must be"):
        null_areas(np.ones((2, 1)), np.array([[True], [False]]), np.zeros(3, dtype=np.int64))


def test_the_survival_curve_and_its_band_by_hand() -> None:
    null = np.array([[0.2, 0.4], [0.6, 0.8]])
    curve = survival(np.array([0.5, 0.9]), null, at=np.array([0.0, 0.5, 0.6, 1.0]))
    assert curve.share.tolist() == [1, 1, 0.5, 0]
    # Shares of the two permutations: 1 and 1; 0 and 1; 0 and 1; 0 and 0.
    assert curve.low.tolist() == pytest.approx([1, 0.025, 0.025, 0])
    assert curve.high.tolist() == pytest.approx([1, 0.975, 0.975, 0])


def test_one_exposed_patient_among_many_is_a_leak() -> None:
    assert simes(np.array([0.001, *np.linspace(0.1, 1, 19)])) == pytest.approx(0.02)
    assert simes(np.linspace(0.05, 1, 20)) == pytest.approx(1.0)
    chances = np.random.default_rng(0).random((4000, 30))
    assert np.mean([simes(row) <= 0.05 for row in chances]) == pytest.approx(0.05, abs=0.012)


def test_a_little_leakage_of_all_patients_is_found_by_their_mean() -> None:
    # 4 networks on either side: AUCs of 0.75 and 0.5 have a mean of 0.625, each a variance of 9 / 192.
    inside = np.repeat([[True], [False]], 4, axis=0).repeat(2, axis=1)
    z = 0.125 * 2 / math.sqrt(2 * 9 / 192)
    assert mean_p_value(np.array([0.75, 0.5]), inside) == pytest.approx(stats.norm.sf(z))
    generator = np.random.default_rng(8)
    many = members_of(generator, 6, 80)
    risk = patient_risk(signals_of(generator, many, effect=0.7), many, permutations=5)
    assert risk.significant.sum() == 0
    assert simes(risk.p_value) > 0.05 > risk.leak_p_value


def test_without_leakage_the_mean_is_small_as_often_as_stated() -> None:
    small = []
    for seed in range(600):
        generator = np.random.default_rng(seed)
        inside = members_of(generator, 6, 40)
        signals = standardised(signals_of(generator, inside, effect=0, level=2))
        small.append(mean_p_value(patient_auc(signals, inside)[0], inside) <= 0.05)
    assert np.mean(small) == pytest.approx(0.05, abs=0.027)


def test_the_highest_tenth_is_held_against_that_without_a_leak() -> None:
    generator = np.random.default_rng(7)
    inside = members_of(generator, 16, 400)
    calm, leaking = (
        patient_risk(signals_of(generator, inside, effect=effect), inside, permutations=60)
        for effect in (0, 1)
    )
    assert calm.worst_decile > 0.7  # by chance alone
    assert calm.worst_decile_null.low <= calm.worst_decile <= calm.worst_decile_null.high
    assert leaking.worst_decile > leaking.worst_decile_null.high
    assert leaking.leak_p_value < 0.05 < calm.leak_p_value
