import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from seg_mia.errors import InputError
from seg_mia.membership.compare import Scored
from seg_mia.membership.intervals import auc_bounds
from seg_mia.membership.leakage import detectable_auc, leak_test
from seg_mia.membership.roc import auc, pooled, tpr_at_fpr

Floats = NDArray[np.float64]


def scored(scores: Floats, inside: int, per_patient: int = 1) -> Scored:
    number = np.arange(len(scores))
    groups = np.char.mod("p%04d", number // per_patient)
    return Scored(np.char.mod("i%04d", number), groups, number < inside, np.asarray(scores, float))


def test_a_p_value_is_the_share_of_all_deals_that_do_as_well() -> None:
    # Ranks of the three members of seven: 7, 6 and 3, a sum of 16. Of the 35 ways to choose three ranks of
    # seven, 18 (7 6 5), 17 (7 6 4), 16 (7 6 3), 16 (7 5 4) reach it: 4 of 35.
    own = scored(np.array([7.0, 6, 3, 5, 4, 2, 1]), 3)
    sums = [sum(chosen) for chosen in itertools.combinations(range(1, 8), 3)]
    assert sum(total >= 16 for total in sums) == 4
    test = leak_test([own], permutations=40_000)
    (only,) = test.tested
    assert only.kind == "auc"
    assert only.value == auc(own.scores, own.members) == 10 / 12
    assert only.p_value == only.adjusted == pytest.approx(4 / 35, abs=0.005)
    assert (test.members, test.nonmembers, test.grouped) == (3, 4, False)


def test_every_number_is_what_the_roc_says_over_images_and_patients() -> None:
    rng = np.random.default_rng(1)
    own = scored(rng.normal(size=1200).round(1) + (np.arange(1200) < 500), 500, per_patient=5)
    found = {one.kind: one for one in leak_test([own], permutations=99).tested}
    means, whose, _ = pooled(own.scores, own.members, own.groups)
    assert found["auc"].value == pytest.approx(auc(own.scores, own.members))
    assert found["groups.auc"].value == pytest.approx(auc(means, whose))
    assert found["tpr_at_fpr_0.01"].value == pytest.approx(tpr_at_fpr(own.scores, own.members, 0.01))
    assert found["groups.tpr_at_fpr_0.01"].value == pytest.approx(tpr_at_fpr(means, whose, 0.01))
    assert {one.p_value for one in found.values()} == {0.01}


def test_the_best_of_many_is_held_against_the_best_of_many() -> None:
    rng = np.random.default_rng(7)
    attacks = [scored(rng.normal(size=80), 40) for _ in range(20)]
    test = leak_test(attacks, permutations=1999)
    best = min(test.tested, key=lambda one: one.p_value)
    assert best.p_value < 0.2
    # Of twenty independent ones the best is below p with the chance 1 - (1 - p)^20.
    assert best.adjusted == pytest.approx(1 - (1 - best.p_value) ** 20, abs=0.04)
    # Of twenty equal ones it is as it would be alone.
    alike = leak_test([attacks[best.attack]] * 20, permutations=1999).tested[0]
    assert alike.adjusted == pytest.approx(alike.p_value)


def test_a_leak_is_claimed_in_few_worlds_without_one_and_found_where_there_is_one() -> None:
    """A short form of benchmarks/leak_verdicts.py: fifteen attacks and seeds, five slices a patient."""
    claims = {0.0: 0, 1.0: 0}
    worlds = [*itertools.product(range(16), [0.0]), *itertools.product(range(8), [1.0])]
    for world, shift in worlds:
        rng = np.random.default_rng([world, int(shift)])
        members = np.arange(250) < 150
        attacks = [
            math.sqrt(0.6) * np.repeat(rng.normal(size=50), 5) + math.sqrt(0.4) * rng.normal(size=250)
            for _ in range(15)
        ]
        attacks[0] = attacks[0] + shift * members
        test = leak_test([scored(one, 150, 5) for one in attacks], permutations=999, seed=world)
        claims[shift] += min(one.adjusted for one in test.tested) <= 0.05
    assert claims[0.0] <= 3  # 4 or more of 16 have a chance of 1 % at 5 %; the rule of intervals claims most
    assert claims[1.0] >= 4


def test_lower_bounds_hold_for_all_numbers_at_once() -> None:
    rng = np.random.default_rng(3)
    one = scored(rng.normal(size=200) + (np.arange(200) < 100), 100)
    few, many = (leak_test([one] * count, permutations=1999).tested[0] for count in (1, 30))
    assert many.low < few.low < few.value
    perfect = scored(np.arange(100.0)[::-1], 50)
    (found,) = leak_test([perfect], permutations=99).tested
    assert found.low == pytest.approx(0.05 ** (1 / 50))


def test_a_lower_bound_holds_for_all_numbers_at_once() -> None:
    rng = np.random.default_rng(4)
    own = scored(rng.normal(size=60) + (np.arange(60) < 25), 25, per_patient=5)
    found = leak_test([own, own], permutations=99).tested
    (number,) = {one.low for one in found if one.kind == "auc"}
    low, _ = auc_bounds(own.scores, own.members, own.groups, tail=0.05 / len(found))
    assert number == pytest.approx(low)


def dealt(members: int, others: int, permutations: int = 1999) -> NDArray[np.bool_]:
    inside = np.arange(members + others) < members
    labels = np.random.default_rng(0).permuted(np.tile(inside, (permutations + 1, 1)), axis=1)
    labels[0] = inside
    return labels


def test_few_groups_have_the_detectable_auc_of_all_their_deals() -> None:
    labels = dealt(5, 4, permutations=999)  # of 126 different ones
    noise = np.random.default_rng(0).normal(size=(1000, 9))

    def rate(area: float) -> float:
        ranks = stats.rankdata(noise + math.sqrt(2) * stats.norm.ppf(area) * labels[0], axis=1)
        sums = labels @ ranks.T
        return float(np.mean((sums >= sums[0]).mean(axis=0) <= 0.05))

    detectable = detectable_auc(labels, level=0.05)
    assert detectable is not None
    assert rate(detectable) >= 0.8 > rate(detectable - 0.001)


def test_the_detectable_auc_is_found_in_four_worlds_of_five() -> None:
    detectable = detectable_auc(dealt(80, 60), level=0.05)
    assert detectable is not None
    shift = math.sqrt(2) * stats.norm.ppf(detectable)
    rng, found, worlds = np.random.default_rng(5), 0, 1000
    for _ in range(worlds):
        inside, outside = rng.normal(size=80) + shift, rng.normal(size=60)
        found += stats.mannwhitneyu(inside, outside, alternative="greater").pvalue <= 0.05
    assert found / worlds == pytest.approx(0.8, abs=0.06)
    areas = [detectable_auc(dealt(100, 100), level=level) or 1 for level in (0.05, 0.005)]
    assert areas[0] < areas[1]


@pytest.mark.parametrize(
    ("members", "others", "shown"), [(3, 3, False), (4, 4, False), (2, 20, True), (5, 5, True)]
)
def test_what_can_be_shown_is_what_perfect_scores_show(members: int, others: int, shown: bool) -> None:
    # One deal of 20, of 70, of 231 and of 252 is the true one; ten numbers of five attacks share 5 %.
    count = members + others
    rng = np.random.default_rng(1)
    perfect = 100.0 * (np.arange(count) < members) + rng.normal(size=count)
    attacks = [scored(perfect, members), *(scored(rng.normal(size=count), members) for _ in range(4))]
    test = leak_test(attacks)
    assert (min(one.adjusted for one in test.tested) <= 0.05) == shown
    assert (test.detectable is not None) == shown


def test_labels_are_dealt_out_among_patients_of_alike_size() -> None:
    """Large patients are members more often than others, and scores follow size: nothing of it is a leak."""
    claims = {"size": 0, "member": 0}
    worlds = [*itertools.product(range(20), ["size"]), *itertools.product(range(5), ["member"])]
    for world, follows in worlds:
        rng = np.random.default_rng(world)
        sizes = rng.choice([2, 30], p=[0.7, 0.3], size=80)
        members = rng.random(80) < np.where(sizes == 30, 0.65, 0.45)
        unit = np.repeat(np.arange(80), sizes)
        told = sizes[unit] == 30 if follows == "size" else members[unit]
        scores = 1.0 * told + 0.5 * rng.normal(size=80)[unit] + 0.5 * rng.normal(size=len(unit))
        number = np.arange(len(unit)).astype(str)
        own = Scored(number, np.char.mod("p%02d", unit), members[unit], scores)
        claims[follows] += min(one.adjusted for one in leak_test([own], permutations=199).tested) <= 0.05
    assert claims["size"] <= 3  # of 20; dealt out among all, half of them
    assert claims["member"] == 5


def test_refuses_what_cannot_be_tested() -> None:
    one = scored(np.arange(8.0), 4)
    turned = one._replace(members=~one.members)
    with pytest.raises(InputError, match="members or non-members"):
        leak_test([one, turned])
    with pytest.raises(InputError, match="at least 2 groups"):
        leak_test([scored(np.arange(3.0), 1)])
    with pytest.raises(InputError, match="one attack"):
        leak_test([])
    with pytest.raises(InputError, match="at least 40 permutations"):
        leak_test([one] * 2, permutations=38)
