import math
from typing import Any

import pytest

from seg_mia.report.build import build
from seg_mia.report.rules.gates import check, read_gate
from seg_mia.results.report import Report, Verdict
from tests.report.audits import (
    audit,
    certified,
    compared,
    fool,
    guess,
    leaks,
    mean,
    of_attack,
    promise,
    rate,
    source,
    strong,
    success,
)

MANY = 10_000
"""Images: the interval around what all of them have alike is narrower than 0.0004."""


UNSUCCESSFUL = strong(images=MANY)
"""A strong attack that takes a hundredth of the Dice."""


def told(*attacks: dict[str, Any], **more: Any) -> Report:
    return build(source(audit(attacks, **more)), images=False)[0]


def leak(*attacks: dict[str, Any]) -> Verdict:
    return told(*attacks).verdicts[0].leak


def robustness(*attacks: dict[str, Any]) -> Verdict:
    return told(*attacks).verdicts[0].robustness


@pytest.mark.parametrize(
    ("adjusted", "low", "word"),
    [
        (0.051, 0.9, "None found"),
        (0.05, 0.3, "Weak leak"),
        (0.0001, 0.699, "Weak leak"),
        (0.05, 0.7, "Strong leak"),
    ],
)
def test_a_leak_is_judged_by_the_test_of_all_numbers(adjusted: float, low: float, word: str) -> None:
    number = of_attack(adjusted=adjusted, low=low)
    found = told(guess(), leaks=[leaks(number, of_attack("mia-b", adjusted=1.0, low=0.9))]).verdicts[0].leak
    assert found.word == word
    assert f"p = {adjusted:.4f}" in found.why or f"p = {adjusted:.3f} as the best of 2 numbers" in found.why


def test_an_interval_above_chance_claims_nothing_by_itself() -> None:
    calm = leaks(of_attack(adjusted=0.2, low=0.45))
    assert told(guess(auc=(0.9, 0.8, 1.0)), leaks=[calm]).verdicts[0].leak.word == "None found"


@pytest.mark.parametrize(("low", "word"), [(0.0, "Weak leak"), (0.099, "Weak leak"), (0.1, "Strong leak")])
def test_a_leak_is_also_judged_at_a_low_false_positive_rate(low: float, word: str) -> None:
    attack = guess(auc=(0.5, 0.4, 0.6))
    attack["results"]["tpr_at_fpr_0.01"] = rate(0.95, low, 1.0)
    of_rate = of_attack(kind="tpr_at_fpr_0.01", low=low, value=0.95)
    found = told(attack, leaks=[leaks(of_rate, of_attack(adjusted=0.8))]).verdicts[0].leak
    assert found.word == word
    assert found.measure is not None
    assert found.measure.value == 0.5, "the AUC is shown, which reports have in common"
    assert "The evidence is the TPR at 1 % FPR, 0.950" in found.why


def test_what_holds_of_patients_counts_and_a_proved_epsilon_is_judged_elsewhere() -> None:
    calm = (0.5, 0.4, 0.6)
    assert leak(guess(auc=calm, certified=certified(0.01))).word == "None found"
    pooled = guess()["results"] | {"groups": 4, "auc": {"value": 0.9, "low": 0.8, "high": 1.0}}
    number = of_attack(kind="groups.auc", low=0.75, value=0.9)
    found = told(guess(auc=calm, groups=pooled), leaks=[leaks(number, grouped=True)]).verdicts[0].leak
    assert (found.word, found.measures) == ("Strong leak", "AUC over patients")


def test_none_found_says_what_would_have_been() -> None:
    calm = of_attack(adjusted=0.4, low=0.4)
    found = told(guess(), leaks=[leaks(calm, members=30, nonmembers=20, detectable=0.71)]).verdicts[0].leak
    assert "With 30 members and 20 non-members (images)" in found.why
    assert "an AUC of 0.71 with a power of 80 %" in found.why
    assert "no proof" in found.why
    patients = leaks(calm, grouped=True, detectable=None)
    report = told(guess(), leaks=[patients])
    found = report.verdicts[0].leak
    assert (found.word, found.level) == ("Too few samples", "none")
    assert "(patients) not even perfectly separated scores" in found.why
    (line,) = check([read_gate("mia-type2.auc > 0.99")], report)
    assert "invalid: the samples are too few to show a leak" in line


def test_a_blind_baseline_above_chance_over_patients_voids_a_leak_as_well() -> None:
    patients = guess()["results"] | {"groups": 40, "auc": {"value": 0.9, "low": 0.72, "high": 0.98}}
    blind = guess("mia-blind", auc=(0.58, 0.49, 0.67), signal="ImageAndMask", groups=patients)
    report = told(guess(), blind)
    assert report.verdicts[0].leak.word == "Void"
    assert any("AUC over patients 0.900 [0.720, 0.980]" in line for line in report.warnings)


def test_the_strongest_of_several_counts_but_no_baseline_does() -> None:
    calm, strong = guess("mia-a", auc=(0.5, 0.4, 0.6)), guess("mia-b", auc=(0.9, 0.8, 1.0))
    found = leak(calm, strong, guess("mia-x-control", auc=(0.5, 0.4, 0.6), control=True))
    assert (found.word, found.level) == ("Strong leak", "bad")
    assert "mia-b, the strongest of 2 attacks" in found.why
    assert leak(guess("mia-c", control=True)).word == "Not tested"
    assert "the only attack" in leak(calm).why


def test_a_baseline_that_succeeds_voids_and_a_control_that_does_is_named() -> None:
    blind = guess("mia-blind", auc=(0.6, 0.51, 0.7), signal="ImageAndMask")
    report = told(blind, guess(auc=(0.9, 0.8, 1.0)))
    assert report.verdicts[0].leak.word == "Void"
    assert "void" in report.warnings[0]
    assert leak(guess("mia-blind", auc=(0.6, 0.5, 0.7), signal="ImageAndMask"), guess()).word == "Weak leak"
    control = guess("mia-type2-control", auc=(0.6, 0.52, 0.7), control=True)
    assert "does not exceed its negative control, 0.600" in leak(control, guess()).why
    assert "Its negative control reaches 0.600" in leak(control, guess(auc=(0.9, 0.8, 1.0))).why
    assert "inflated" in told(control, guess()).warnings[0]


def pooled(auc: tuple[float, float, float]) -> dict[str, Any]:
    value, low, high = auc
    return dict(guess()["results"]) | {"groups": 4, "auc": {"value": value, "low": low, "high": high}}


@pytest.mark.parametrize(
    ("patients", "said"),
    [
        (
            (0.84, 0.52, 1.0),
            " It does not exceed its negative control over patients, 0.840 [0.520, 1.000].",
        ),
        ((0.6, 0.51, 0.7), " Its negative control reaches 0.600 [0.510, 0.700] over patients."),
        ((0.6, 0.5, 0.7), ""),
        (None, ""),
    ],
)
def test_a_leak_over_patients_is_held_against_the_control_over_patients(
    patients: tuple[float, float, float] | None, said: str
) -> None:
    # Over images the control reaches 0.68 [0.51, 0.84], which is about something else.
    control = guess("mia-type2-control", auc=(0.68, 0.51, 0.84), control=True)
    control |= {} if patients is None else {"groups": pooled(patients)}
    found = leak(control, guess(auc=(0.67, 0.5, 0.83), groups=pooled((0.9, 0.75, 1.0))))
    assert (found.word, found.measures) == ("Strong leak", "AUC over patients")
    rests = (
        " The evidence is the AUC over patients, 0.900 [0.750, 1.000], with p = 0.001 as the best of 2 "
        "numbers."
    )
    assert found.why == f"mia-type2, the only attack.{rests}{said}"


def blank(dice: float, *, row: int = 0, defence: str = "none", round_: int = 0) -> dict[str, Any]:
    """Return a victim that reaches such a Dice on its members."""
    utility = {"nonmembers": {"dice": 0.0}, "members": {"dice": dice}}
    return compared(row, defence, round_, utility=utility)


def test_a_victim_that_segments_nothing_is_not_judged_and_said_first() -> None:
    attacks = guess(auc=(0.5, 0.4, 0.6)), fool()
    report = told(*attacks, defences=[blank(0.099)])
    (row,) = report.verdicts
    assert [(one.level, one.word) for one in (row.leak, row.robustness)] == [("void", "Void")] * 2
    said = "The victim hardly segments: Dice 0.099 on members, below 0.1."
    assert row.leak.why == f"mia-type2, the only attack. Its AUC has p = 0.500. {said}"
    assert row.robustness.why.endswith(said)
    assert report.warnings[0].startswith('The victim "none" (seed 7) hardly segments: Dice 0.099')
    report = told(*attacks, defences=[blank(0.1)])
    assert (report.verdicts[0].leak.word, report.verdicts[0].robustness.word) == ("None found", "Broken")
    assert not report.warnings


def test_a_seed_that_segments_nothing_does_not_speak_for_the_others() -> None:
    rows = [blank(0.9), blank(0.0, round_=1)]
    report = told(guess(auc=(0.5, 0.4, 0.6)), guess(auc=(0.9, 0.8, 1.0), round_=1), defences=rows)
    assert report.verdicts[0].leak.word == "None found"
    assert "(seed 8) hardly segments" in report.warnings[0]


def test_a_broken_promise_comes_before_a_victim_that_segments_nothing() -> None:
    row = blank(0.0) | {"privacy": promise(1.0)}
    for rows in ([row], [row, blank(0.9, round_=1)]):
        report = told(guess(certified=certified(2.0)), defences=rows)
        assert "is contradicted if samples are independent" in report.warnings[0]
        assert "hardly segments" in report.warnings[1]
        word = report.verdicts[0].privacy.word
        assert word == "Contradicted if independent", "which it is, whatever it segments"


@pytest.mark.parametrize(
    ("after", "word"), [(0.401, "Weakened"), (0.399, "Broken"), (0.77, "Withstood"), (0.75, "Weakened")]
)
def test_robustness_goes_by_the_share_of_dice_lost(after: float, word: str) -> None:
    attack = fool(is_targeted=False, images=MANY)
    attack["results"] |= {"dice_clean": mean(0.8), "dice_adversarial": mean(after, std=0.0)}
    assert robustness(attack, UNSUCCESSFUL).word == word


@pytest.mark.parametrize(
    ("before", "reached", "word"),
    [(0.2, 0.71, "Broken"), (0.2, 0.69, "Weakened"), (0.59, 0.69, "Withstood"), (0.62, 0.71, "Withstood")],
)
def test_robustness_goes_by_the_mask_that_an_attacker_asks_for(
    before: float, reached: float, word: str
) -> None:
    attack = fool(images=MANY)
    attack["results"] |= {
        "dice_adversarial": mean(0.8),
        "iou_before": mean(before),
        "iou": mean(reached, std=0.0),
    }
    assert robustness(attack, UNSUCCESSFUL).word == word


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (0.05, 0.49, "Withstood"),
        (0.05, 0.5, "Inconclusive"),
        (0.06, 0.5, "Weakened"),
        (0.499, 0.9, "Weakened"),
        (0.5, 0.9, "Broken"),
    ],
)
def test_robustness_goes_by_the_fused_success_rate(low: float, high: float, word: str) -> None:
    rows = [success("dice", low=0.9), success(low=low, high=high)]
    attack = fool("medis", is_targeted=False, success=rows)
    attack["results"] |= {"dice_adversarial": mean(0.8)}
    assert robustness(attack, UNSUCCESSFUL).word == word


def test_an_attack_that_counts_nothing_decides_nothing() -> None:
    nothing = success(counted=0, successes=0, rate=None, low=None, high=None, clean_success=0, no_gradient=20)
    report = told(fool("medis", success=[nothing]))
    assert report.verdicts[0].robustness.word == "Inconclusive"
    assert "no gradient reached any image" in report.warnings[0]
    assert robustness(guess()).word == "Not tested"


def test_an_attack_without_gradients_decides_nothing_unless_the_victim_breaks() -> None:
    """Dice 0.8 before; 0.79 after is withstood only where the attack could have done more."""
    little = strong(images=101, std=0.01)
    assert told(little).verdicts[0].robustness.word == "Withstood"
    report = told(little | {"no_gradient": 101})
    assert report.verdicts[0].robustness.word == "Inconclusive"
    (line,) = [line for line in report.warnings if "no gradient reached 101 of 101 images" in line]
    assert "no evidence of robustness" in line
    assert "--attack.replace" in line
    idle = told(little | {"no_gradient": 101, "unchanged": 101}).warnings
    assert not [line for line in idle if "more or larger steps" in line]
    assert told(fool() | {"no_gradient": 101}).verdicts[0].robustness.word == "Broken"


def test_an_attack_that_changed_no_image_decides_nothing() -> None:
    idle = fool() | {"unchanged": 101}
    report = told(idle)
    assert report.verdicts[0].robustness.word == "Inconclusive"
    assert "changed none of its 101 images" in report.warnings[0]
    assert robustness(fool() | {"unchanged": 100}).word != "Inconclusive"


@pytest.mark.parametrize(
    ("epsilon", "word"),
    [
        (1.0, "Strong guarantee"),
        (1.01, "Moderate guarantee"),
        (10.0, "Moderate guarantee"),
        (10.1, "Weak guarantee"),
    ],
)
def test_a_promise_is_judged_by_its_epsilon(epsilon: float, word: str) -> None:
    row = compared(privacy=promise(epsilon))
    assert told(guess(), defences=[row]).verdicts[0].privacy.word == word


def test_a_promise_is_broken_by_more_that_is_proved_of_its_unit() -> None:
    def found(epsilon: float | None, proved: float, **changes: Any) -> Verdict:
        row = compared(privacy=promise(epsilon))
        attack = guess(certified=certified(proved, **changes))
        return told(attack, defences=[row]).verdicts[0].privacy

    assert found(1.5, 1.5).word == "Moderate guarantee"
    assert found(1.5, 1.6).word == "Contradicted if independent"
    assert found(1.5, 1.6, rule="one_run").word == "Broken", "a proof by coins"
    assert found(1.5, 1.6, unit="patient").word == "Moderate guarantee"
    assert found(None, 1.6).word == found(math.inf, 1.6).word == "Infinite"
    assert told(guess()).verdicts[0].privacy.word == "No guarantee"
    secret = told(guess(), defences=[compared(privacy=promise(1.0, reproducible=True))]).verdicts[0].privacy
    assert (secret.level, "knows the seed" in secret.why) == ("void", True)


def test_each_row_is_judged_over_all_of_its_seeds() -> None:
    rows = [compared(row, name, round_) for round_ in (0, 1) for row, name in enumerate(("none", "crop"))]
    attacks = [
        guess(auc=(0.5, 0.4, 0.6)),
        guess(auc=(0.9, 0.8, 1.0), round_=1),
        guess(auc=(0.5, 0.4, 0.6), row=1, defence="crop"),
    ]
    found = told(*attacks, defences=rows).verdicts
    assert [(row.defence, row.leak.word) for row in found] == [
        ("none", "Strong leak"),
        ("crop", "None found"),
    ]


def test_of_attacks_that_break_alike_one_that_stays_unseen_is_shown() -> None:
    seen, unseen = fool("adain", is_targeted=False), fool("asma", is_targeted=False)
    seen["results"] |= {"dice_adversarial": mean(0.0, std=0.0), "ssim": mean(0.89)}
    unseen["results"] |= {"dice_adversarial": mean(0.3, std=0.0), "ssim": mean(0.9)}
    assert "asma, the strongest of 2 attacks, at SSIM 0.90" in robustness(seen, unseen).why
    unseen["results"] |= {"dice_adversarial": mean(0.7, std=0.0)}
    assert "adain, the strongest of 2 attacks, at SSIM 0.89" in robustness(seen, unseen).why


@pytest.mark.parametrize("is_targeted", [False, True])
def test_a_single_image_decides_nothing(is_targeted: bool) -> None:
    assert robustness(fool(is_targeted=is_targeted, images=1)).word == "Inconclusive"
    assert robustness(fool(is_targeted=is_targeted, images=1)).measure is None
    assert robustness(fool(is_targeted=is_targeted, images=2)).measure is not None


def test_what_a_promise_permits_stands_beside_it() -> None:
    permitted = {"auc": 0.6541, "tpr_at_10": 0.4, "tpr_at_1": 0.125, "by": "gaussian"}
    for changes, expected in (
        (
            {"permitted": permitted},
            "Guaranteed per image at delta 0.02, which permits AUC up to 0.655, TPR up to 0.125 at 1 % FPR "
            "and 0.400 at 10 % (exact",
        ),
        ({}, "Guaranteed per image at delta 0.02."),
    ):
        stated = promise(math.log(3), delta=0.02, **changes)
        why = told(guess(privacy=stated), defences=[compared(privacy=stated)]).verdicts[0].privacy.why
        assert why.startswith(expected)
