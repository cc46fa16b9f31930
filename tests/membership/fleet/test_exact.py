"""Exact p-values of patients: another library's, by hand, and by simulation."""

import itertools

import numpy as np
import pytest
from scipy import stats

from seg_mia.membership.fleet import patient_auc, patient_p_values
from seg_mia.membership.fleet.exact import tail


@pytest.mark.parametrize(("inside", "outside"), [(1, 1), (2, 2), (4, 4), (8, 8), (3, 7), (16, 16), (40, 40)])
def test_p_values_are_another_librarys(inside: int, outside: int) -> None:
    scores = np.random.default_rng(0).permutation(inside + outside).astype(float)
    for shift in (0, inside):
        first, second = scores[:inside] + shift + 0.5 * (shift > 0), scores[inside:]
        expected = stats.mannwhitneyu(first, second, alternative="greater", method="exact")
        assert tail(expected.statistic, [(inside, outside)]) == pytest.approx(expected.pvalue)


def test_folds_add_their_wins() -> None:
    # Two pairs with one network on either side: 2, 1 or 0 wins with chances 1/4, 1/2, 1/4.
    assert [tail(wins, [(1, 1), (1, 1)]) for wins in (0, 1, 2)] == [1, 0.75, 0.25]
    assert tail(1.5, [(1, 1), (1, 1)]) == 0.75  # a tie
    # 2 + 1 and 1 + 1 networks by enumeration of all orders.
    totals = [
        (order[0] > order[2]) + (order[1] > order[2]) + other
        for order in itertools.permutations(range(3))
        for other in (0, 1)
    ]
    assert tail(3, [(2, 1), (1, 1)]) == pytest.approx(np.mean(np.array(totals) >= 3))


def test_large_sides_are_normal_and_close() -> None:
    exact = stats.mannwhitneyu(np.arange(65) + 12.5, np.arange(65), alternative="greater", method="exact")
    assert tail(exact.statistic, [(65, 65)]) == pytest.approx(exact.pvalue, rel=0.2)


@pytest.mark.parametrize(
    ("networks", "folds", "least"),
    [(4, None, 1 / 6), (8, None, 1 / 70), (8, [0, 0, 0, 0, 1, 1, 1, 1], 1 / 36)],
)
def test_few_networks_call_no_more_than_stated(networks: int, folds: list[int] | None, least: float) -> None:
    generator = np.random.default_rng(1)
    inside = np.tile(np.arange(networks) % 2 == 0, (8000, 1)).T
    scores = generator.normal(size=inside.shape)
    parts = None if folds is None else np.array(folds)
    chances = patient_p_values(patient_auc(scores, inside, parts)[0], inside, parts)
    for level in (0.02, 0.05, 0.2, 0.5):
        assert (chances <= level).mean() <= level + 3 * np.sqrt(level / 8000)
    assert chances.min() == pytest.approx(least)
