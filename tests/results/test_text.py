"""What an audit says before everything else, and what is said of a promise."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from seg_mia.errors import InputError
from seg_mia.membership.fleet.victim import Thresholds, victim_rates
from seg_mia.results.base import Average
from seg_mia.results.membership import MembershipResult
from seg_mia.results.perturbation import PerturbationResult
from seg_mia.results.privacy import BoundAt, CanaryResult, DPGuarantee, EpsilonLowerBound, guarantee
from seg_mia.results.rates import ThresholdRates, threshold_rates
from seg_mia.results.seeds import spread_in_words, spread_over_seeds
from seg_mia.results.tables import low_fpr, outcomes, recipe_rate, right_accusations
from seg_mia.results.text import (
    attack_headline,
    canary_headline,
    certified_headline,
    guarantee_in_words,
    privacy_headline,
    utility_headline,
)
from seg_mia.results.warnings import membership_warnings, perturbation_warnings
from tests.report.audits import fool, guess, mean, rate


def result(low: float, high: float, *, name: str = "mia", **changes: Any) -> MembershipResult:
    plain = guess(name, auc=((low + high) / 2, low, high), **changes)
    plain["results"] |= {
        f"tpr_at_fpr_{fpr}": rate(0.5, 0.25, 0.75, resolvable=fpr != "0.001")
        for fpr in ("0.1", "0.01", "0.001")
    }
    return MembershipResult.read(plain, "a result")


@pytest.mark.parametrize(("low", "high", "warns"), [(0.4, 0.6, False), (0.51, 0.7, True), (0.3, 0.49, False)])
def test_a_baseline_or_control_that_does_better_than_chance_is_a_warning(
    low: float, high: float, warns: bool
) -> None:
    blind = list(membership_warnings(result(low, high, signal="ImageAndMask"), "mia", 3))
    assert bool(blind) == warns
    assert bool(list(membership_warnings(result(low, high, control=True), "mia"))) == warns
    assert not list(membership_warnings(result(low, high), "mia"))
    if warns:
        assert "The split itself leaks" in blind[0]
        assert "AUC 0.605 [0.510, 0.700], seed 3" in blind[0]


def test_a_baseline_may_do_better_than_chance_over_patients_alone() -> None:
    images = guess(auc=(0.58, 0.49, 0.67), signal="ImageAndMask")
    patients = images["results"] | {"auc": {"value": 0.9, "low": 0.72, "high": 0.98}}
    (line,) = membership_warnings(MembershipResult.read(images | {"groups": patients}, "a result"), "mia")
    assert "(AUC over patients 0.900 [0.720, 0.980])" in line


def test_a_headline_counts_shadows_where_there_are_several() -> None:
    one, several = (
        result(0.4, 0.6, shadows=[f"runs/shadow/version_{number}" for number in range(count)])
        for count in (1, 4)
    )
    assert "shadows" not in attack_headline("mia", one)[0]
    assert ", 4 shadows, 4 members, 4 non-members: AUC 0.500" in attack_headline("mia", several)[0]


@pytest.mark.parametrize(("above", "told"), [(0.0, "2 of 2"), (0.5, "1 of 2"), (1.0, None)])
def test_a_floor_that_no_strength_met_is_told(above: float, told: str | None) -> None:
    plain = fool("adain", attack={"init_args": {"ssim_floor": 0.5}}, images=2)
    plain["results"]["above_floor"] = mean(above)
    textured = PerturbationResult.read(plain, "a result")
    lines = list(perturbation_warnings(textured, "adain"))
    assert attack_headline("adain", textured)[1:] == [f"WARNING: {line}" for line in lines]
    if told is None:
        assert lines == []
    else:
        (line,) = lines
        assert line.startswith(f"adain: no strength met the SSIM floor of 0.5 on {told} images")


@pytest.mark.parametrize(
    ("signal", "control", "proves"),
    [("ImageLoss", False, True), ("ImageAndMask", False, False), ("ImageLoss", True, False)],
)
def test_who_never_queries_the_victim_proves_nothing_of_it(signal: str, control: bool, proves: bool) -> None:
    bound = CERTIFIED.plain() | {"unit": "image"}
    said = attack_headline("mia", result(0.4, 0.6, signal=signal, control=control, certified=bound))
    assert any("shows epsilon" in line for line in said) == proves


def test_rates_that_cannot_be_resolved_are_marked() -> None:
    text = low_fpr(result(0.4, 0.6).results)
    assert text == "0.500 at FPR 10 %, 0.500 at FPR 1 %, 0.500 (below resolution) at FPR 0.1 %"


def test_a_table_says_what_each_attacker_sees() -> None:
    lines = outcomes([result(0.4, 0.6), result(0.8, 1.0, name="mia-long")])
    assert lines[0].split() == ["attack", "attacker", "knowledge", "outcome"]
    assert "AUC 0.500 [0.400, 0.600]" in lines[1]
    assert lines[2].startswith("mia-long  released probabilities  AUC 0.900")


def test_attacks_of_one_name_and_other_settings_are_told_apart() -> None:
    both = [
        result(low, low + 0.2, signal=signal, round_=number)
        for number in (0, 1)
        for low, signal in ((0.4, "ImageLoss"), (0.8, "ImageEntropy"))
    ]
    assert list(map(spread_in_words, spread_over_seeds(both))) == [
        "mia: AUC 0.500 +- 0.000 over 2 seeds",
        "mia: AUC 0.900 +- 0.000 over 2 seeds",
    ]


def test_a_value_of_no_image_is_none() -> None:
    assert Average(math.nan, math.inf, 0.0, 1, None) == Average(None, None, 0.0, 1.0, None)


PROMISE = DPGuarantee.read(
    {
        "epsilon": 2.0,
        "delta": 0.01,
        "budget": 2.5,
        "unit": "image",
        "units": 100,
        "noise": 0.75,
        "clip": 1.0,
        "rate": 0.125,
        "steps": 80,
        "accountant": "prv",
        "reproducible": False,
        "declared": True,
        "permitted": {"auc": 0.9004, "tpr_at_10": 0.7, "tpr_at_1": 0.25, "by": "prv"},
    },
    "a promise",
)
CERTIFIED = EpsilonLowerBound(
    epsilon=2.25,
    attainable=3.31,
    confidence=0.95,
    rule="members_above",
    stricter=[BoundAt(confidence=0.975, epsilon=2.25, attainable=3.31)],
)


def bound(**changes: Any) -> EpsilonLowerBound:
    """Return the bound with changes, the same at the confidence of two bounds."""
    changed = CERTIFIED.model_copy(update=changes)
    stricter = CERTIFIED.stricter[0].model_copy(update={"epsilon": changed.epsilon})
    return changed.model_copy(update={"stricter": changes.get("stricter", [stricter])})


def promised(**changes: Any) -> DPGuarantee:
    return PROMISE.model_copy(update=changes)


def test_a_promise_that_is_kept_and_one_that_is_broken() -> None:
    line = certified_headline(CERTIFIED, PROMISE)
    assert line == (
        "shows epsilon >= 2.25 if samples are independent (95% confidence; perfect guesses on these samples "
        "would give 3.31); the guarantee is 2, WHICH IS CONTRADICTED IF SAMPLES ARE INDEPENDENT"
    )
    by_coins = certified_headline(bound(rule="one_run"), PROMISE)
    assert by_coins.startswith("proves epsilon >= 2.25 (95% confidence")
    assert by_coins.endswith("the guarantee is 2, WHICH IS BROKEN")
    for epsilon in (0.0, 1.9, 2.0):
        assert "WHICH IS" not in certified_headline(bound(epsilon=epsilon), PROMISE)
    assert certified_headline(bound(epsilon=1.9), PROMISE).endswith("; the guarantee is 2")
    assert "CONTRADICTED" in certified_headline(bound(unit="image"), PROMISE)


def test_nothing_is_broken_where_nothing_was_promised() -> None:
    for promise in (None, promised(epsilon=None)):
        line = certified_headline(CERTIFIED, promise)
        assert line.endswith("; no guarantee")
        assert "WHICH IS" not in line


def test_what_is_proved_of_patients_breaks_no_promise_for_images() -> None:
    line = certified_headline(bound(unit="patient"), PROMISE)
    assert line.endswith(" per patient; the guarantee is 2 per image, not comparable")
    assert "WHICH IS" not in line
    assert "CONTRADICTED" in certified_headline(bound(unit="patient"), promised(unit="patient"))


def canaries(**changes: Any) -> CanaryResult:
    found = CanaryResult(
        inserted=97,
        left_out=103,
        auc=0.9314,
        delta=0.01,
        certified=CERTIFIED,
        one_run=bound(epsilon=1.5, attainable=4.0, rule="one_run"),
        privacy=PROMISE,
    )
    return found.model_copy(update=changes)


def test_canaries_that_are_found_again_say_that_a_promise_is_broken() -> None:
    line = canary_headline(canaries())
    start = "canaries: 97 inserted, 103 left out, AUC 0.931, shows epsilon >= 2.25 if samples are independent"
    assert line.startswith(start)
    assert "WHICH IS CONTRADICTED IF SAMPLES ARE INDEPENDENT: >= 2.25" in line
    assert "proved by the coins >= 1.50 (of 4.00)" in line
    assert "WHICH IS" not in canary_headline(canaries(certified=bound(epsilon=1.0)))


def test_the_other_bound_breaks_a_promise_too() -> None:
    """What holds without supposing independence is the stronger proof of the two."""
    found = canaries(certified=bound(epsilon=0.0), one_run=bound(epsilon=3.0, rule="one_run"))
    assert "BROKEN: >= 3.00, 95% confidence for 2 bounds together" in canary_headline(found)
    both = canary_headline(canaries(certified=bound(epsilon=9.0), one_run=bound(epsilon=3.0, rule="one_run")))
    assert "BROKEN: >= 3.00" in both, "a proof comes before a larger bound under an assumption"
    early = canary_headline(canaries(certified=bound(stricter=[])))
    assert "WHICH IS" not in early
    assert early.endswith("not compared: bounds at the confidence that 2 need are missing, audit again")
    assert "not compared" not in canary_headline(found)


def test_a_promise_in_words() -> None:
    assert privacy_headline(PROMISE) == (
        "privacy spent: epsilon 2 of 2.5 at delta 0.01 per image (100 declared units, noise 0.75, clip 1, "
        "sampling rate 0.125, 80 steps, accountant prv); permits AUC up to 0.901, TPR up to 0.250 at 1 % FPR "
        "and 0.700 at 10 % (by the accountant's curve, prv)"
    )
    replaced = privacy_headline(promised(replace_one=4.567))
    assert "accountant prv); epsilon 4.57 if one is replaced; permits AUC" in replaced
    assert guarantee_in_words(promised(replace_one=4.567)).startswith(
        "epsilon 2 per image, delta 0.01, 4.57 if one is replaced, permits"
    )
    plain = promised(declared=False, permitted=None)
    assert "(100 units, their number assumed public, noise 0.75" in privacy_headline(plain)
    assert "permits" not in privacy_headline(plain)
    assert "epsilon 2 at delta" in privacy_headline(promised(budget=None))
    assert "epsilon infinite (no noise) at" in privacy_headline(promised(epsilon=None, budget=None))
    assert privacy_headline(promised(reproducible=True)).endswith("who knows the seed")


def test_a_checkpoint_says_infinity_where_there_was_no_noise() -> None:
    assert guarantee(None, "a card") is None
    read = guarantee(PROMISE.plain() | {"epsilon": math.inf}, "a card")
    assert read == promised(epsilon=None)


@pytest.mark.parametrize(
    "privacy", ["yes", {"epsilon": "8"}, {"epsilon": True}, {"epsilon": 1.0, "unit": "<b>"}]
)
def test_what_is_no_guarantee_is_refused(privacy: object) -> None:
    with pytest.raises(InputError, match="a card does not fit"):
        guarantee(privacy, "a card")


def test_a_training_that_diverged_says_so() -> None:
    told = utility_headline({"val/dice": 0.0, "val/loss": float("nan")})
    assert told[1].endswith("; lower --model.lr")
    assert len(utility_headline({"val/dice": 0.5, "val/loss": 1.0})) == 1


def thresholds(nonmembers: int = 100) -> ThresholdRates:
    """Return the rates of one victim with 100 members, at thresholds that other networks decide or not."""
    generator = np.random.default_rng(0)
    members = np.arange(100 + nonmembers) < 100
    names = np.char.zfill(np.arange(len(members)).astype(str), 4)
    scores = generator.normal(size=len(members)) + 1.5 * members
    known = Thresholds(names, {0.1: 1.28, 0.01: 2.33, 0.001: 3.09})
    return threshold_rates(victim_rates(scores, members, names, known))


def test_rates_at_thresholds_of_other_networks_are_lines_with_expected_false_positives() -> None:
    rates = thresholds()
    lines = attack_headline("mia", result(0.4, 0.6).model_copy(update={"thresholds": rates}))
    head, here, other = lines[-3:]
    assert "  100 members, 100 non-members; expected: false positives" in lines
    assert head.split("  ")[1] == "threshold"
    assert here.startswith("  chosen on these decisions")
    assert other.startswith("  from other networks")
    found = rates.transferred[0]
    assert f"{found.tpr.value:.3f} [{found.tpr.low:.3f}, {found.tpr.high:.3f}]" in other
    assert "10 expected" in other
    assert "1 expected, rough)" in other
    assert "not resolvable (0.1 expected)" in other
    assert other.endswith(right_accusations(rates.transferred[1]))
    assert "expected: false positives" not in "".join(attack_headline("mia", result(0.4, 0.6)))


def test_a_threshold_chosen_on_few_nonmembers_says_so() -> None:
    rate = thresholds(2000).transferred[1]
    assert recipe_rate(rate).endswith("20 expected)")
    few = replace(rate, expected_choosing=2.0, flagged=True)
    assert "20 expected, 2 where chosen, rough)" in recipe_rate(few)
    fewer = replace(rate, expected_choosing=0.4, resolvable=False, flagged=True)
    assert recipe_rate(fewer) == "not resolvable (20 expected, 0.4 where chosen)"
    assert "where chosen" not in recipe_rate(replace(rate, expected_choosing=6.0))
    assert "where chosen" not in recipe_rate(replace(rate, expected=1.0, expected_choosing=2.0))


def test_right_accusations_follow_from_the_rate_reached() -> None:
    rate = thresholds(2000).transferred[1]
    tpr, reached = rate.tpr.value or 0.0, rate.achieved_fpr.value or 0.0
    assert reached != rate.fpr
    share = 0.1 * tpr / (0.1 * tpr + 0.9 * reached)
    assert right_accusations(rate).split(", ")[1] == f"{100 * share:.2g} %"
    assert right_accusations(None) == right_accusations(thresholds(50).transferred[2]) == "not resolvable"
