"""A recipe in a report: its verdict, gates, caveats, and the numbers on the page."""

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seg_mia.audit.run import Audit
from seg_mia.errors import InputError
from seg_mia.membership.fleet import difficulty_calibrated, simes
from seg_mia.report.build import build
from seg_mia.report.command import verdict_lines
from seg_mia.report.html.recipe import recipe_sections
from seg_mia.report.rules.gates import check, read_gate
from seg_mia.report.rules.recipe_verdict import adjusted, fewest_claimed, limit_of_networks, single_patients
from seg_mia.report.write import write_report
from seg_mia.results.base import Measure
from seg_mia.results.privacy import BoundAt, DPGuarantee
from seg_mia.results.rates import rate_at
from seg_mia.results.recipe import RecipeControls, RecipeResult
from seg_mia.results.report import Report, Verdict
from seg_mia.results.text import recipe_headline
from tests.report.audits import audit, full, guess, source, write_audit
from tests.report.test_page import HOSTILE, Page
from tests.results.recipes import audited, recipe, two_attacks
from tests.results.test_recipe import by_many_runs

FAIR = Measure(0.5, 0.47, 0.53)
ABOVE = RecipeControls(permuted=Measure(0.5, 0.47, 0.53), members=Measure(0.6, 0.57, 0.63))


def report(*recipes: RecipeResult, **more: Any) -> Report:
    return build(
        source(audit([guess()], recipes=[result.plain() for result in recipes], **more)), images=True
    )[0]


def verdict(*recipes: RecipeResult) -> Verdict:
    found = report(*recipes).verdicts[0].recipe
    assert found is not None
    return found


def page(content: dict[str, Any], *recipes: RecipeResult, images: bool = True) -> tuple[str, dict[str, Any]]:
    folder = write_audit(content | {"recipes": [result.plain() for result in recipes]})
    write_report(folder, images=images)
    return (folder / "report.html").read_text(), json.loads((folder / "report.json").read_text())


def with_risk(result: RecipeResult, **changes: Any) -> RecipeResult:
    return result.model_copy(update={"risk": result.risk.model_copy(update=changes)})


def spread(lowest: float) -> RecipeResult:
    return recipe(network_aucs=[lowest, 0.9])


def weak(**changes: Any) -> RecipeResult:
    """Return an attack near chance, whose patients show nothing."""
    calm = recipe(auc=Measure(0.55, 0.49, 0.61), p_value=0.05)
    rates = calm.rates.model_copy(update={"pooled": []})
    return with_risk(calm, p_value=1.0, significant=0).model_copy(update={"rates": rates} | changes)


def test_methods_of_recipes_are_told_apart_in_a_list() -> None:
    text, numbers = page(audit([guess()]), *two_attacks())
    names = [result.label for result in two_attacks()]
    covered = numbers["evidence"]["coverage"][0]["methods"]
    assert covered[1:] == [f"{name}, recipe" for name in names]
    assert ", ".join(f"{name} (recipe)" for name in names) in text


def test_the_recipe_is_judged_apart_from_the_victim() -> None:
    own = report(*two_attacks()).verdicts[0]
    assert own.recipe is not None
    assert (own.leak.word, own.recipe.word) == ("Weak leak", "Strong leak")
    best = max(two_attacks(), key=lambda result: result.auc.value or 0)
    assert own.recipe.measure == best.auc
    assert own.recipe.why.startswith(
        f"{best.label}, the strongest of 2 attacks, on 16 networks and 200 patients."
    )
    assert "p < 0.0001 as the best of 4 numbers" in own.recipe.why
    assert report().verdicts[0].recipe is None


@pytest.mark.parametrize(
    ("p_value", "low", "word"),
    [(0.026, 0.8, "None found"), (0.024, 0.69, "Weak leak"), (0.024, 0.7, "Strong leak")],
)
def test_two_numbers_of_an_attack_share_the_error(p_value: float, low: float, word: str) -> None:
    assert verdict(weak(auc=Measure(0.85, low, 0.9), p_value=p_value)).word == word


@pytest.mark.parametrize(("resolution", "word"), [(0.0, "Strong leak"), (1 / 16, "Weak leak")])
def test_a_rate_that_is_not_resolvable_makes_no_leak_a_strong_one(resolution: float, word: str) -> None:
    found = recipe(resolution=resolution)
    assert found.tpr_at_1.low is not None
    assert found.tpr_at_1.low > 0.1
    assert verdict(weak(auc=Measure(0.85, 0.69, 0.9), p_value=0.024, rates=found.rates)).word == word


def test_patients_alone_are_a_leak_and_attacks_share_the_error() -> None:
    one = with_risk(weak(p_value=0.5), p_value=0.02, significant=1)
    assert verdict(one).word == "Weak leak"
    assert "By the patients' own AUCs, p = 0.040 as the best of 2 numbers" in verdict(one).why
    assert "1 patient is more exposed than by chance" in verdict(one).why
    assert verdict(one, weak(p_value=0.5)).word == "None found"


def test_none_found_says_what_would_have_been() -> None:
    found = verdict(weak(auc=Measure(0.52, 0.47, 0.57), p_value=0.3))
    assert found.level == "good"
    # Half of the interval on the logit scale is 0.2009; with t of 199 degrees of freedom
    # 0.2009 / 1.972 * (1.972 + 0.843) = 0.287, an AUC of 0.571.
    assert "An AUC of 0.57 would have been found with a chance of 80 %." in found.why
    assert "fewer than 2 exposed patients of 200 would not have been found" in found.why
    assert "may find what these did not" in found.why


@pytest.mark.parametrize(("networks", "patients", "attacks"), [(12, 400, 2), (16, 200, 2), (16, 400, 5)])
def test_the_fewest_patients_that_are_found_are_those_of_the_test(
    networks: int, patients: int, attacks: int
) -> None:
    found = recipe(networks=networks, patients=patients)
    fewest = fewest_claimed(found, attacks)
    least = 1 / math.comb(networks, networks // 2)
    for exposed, claims in ((fewest - 1, False), (fewest, True)):
        chances = np.where(np.arange(patients) < exposed, least, 1.0)
        tested = with_risk(found.model_copy(update={"p_value": 1.0}), p_value=min(1.0, 2 * simes(chances)))
        assert (adjusted(tested, attacks) <= 0.05) == claims


def test_networks_too_few_for_any_number_of_patients_say_so() -> None:
    small = recipe(networks=6, patients=100)  # 1 / C(6, 3) = 0.05, above the level of the test
    assert fewest_claimed(small, 1) == 400
    assert "By 6 networks no number of exposed patients would have been found" in single_patients(small, 1)
    assert single_patients(recipe(networks=32), 5) == ""


def test_a_number_of_exposed_patients_says_what_so_few_networks_cannot_show() -> None:
    few = recipe(networks=6, patients=192)  # the smallest p-value is 1/20
    assert limit_of_networks(few) == " (6 networks cannot show fewer than 192)"
    assert limit_of_networks(recipe(networks=16, patients=200)) == ""


def test_networks_that_segment_nothing_are_void() -> None:
    blank = recipe(utility={"members": {"dice": 0.05}})
    found = verdict(blank)
    assert (found.level, found.word) == ("void", "Void")
    assert "hardly segment: Dice 0.050" in found.why
    (line,) = check([read_gate("recipe.patients < 0")], report(blank))
    assert "the networks hardly segment" in line


def test_gates_read_recipes() -> None:
    own = report(*two_attacks())
    first, second = two_attacks()
    assert check([read_gate("recipe.auc>0.6")], own) == [
        f"gate recipe.auc>0.6: recipe.auc is {result.auc.value:.6g} ({result.label} on none, all 16 networks)"
        for result in (first, second)
    ]
    assert len(check([read_gate("recipe.tpr_at_fpr_0.01>0.1")], own)) == 2
    (line,) = check([read_gate("recipe.mia-lira.patients>0")], own)
    assert line.endswith(f"is {first.risk.significant} (mia-lira on none, all 16 networks)")
    assert not check([read_gate("recipe.patients[none]>200")], own)
    assert not check([read_gate("recipe.mia-lira.transferred.tpr_at_fpr_0.01.low>0.5")], own)
    with pytest.raises(InputError, match=r"matches nothing in this audit: .*recipe\.auc"):
        check([read_gate("recipe.acu>0.6")], own)
    with pytest.raises(InputError, match="matches nothing"):
        check([read_gate("recipe.auc>0.6")], report())


def test_a_rate_that_is_not_resolvable_fails_its_gate() -> None:
    small = recipe(audited(networks=8, patients=40))
    (line,) = check([read_gate("recipe.tpr_at_fpr_0.001>2")], report(small))
    assert "the decisions are too few for so low a false positive rate" in line


@pytest.mark.parametrize(
    ("said", "with_it", "without"),
    [
        ("judged by 7 networks only", recipe(networks=7), recipe(networks=8)),
        ("judged on 29 patients only", recipe(patients=29), recipe(patients=30)),
        ("200 of 200 patients have fewer than 16 networks", recipe(), with_risk(recipe(), numbered=200)),
        (
            "networks differ by more than chance",
            recipe(network_aucs=[0.6, 0.9]),
            recipe(network_aucs=[0.8, 0.9]),
        ),
        ("networks are too few to compare", with_risk(recipe(), stability=None), recipe()),
        ("correlate at -0.02", recipe(), with_risk(recipe(), significant=0)),
        (
            "0.1 % fewer than five false positives are expected",
            recipe(),
            recipe(audited(networks=8, patients=40)),
        ),
        ("0.1 % is not resolvable by 160 decisions", recipe(audited(networks=8, patients=40)), recipe()),
        (
            "of 1 % and 0.1 % is not resolvable by the scores of mia-lira, shares of a population",
            recipe(resolution=0.05),
            recipe(),
        ),
        ("one in twenty subgroups", recipe(), with_risk(recipe(), subgroups=[])),
        ("is by patient, for these networks", recipe(), None),
        (
            "a negative control of mia-lira has an AUC of 0.600 [0.570, 0.630] where nothing is to be found",
            recipe(controls=RecipeControls(permuted=Measure(0.6, 0.57, 0.63), members=None)),
            recipe(controls=RecipeControls(permuted=Measure(0.53, 0.505, 0.555), members=None)),
        ),
        ("a negative control of mia-lira", recipe(controls=ABOVE), recipe()),
        (
            "a negative control of mia-lira has an AUC of 0.580 [0.550, 0.610]",
            recipe(controls=RecipeControls(permuted=FAIR, members=None, untrained=Measure(0.58, 0.55, 0.61))),
            recipe(controls=RecipeControls(permuted=FAIR, members=None, untrained=FAIR)),
        ),
        (
            "p-value below 0.014 by 8 networks, so that fewer than 12 of 40 exposed patients are never found",
            recipe(audited(networks=8, patients=40)),
            recipe(),
        ),
    ],
)
def test_a_caveat_stands_where_it_holds_alone(
    said: str, with_it: RecipeResult, without: RecipeResult | None
) -> None:
    assert said in "\n".join(report(with_it).caveats)
    assert said not in "\n".join(report(*([] if without is None else [without])).caveats)


def test_a_caveat_of_two_recipes_stands_once() -> None:
    numbered = with_risk(recipe(row=2, defence="dp"), numbered=200)
    lines = report(recipe(), recipe(row=1, defence="crop"), numbered).caveats
    assert [line for line in lines if "fewer than 16 networks" in line] == [
        'The recipes "none" and "crop": 200 of 200 patients have fewer than 16 networks with or without '
        "them, so that they have a rank and no AUC of their own: its standard error would be above 0.1."
    ]
    assert sum("rates there are rough" in line for line in lines) == 1


def test_the_numbers_on_the_page_are_those_of_the_result() -> None:
    results = two_attacks()
    text, numbers = page(full(), *results)
    own = Page(text)
    assert not own.open
    shown = " ".join(own.text().split())
    assert [RecipeResult.read(one, "report.json") for one in numbers["recipes"]] == results
    for result in results:
        assert f"{result.auc.value:.3f} [{result.auc.low:.3f}, {result.auc.high:.3f}]" in shown
        assert f"{min(result.network_aucs):.3f} to {max(result.network_aucs):.3f}" in shown
        assert result.controls is not None
        for control in result.controls.given:
            assert f"{control.value:.3f} [{control.low:.3f}, {control.high:.3f}]" in shown
        for rates in (result.rates.pooled, result.rates.calibrated, result.rates.transferred):
            rate = rate_at(rates, 0.01)
            assert rate is not None
            assert f"{rate.tpr.value:.3f} [{rate.tpr.low:.3f}, {rate.tpr.high:.3f}]" in shown
            assert f"{100 * (rate.ppv['0.1'] or 0):.2g} %" in shown
    best = max(results, key=lambda result: result.auc.value or 0)
    assert "16 networks were trained alike, each on a random half of 200 patients." in shown
    assert f"picks the right one in {100 * (best.auc.value or 0):.0f} of 100 cases" in shown
    assert f"{best.risk.significant} of 200 patients are more exposed than chance explains" in shown
    assert "Does any network trained this way disclose its patients?" in shown
    assert "Rule R2." in shown
    titles = " ".join(text for tag, text in own.texts if tag == "title")
    assert f"{best.risk.significant} significant" in titles
    without = page(audit([guess()]))[0]
    assert 'id="recipe"' not in without
    assert "Are training patients told from others?" in " ".join(Page(without).text().split())


@pytest.mark.parametrize(
    ("changed", "conclusion"),
    [
        (recipe(), "discloses its training patients to an attacker who sees probabilities and true mask."),
        (weak(p_value=0.001), "gives some information on its training patients"),
        (weak(p_value=0.5), "No leak was shown, which is no proof that none exists."),
        (recipe(utility={"members": {"dice": 0.01}}), "The networks hardly segment, so that these numbers"),
    ],
)
def test_the_paragraph_ends_with_the_verdict(changed: RecipeResult, conclusion: str) -> None:
    (section,) = recipe_sections(report(changed))
    assert conclusion in section.words


def test_a_small_fleet_has_a_page() -> None:
    small = recipe(audited(difficulty_calibrated, networks=4, patients=20), curve=())
    text, _ = page(audit([guess()]), small)
    own = Page(text)
    assert not own.open
    shown = " ".join(own.text().split())
    assert "one per patient, from other networks" not in shown
    assert shown.count("not resolvable") >= 2 * 2  # 1 % and 0.1 % of 40 decisions, at both thresholds
    assert "false accusation" not in shown
    assert "With fewer networks" not in shown
    table = text.partition('aria-label="Rates of attacks on the recipe none"')[2].partition("</table>")[0]
    head, *rows = [re.findall("<t[dh][ >]", row) for row in re.findall("<tr>.*?</tr>", table, re.DOTALL)]
    assert len(rows) == 2
    assert all(len(row) == len(head) for row in rows)


def test_patients_are_hashes_and_left_out_of_a_report_without_images() -> None:
    result = recipe(audited(networks=32, patients=60))
    first = result.risk.exposed[0]
    text, numbers = page(audit([guess()]), result)
    assert f"<code>{first.id[:12]}</code>" in text
    assert f"{first.auc:.3f}" in text
    assert "whose names are in identities.csv of victim_0/version_0, below the folder of runs" in text
    assert "<code>identities.csv</code> of <code>victim_0/version_0</code>" in text
    assert numbers["names_in"] == ["victim_0/version_0"]
    assert numbers["recipes"][0]["risk"]["exposed"][0]["id"] == first.id
    bare, numbers = page(audit([guess()]), result, images=False)
    assert numbers["recipes"][0]["risk"]["exposed"] == []
    for said in (text, bare, json.dumps(numbers)):
        assert "patient 0" not in said
    assert first.id[:12] not in bare
    shutil.rmtree("runs/victim_0/version_0")
    lost, numbers = page(audit([guess()]) | {"attacks": []}, result)
    assert first.id[:12] in lost
    assert "whose names are" not in lost
    assert numbers["names_in"] == []


def test_a_control_that_an_earlier_version_did_not_compute_is_named() -> None:
    today = recipe()
    assert today.controls is not None
    assert today.controls.untrained is not None
    assert ">not computed<" not in page(audit([guess()]), today)[0]
    plain = today.plain()
    del plain["controls"]["untrained"]
    text, numbers = page(audit([guess()]), RecipeResult.read(plain, "audit.json"))
    assert ">not computed<" in text
    assert numbers["recipes"][0]["controls"]["untrained"] is None


def test_hostile_names_of_a_recipe_stay_text() -> None:
    group = recipe().risk.subgroups[0].model_copy(update={"column": HOSTILE, "value": HOSTILE})
    hostile = with_risk(recipe(label=HOSTILE, attacker_knowledge=HOSTILE), subgroups=[group])
    text, _ = page(full(), hostile, recipe(row=1, defence=HOSTILE))
    own = Page(text)
    assert not own.open
    assert "<img src=x" not in text
    assert "onerror" not in {name for _, attributes in own.elements for name in attributes}
    assert own.text().count("<img src=x onerror=alert(1)>") > 10


def test_folders_of_the_machine_are_shortened() -> None:
    _, numbers = page(audit([guess()]), recipe(folder="/home/somebody/runs/fleet/version_0"))
    assert numbers["recipes"][0]["folder"] == ".../fleet/version_0"


def test_a_summary_has_lines_of_the_recipe_and_its_verdict() -> None:
    results = two_attacks()
    content = report(*results)
    (line,) = verdict_lines(content)
    assert "recipe: evidence of leakage (R2); changed images: not run: no evidence (V0);" in line
    done = Audit(Path(), Path(), [], [], compared=False, report=content, failed=[])
    lines = done.headline()
    for result in results:
        assert set(recipe_headline(result)) <= set(lines)
    assert [text.split()[0] for text in lines if text.startswith("  mia-")] == ["mia-lira", "mia-calibrated"]
    assert not [
        text for text in Audit(Path(), Path(), [], [], False, report(), []).headline() if "recipe" in text
    ]


def test_what_many_trainings_prove_of_a_promise_is_on_the_page_and_a_caveat_where_it_is_broken() -> None:
    private = DPGuarantee(epsilon=1.0, replace_one=2.5, unit="patient")
    bound = by_many_runs(3.0, stricter=[BoundAt(confidence=0.975, epsilon=2.25, attainable=7.0)])
    one = recipe(privacy=private, many_runs=bound)
    (line,) = [text for text in report(one).caveats if "is broken" in text]
    assert "mia-lira its trainings prove at least 3.00, at 95 % confidence for 1 attacks together" in line
    two = [one, recipe(name="mia-calibrated", privacy=private, many_runs=by_many_runs(0.0))]
    assert not [text for text in report(*two).caveats if "is broken" in text], "2.25 holds beside another"
    assert report(*two).verdicts[0].privacy.word != "Broken"
    found = report(one)
    assert found.warnings[0].startswith('The privacy guarantee of the recipe "none" is broken. It claims')
    assert (found.verdicts[0].privacy.word, found.verdicts[0].privacy.level) == ("Broken", "bad")
    (stated,) = [row for row in found.evidence.statements if row.question == "promise"]
    assert (stated.rule, stated.word) == ("P1", "Promise contradicted")
    assert check([read_gate("epsilon.refutations>0")], found)
    weak = recipe(privacy=private, many_runs=by_many_runs(0.0, attainable=2.0))
    assert [
        text for text in report(weak).caveats if "could not have contradicted the guarantee of 2.5" in text
    ]
    text, numbers = page(full(), one)
    shown = " ".join(Page(text).text().split())
    assert "Epsilon that independent trainings with and without one patient prove" in shown
    assert numbers["recipes"][0]["many_runs"]["epsilon"] == 3.0
    assert numbers["recipes"][0]["privacy"]["replace_one"] == 2.5
