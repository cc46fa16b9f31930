"""Every rule of a statement, with a victim that must get it."""

from collections.abc import Callable
from typing import Any

import pytest

from seg_mia.report.evidence.build import statements
from seg_mia.report.evidence.promises import promises
from seg_mia.report.rules.caveats import caveats
from seg_mia.report.rules.privacy_verdict import privacy
from seg_mia.report.rules.statement_rules import RULES
from seg_mia.results.audit import AuditResult
from seg_mia.results.base import Measure
from seg_mia.results.evidence import Statement
from seg_mia.results.folds import FoldQuality, FoldsResult
from seg_mia.results.recipe import RecipeResult
from tests.report.audits import (
    audit,
    canaries,
    certified,
    checked,
    compared,
    fool,
    guess,
    leaks,
    mean,
    of_attack,
    promise,
    rate,
    strong,
)
from tests.report.test_recipe import weak, with_risk
from tests.results.recipes import recipe

CALM = (0.52, 0.45, 0.6)
POWER = {"members": 300, "nonmembers": 200, "detectable": 0.6}
BLANK = {"nonmembers": {"dice": 0.02}, "members": {"dice": 0.05}}
EASY = guess("mia-blind", auc=(0.7, 0.6, 0.8), signal="ImageAndMask")
"""A baseline that tells the sides apart without the victim."""


def answers(content: dict[str, Any]) -> dict[str, Statement]:
    """Return the answers on the first row by question."""
    read = AuditResult.read(content, "audit.json")
    given = promises(read.defences, read.membership, read.leaks)
    return {answer.question: answer for answer in statements(read, given) if answer.row == 0}


def membership(
    *numbers: dict[str, Any], attack: dict[str, Any] | None = None, more: Any = (), **joint: Any
) -> dict[str, Any]:
    """Return an audit of one attack and its joint test."""
    made = guess(auc=CALM) if attack is None else attack
    return audit([made, *more], leaks=[leaks(*numbers, **(POWER | joint))])


def nothing(**changes: Any) -> dict[str, Any]:
    """Return one number of the joint test that shows nothing."""
    return of_attack(adjusted=0.6, value=0.52, low=0.4) | changes


def at_1(value: float, low: float, high: float, *, resolvable: bool = True) -> dict[str, Any]:
    """Return an attack near chance with a true positive rate at 1 % false positives."""
    calm = guess(auc=CALM)
    calm["results"]["tpr_at_fpr_0.01"] = rate(value, low, high, resolvable=resolvable)
    return calm


NARROW = Measure(0.52, 0.47, 0.57)


def folded(*, dice: float = 0.9, p_value: float = 0.5, auc: Measure = NARROW) -> dict[str, Any]:
    """Return an audit of a cross-validation of five networks."""
    result = FoldsResult(
        defence="none",
        attacker_knowledge="probabilities",
        networks=5,
        patients=100,
        samples=100,
        levelled_by="all",
        lowest=22,
        chance=0.2,
        share=Measure(0.22, 0.14, 0.31),
        p_value=p_value,
        ranks=[22, 20, 19, 20, 19],
        auc=auc,
        auc_p_value=0.5,
        rates=[],
        quality=[FoldQuality(str(fold), dice, 0.8) for fold in range(5)],
    )
    return audit([guess()], folds=[result.plain()])


def recipes(*results: RecipeResult) -> dict[str, Any]:
    return audit([guess()], recipes=[result.plain() for result in results])


def quiet(auc: Measure) -> RecipeResult:
    """Return an attack on a recipe that shows nothing, with this AUC."""
    return with_risk(weak(auc=auc, p_value=0.5), p_value=1.0)


def harmless(after: float, *, images: int = 400, std: float = 0.1, **changes: Any) -> dict[str, Any]:
    """Return an untargeted perturbation that leaves this Dice of 0.8."""
    made = fool("pgd", is_targeted=False, images=images, **changes)
    return made | {"results": {"dice_clean": mean(0.8, std), "dice_adversarial": mean(after, std)}}


def masked() -> dict[str, Any]:
    """Return the check of a victim on which more steps leave a higher Dice."""
    return checked(dice_more_steps=0.8)


def private(epsilon: float, *, attack: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """Return an audit of a victim with a promise per image, and the joint test of an attack on it."""
    made = guess(auc=CALM, certified=certified(0.0, 5.0)) if attack is None else attack
    row = compared(privacy=promise(epsilon, units=None), **more)
    return audit([made], defences=[row])


def permitted(auc: float) -> dict[str, Any]:
    return {"auc": auc, "tpr_at_10": 0.3, "tpr_at_1": 0.05, "by": "prv"}


CASES: dict[str, Callable[[], dict[str, Any]]] = {
    "A0": lambda: audit([fool()]),
    "A1": lambda: audit([EASY, guess()]),
    "A2": lambda: membership(of_attack(), attack=guess()),
    "A3": lambda: membership(
        of_attack(), attack=guess(), more=[guess("mia-type2-control", auc=(0.7, 0.6, 0.9), control=True)]
    ),
    "A4": lambda: membership(nothing(), detectable=0.71),
    "A5": lambda: membership(nothing(), attack=guess(auc=(0.6, 0.49, 0.7))),
    "A6": lambda: membership(nothing()),
    "I0": lambda: audit([]) | {"defences": [compared()]},
    "I1": lambda: audit([guess()], defences=[compared(utility=BLANK)]),
    "I2": lambda: membership(of_attack(kind="tpr_at_fpr_0.01", value=0.1, low=0.0)),
    "I3": lambda: membership(nothing(), nonmembers=499),
    "I4": lambda: membership(nothing(), attack=at_1(0.05, 0.0, 0.1), nonmembers=500),
    "I5": lambda: membership(nothing(), attack=at_1(0.01, 0.0, 0.09), nonmembers=500),
    "I6": lambda: membership(
        of_attack(kind="tpr_at_fpr_0.01", value=0.1, low=0.0),
        more=[guess("mia-type2-control", auc=(0.55, 0.51, 0.59), control=True)],
    ),
    "R1": lambda: recipes(recipe(utility={"members": {"dice": 0.05}})),
    "R2": lambda: recipes(recipe()),
    "R3": lambda: recipes(quiet(Measure(0.5, 0.2, 0.8))),
    "R4": lambda: recipes(quiet(Measure(0.62, 0.5, 0.72))),
    "R5": lambda: recipes(quiet(Measure(0.52, 0.47, 0.57)).model_copy(update={"networks": 32})),
    "R6": lambda: recipes(quiet(Measure(0.52, 0.47, 0.57))),
    "F1": lambda: folded(dice=0.05),
    "F2": lambda: folded(p_value=0.001),
    "F3": lambda: folded(auc=Measure(0.5, 0.2, 0.8)),
    "F4": lambda: folded(auc=Measure(0.62, 0.5, 0.72)),
    "F5": folded,
    "V0": lambda: audit([guess()]),
    "V1": lambda: audit([fool()], defences=[compared(utility=BLANK)]),
    "V2": lambda: audit([harmless(0.5)]),
    "V3": lambda: audit([harmless(0.79, sanity=masked())]),
    "V4": lambda: audit([strong(after=0.78, images=3, std=0.01)]),
    "V5": lambda: audit([strong()]),
    "V6": lambda: audit([harmless(0.79)]),
    "P0": lambda: audit([guess()]),
    "P1": lambda: private(3.0, attack=guess(certified=certified(4.0, 5.0))),
    "P2": lambda: audit(
        [EASY, guess(certified=certified(9.0, 10.0))], defences=[compared(privacy=promise(8.0))]
    ),
    "P3": lambda: private(8.0),
    "P4": lambda: private(3.0),
}
"""A victim for each rule."""
QUESTIONS = {"A": "average", "I": "individuals", "R": "recipe", "F": "folds", "V": "evasion", "P": "promise"}


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_has_a_victim_that_gets_it(rule: str) -> None:
    answer = answers(CASES[rule]())[QUESTIONS[rule[0]]]
    assert answer.rule == rule, answer.why
    assert answer.why
    assert "safe" not in f"{answer.word} {answer.why}".lower()


def test_a_promise_is_contradicted_by_canaries_even_where_the_split_is_faulty() -> None:
    row = compared(privacy=promise(), canaries=canaries(9.0))
    assert answers(audit([EASY, guess()], defences=[row]))["promise"].rule == "P1"


def test_canaries_contradict_a_promise_even_beside_a_stronger_proof_of_a_faulty_split() -> None:
    row = compared(privacy=promise(), canaries=canaries(9.0))
    content = audit([EASY, guess(certified=certified(12.0, 13.0))], defences=[row])
    assert answers(content)["promise"].rule == "P1"


def test_bounds_compared_with_one_promise_hold_together() -> None:
    # Two bounds of canaries and one of an attack: each must hold at 1 - 0.05 / 3, so that of 99 % counts.
    weaker = [
        {"confidence": level, "epsilon": epsilon, "attainable": 20.0}
        for level, epsilon in ((0.975, 8.5), (0.99, 7.5), (0.999, 6.0))
    ]
    sure = canaries(9.0)
    sure["certified"]["stricter"] = weaker
    row = compared(privacy=promise(8.0), canaries=sure)
    answer = answers(audit([guess(certified=certified(0.0, 5.0))], defences=[row]))["promise"]
    assert answer.rule == "P4"
    assert "could have shown up to 20.00, if samples are independent" in answer.why
    # Without the attack's bound, 97.5 % suffices.
    answer = answers(audit([guess()], defences=[row]))["promise"]
    assert (answer.rule, answer.word) == ("P1", "Promise contradicted if samples are independent")
    assert "If samples are independent, canaries show at least epsilon 8.50" in answer.why
    assert "at 95% confidence for the 2 bounds together" in answer.why


def test_results_without_stricter_bounds_contradict_a_promise_only_alone() -> None:
    early = certified(9.0, 10.0, stricter=[])
    alone = private(8.0, attack=guess(certified=early))
    assert answers(alone)["promise"].rule == "P1"
    beside = private(8.0, attack=guess(certified=early), canaries=canaries(0.0))
    assert answers(beside)["promise"].rule == "P3"


def test_two_bounds_of_an_earlier_file_are_not_compared_with_a_promise() -> None:
    early = canaries(9.0, privacy=promise(0.5))
    for name in ("certified", "one_run"):
        early[name]["stricter"] = []
    clause = "2 of 2 bounds were not computed at the confidence that 2 bounds need; run the audit again."
    content = audit([guess()], defences=[compared(privacy=promise(0.5), canaries=early)])
    answer = answers(content)["promise"]
    assert (answer.rule, answer.answer) == ("P3", "unresolvable")
    assert clause in answer.why
    results = AuditResult.read(content, "audit.json")
    verdict = privacy(results.defences, results.membership)
    assert (verdict.level, verdict.word) == ("none", "Guarantee not compared")
    assert clause in verdict.why
    assert any(clause in line for line in caveats(results.defences, results.membership, []))


def test_a_verdict_states_bounds_that_hold_together() -> None:
    sure = canaries(0.4, privacy=promise(0.5))
    sure["certified"]["stricter"] = [{"confidence": 0.975, "epsilon": 0.25, "attainable": 2.0}]
    content = audit([guess()], defences=[compared(privacy=promise(0.5), canaries=sure)])
    results = AuditResult.read(content, "audit.json")
    verdict = privacy(results.defences, results.membership)
    assert verdict.level == "good"
    assert "Canaries prove no lower bound, 0.25 if samples are independent." in verdict.why


def test_a_promise_is_contradicted_by_an_area_above_its_curve() -> None:
    # No epsilon is proved, but all numbers at once bound the AUC by 0.66, and 0.65 is permitted.
    number = of_attack(value=0.75, low=0.66)
    row = compared(privacy=promise(8.0, permitted=permitted(0.65)))
    content = audit([guess(certified=certified(0.5, 2.0))], defences=[row], leaks=[leaks(number)])
    assert answers(content)["promise"].rule == "P1"
    row["privacy"]["permitted"]["auc"] = 0.67
    assert answers(content)["promise"].rule == "P3"


def test_images_of_a_patient_do_not_contradict_a_promise_for_images() -> None:
    number = of_attack(value=0.75, low=0.66, kind="groups.auc")
    row = compared(privacy=promise(8.0, permitted=permitted(0.65)))
    content = audit([guess()], defences=[row], leaks=[leaks(number, grouped=True)])
    assert answers(content)["promise"].rule == "P3"


def test_a_number_above_a_failed_control_is_still_evidence() -> None:
    control = guess("mia-type2-control", auc=(0.55, 0.51, 0.59), control=True)
    answer = answers(membership(of_attack(), attack=guess(), more=[control]))["average"]
    assert answer.rule == "A2"
    assert "Its negative control reaches 0.550 [0.510, 0.590]" in answer.why


def test_a_failed_control_of_one_attack_leaves_the_evidence_of_another() -> None:
    control = guess("mia-type2-control", auc=(0.7, 0.6, 0.9), control=True)
    other = guess("mia-lira", auc=(0.72, 0.62, 0.82))
    numbers = (of_attack(value=0.75, low=0.61), of_attack("mia-lira", value=0.72, low=0.55))
    answer = answers(membership(*numbers, attack=guess(), more=[other, control]))["average"]
    assert (answer.rule, answer.measure) == ("A2", Measure(0.72, 0.62, 0.82))
    assert answer.why.startswith("mia-lira")


def test_patients_are_judged_where_there_are_patients() -> None:
    measures = guess()["results"] | {"auc": {"value": 0.6, "low": 0.45, "high": 0.75}}
    content = membership(nothing(kind="groups.auc"), attack=guess(auc=CALM, groups=measures), grouped=True)
    answer = answers(content)["average"]
    assert (answer.rule, answer.measures) == ("A5", "AUC over patients")
    assert answer.measure == Measure(0.6, 0.45, 0.75)


def test_the_power_is_stated_in_the_reasons() -> None:
    assert (
        "an AUC of 0.60 would be found with a chance of 80 %" in answers(membership(nothing()))["average"].why
    )
    few = answers(membership(nothing(), detectable=None))["average"]
    assert (few.rule, few.word) == ("A4", "Not resolvable")
    assert "not even perfect scores" in few.why


def test_of_several_rates_that_could_be_nothing_the_highest_is_stated() -> None:
    """With few patients several attacks have the smallest p-value and intervals from zero."""
    rates = (("mia-base", 0.1, 0.6), ("mia-lira", 0.77, 0.97), ("mia-type2", 0.5, 0.9))
    numbers = [
        of_attack(kind="tpr_at_fpr_0.01", value=value, low=0.0) | {"label": label, "high": high}
        for label, value, high in rates
    ]
    single = answers(membership(*numbers))["individuals"]
    assert single.measure is not None
    assert single.measure.value == 0.77
    assert single.why.startswith("mia-lira, the strongest of 3 attacks")
    assert "in [0.000, 0.970]: at least a weak leak" in single.why


def test_a_recipe_resists_for_single_patients_only_if_one_would_have_been_found() -> None:
    calm = quiet(Measure(0.52, 0.47, 0.57))
    stated = answers(recipes(calm))["recipe"]
    # 200 patients, 1 / C(16, 8) = 1 / 12870: 200 / 12870 / m is at most 0.05 / 4 from m = 2.
    assert (stated.rule, stated.answer) == ("R6", "unresolvable")
    assert stated.word == "Not resolvable for single patients; resistance on average"
    assert "By 16 networks fewer than 2 exposed patients of 200 would not have been found" in stated.why
    assert "speaks of the average alone" in stated.why
    few = answers(recipes(calm.model_copy(update={"patients": 160})))["recipe"]
    assert (few.rule, few.answer) == ("R5", "resistance")
    assert "one exposed patient would have been found" in few.why
    # A second attack halves the level.
    two = recipes(*[calm.model_copy(update={"patients": 160, "label": label}) for label in ("one", "two")])
    assert answers(two)["recipe"].rule == "R6"


def test_of_several_attacks_on_a_recipe_the_highest_is_stated() -> None:
    """P-values far below 0.001 say nothing of which attack finds more."""
    found = [
        with_risk(weak(auc=Measure(auc, auc - 0.02, auc + 0.02), p_value=p_value, label=label), p_value=1.0)
        for label, auc, p_value in (("mia-calibrated", 0.63, 1e-30), ("mia-base", 0.65, 1e-20))
    ]
    stated = answers(recipes(*found))["recipe"]
    assert stated.measure is not None
    assert stated.measure.value == 0.65
    assert stated.why.startswith("mia-base, the strongest of 2 attacks: p < 0.001")
