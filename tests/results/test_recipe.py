"""A recipe's result holds the numbers of its audit, which are those of the closed form."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from seg_mia.errors import InputError
from seg_mia.membership.fleet import difficulty_calibrated
from seg_mia.membership.fleet.decisions import rate
from seg_mia.membership.intervals import Interval
from seg_mia.results.privacy import BoundAt, DPGuarantee, EpsilonLowerBound
from seg_mia.results.rates import rate_at
from seg_mia.results.recipe import RecipeResult, auc_p_value, recipe_result, without_ids
from seg_mia.results.tables import recipe_table
from seg_mia.results.text import recipe_headline, recipe_headlines
from tests.results.recipes import audited, expected_auc, expected_tpr, hashes, recipe, two_attacks


def test_the_numbers_are_those_of_the_closed_form() -> None:
    result = recipe(audited(difficulty_calibrated), name="mia-calibrated")
    # A network's complement is left out, so that 7 of 14 references are without each patient.
    assert (result.networks, result.references, result.patients) == (16, 14, 200)
    assert (result.members, result.nonmembers, result.samples) == (1600, 1600, 200)
    assert result.auc.low is not None
    assert result.auc.high is not None
    assert result.auc.low <= expected_auc(7) <= result.auc.high
    assert np.mean(result.network_aucs) == pytest.approx(expected_auc(7), abs=0.02)
    for rates in (result.rates.pooled, result.rates.transferred, result.rates.calibrated):
        (at_10,) = [rate for rate in rates if rate.fpr == 0.1]
        assert at_10.expected == 160
        assert at_10.tpr.value == pytest.approx(expected_tpr(0.1, 7), abs=0.06)
        assert at_10.achieved_fpr.value == pytest.approx(0.1, abs=0.02)
    # A patient's own AUC needs no references.
    assert result.risk.worst_decile > result.risk.worst_decile_null.high > 0.7  # type: ignore[operator]
    best = expected_auc(math.inf)
    share = [
        at
        for at, share in zip(result.risk.survival.at, result.risk.survival.share, strict=True)
        if share > 0.5
    ]
    assert max(share) == pytest.approx(best, abs=0.06)


def test_rates_carry_what_they_can_resolve() -> None:
    rates = recipe(audited(networks=8, patients=40)).rates.pooled
    # 160 decisions on non-members.
    assert [rate.expected for rate in rates] == pytest.approx([16, 1.6, 0.16])
    assert [rate.resolvable for rate in rates] == [True, True, False]
    assert [rate.flagged for rate in rates] == [False, True, True]
    assert rates[2].tpr.resolvable is False
    assert rates[0].achieved_fpr.low is None
    found = rate_at(recipe().rates.transferred, 0.1)
    assert found is not None
    tpr, fpr = found.tpr.value, found.achieved_fpr.value
    assert tpr is not None
    assert fpr is not None
    assert found.ppv == {
        f"{prior:g}": pytest.approx(prior * tpr / (prior * tpr + (1 - prior) * fpr))
        for prior in (0.01, 0.1, 0.5)
    }
    assert found.achieved_fpr.low is not None
    assert rate_at(recipe().rates.pooled, 0.5) is None


def test_scores_of_few_values_resolve_no_low_rate() -> None:
    coarse = recipe(resolution=0.05)
    assert [rate.resolvable for rate in coarse.rates.pooled] == [True, False, False]
    assert [rate.tpr.resolvable for rate in coarse.rates.transferred] == [True, False, False]
    assert not any(point.tpr.resolvable for point in coarse.curve)
    assert recipe_table([coarse])[1][5] == "not resolvable (16 expected)"


def test_without_a_false_positive_nothing_is_known_of_accusations() -> None:
    never = replace(audited(), transferred=[rate(0.01, 0.5, 0.0, 1600), rate(0.1, 0.5, 0.25, 1600)])
    first, second = recipe(never).rates.transferred
    assert first.ppv == {"0.01": None, "0.1": None, "0.5": None}
    assert second.ppv["0.5"] == pytest.approx(2 / 3)


def test_patients_are_named_by_hashes_and_numbered_with_32_networks_alone() -> None:
    few, many = recipe(), recipe(audited(networks=32, patients=60))
    assert few.risk.numbered == 0
    assert len(few.risk.exposed) == 20
    assert all(patient.auc is None and patient.error is None for patient in few.risk.exposed)
    assert many.risk.numbered == 60
    assert len(many.risk.exposed) == 6
    assert [patient.rank for patient in many.risk.exposed] == sorted(
        patient.rank for patient in many.risk.exposed
    )
    for patient in many.risk.exposed:
        assert patient.auc is not None
        assert patient.error is not None
        assert patient.error < 0.11
    assert np.mean([patient.auc for patient in many.risk.exposed if patient.auc]) == many.risk.worst_decile
    assert {patient.id for patient in few.risk.exposed} <= set(hashes(audited().patients))
    assert "patient 0" not in few.model_dump_json()
    assert without_ids(few).risk.exposed == []


def test_small_subgroups_are_left_out() -> None:
    groups = {(group.column, group.value): group for group in recipe().risk.subgroups}
    assert sorted(groups) == [("site", "north"), ("site", "south")]
    assert groups["site", "north"].patients == 133
    low, high = groups["site", "north"].difference.low, groups["site", "north"].difference.high
    assert low is not None
    assert high is not None
    assert low <= 0 <= high
    assert (
        recipe(audited(networks=8, patients=9)).risk.subgroups[0].patients == 6
    )  # and not the 3 of the other


def test_a_result_is_read_as_it_was_written() -> None:
    result = recipe()
    assert RecipeResult.read(result.plain(), "audit.json") == result


@pytest.mark.parametrize("ids", [[], ["x"] * 3, [f"patient {number:03}" for number in range(200)]])
def test_names_and_missing_ids_are_refused(ids: list[str]) -> None:
    with pytest.raises(InputError, match="salted hash of each of 200 patients"):
        recipe_result(audited(), name="a", sampling="online", attacker_knowledge="b", ids=ids)


def test_the_p_value_is_that_of_the_interval() -> None:
    # An interval that touches 0.5 has a one-sided p-value of 2.5 %.
    logit = stats.logistic.ppf(0.6)
    touching = Interval(0.6, 0.5, float(stats.logistic.cdf(2 * logit)))
    assert auc_p_value(touching, 30) == pytest.approx(0.025)
    assert auc_p_value(Interval(0.5, 0.4, 0.6), 30) == pytest.approx(0.5)
    assert auc_p_value(Interval(1.0, 0.9, 1.0), 10) == 0.5**10
    assert auc_p_value(Interval(0.0, 0.0, 0.1), 10) == 1


def test_without_leakage_one_recipe_in_twenty_has_a_small_p_value() -> None:
    assert recipe(audited(effect=0.0)).p_value > 0.01
    assert recipe(audited(effect=0.0)).risk.significant == 0


def by_many_runs(epsilon: float, **changes: Any) -> EpsilonLowerBound:
    return EpsilonLowerBound(
        epsilon=epsilon,
        attainable=8.0,
        confidence=0.95,
        members=22,
        nonmembers=22,
        unit="patient",
        rule="gaussian_many_runs",
    ).model_copy(update=changes)


def test_the_headline_has_what_many_trainings_prove_of_a_promise() -> None:
    private = DPGuarantee(epsilon=1.0, replace_one=2.5, unit="patient")
    line = recipe_headline(recipe(privacy=private, many_runs=by_many_runs(2.0)))[-1]
    assert line == (
        "  44 trainings with and without one patient prove epsilon >= 2.00 of at most 8.00 (95% confidence); "
        "the guarantee is 2.5 if one is replaced"
    )
    broken = recipe_headline(recipe(privacy=private, many_runs=by_many_runs(3.0)))[-1]
    assert broken.endswith("WHICH IS BROKEN: >= 3.00 at 95% confidence for 1 attack")
    joint = by_many_runs(3.0, stricter=[BoundAt(confidence=0.975, epsilon=2.25, attainable=7.0)])
    pair = [recipe(privacy=private, many_runs=bound) for bound in (joint, by_many_runs(0.0))]
    assert not [text for text in recipe_headlines(pair) if "BROKEN" in text], "2.25 holds beside another"
    assert [text for text in recipe_headlines(pair[:1]) if "BROKEN" in text]
    other = recipe_headline(recipe(privacy=private, many_runs=by_many_runs(3.0, unit="image")))[-1]
    assert other.endswith("the guarantee is per patient, not comparable")
    nothing = recipe_headline(recipe(privacy=None, many_runs=by_many_runs(0.0)))[-1]
    assert "prove no epsilon of at most 8.00" in nothing
    assert nothing.endswith("no guarantee under replacing one")
    assert by_many_runs(3.0).is_proof


def test_the_headline_and_the_table_have_the_numbers() -> None:
    first, second = two_attacks()
    headline = recipe_headline(first)
    assert f"AUC {first.auc.value:.3f} [{first.auc.low:.3f}, {first.auc.high:.3f}]" in headline[0]
    assert headline[0].startswith(
        "recipe, mia-lira (online, attacker knowledge: probabilities and true mask), each of 16 networks"
    )
    assert f"{first.tpr_at_1.value:.3f}" in headline[1]
    assert headline[2].startswith(f"  {first.risk.significant} of 200 patients more exposed than by chance")
    header, *rows = recipe_table([first, second])
    assert [row[:3] for row in rows] == [["mia-lira", "online", "16"], ["mia-calibrated", "offline", "16"]]
    assert rows[1][header.index("exposed patients")] == f"{second.risk.significant} of 200"
    defended: dict[str, Any] = {"row": 1, "defence": "crop"}
    (_, *rows) = recipe_table([first, second.model_copy(update=defended)])
    assert rows[1][0] == "mia-calibrated on crop"
    small = [recipe(audited(difficulty_calibrated, networks=n, patients=10 * n // 2)) for n in (8, 4)]
    rough = recipe_table(small)
    assert rough[1][header.index("TPR at 1 % FPR")].endswith("(1.6 expected, rough)")
    assert rough[2][header.index("TPR at 1 % FPR")] == "not resolvable (0.4 expected)"
