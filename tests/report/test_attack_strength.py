"""What must run before a victim counts as resistant, and that verdict and statement agree on it."""

from typing import Any

import pytest

from seg_mia.attacks.apgd import Apgd
from seg_mia.attacks.pgd import CosPgd, Pgd, SegPgd
from seg_mia.attacks.robustness_curve import Curve
from seg_mia.attacks.sea import Sea
from seg_mia.attacks.white_box import WhiteBox
from seg_mia.report.evidence.build import statements
from seg_mia.report.rules.verdicts import verdicts
from seg_mia.results.audit import AuditResult
from seg_mia.results.evidence import Answer, Statement
from seg_mia.results.report import Level, Verdict
from tests.report.audits import audit, checked, compared, effort, fool, mean, strong, success

FOUR = 4 / 255
WEAK = (
    "none sought each image's worst case within at least 4/255 in L-infinity, on the victim's own gradients, "
    "with 2 losses and 100 gradients per image. Add robustness-curve or sea to the audit."
)


def judged(*attacks: dict[str, Any], **more: Any) -> tuple[Verdict, Statement]:
    """Return the verdict on robustness and the statement on evasion, of the first row of one audit."""
    read = AuditResult.read(audit(attacks, **more), "audit.json")
    (statement,) = (answer for answer in statements(read, []) if answer.question == "evasion")
    return verdicts(read.defences, read.membership, read.perturbations)[0].robustness, statement


def weak(name: str, **changes: Any) -> dict[str, Any]:
    """Return an attack without effect that is no search for the worst case."""
    return strong() | {"name": name, "label": name, "worst_case": None} | changes


@pytest.mark.parametrize("name", ["fgsm", "frequency", "asma", "square", "pgd"])
def test_a_weak_attack_alone_earns_no_resistance(name: str) -> None:
    verdict, statement = judged(weak(name))
    assert (verdict.level, verdict.word) == ("none", "Inconclusive")
    assert (statement.rule, statement.answer) == ("V6", "unresolvable")
    assert verdict.why == statement.why == f"Only weak attacks ran ({name}): {WEAK}"


def test_a_strong_attack_earns_it_and_states_its_ball() -> None:
    verdict, statement = judged(strong(), weak("fgsm"))
    assert (verdict.level, verdict.word) == ("good", "Withstood")
    assert (statement.rule, statement.answer) == ("V5", "resistance")
    assert "The worst case was sought within 8/255" in statement.why
    assert (
        verdict.why
        == f"{statement.why} This covers only the attacks that were run: a stronger one may succeed."
    )


@pytest.mark.parametrize(
    ("made", "enough"),
    [
        (effort(dice=80, margin=20), True),
        (effort(dice=81, margin=19), False),
        (effort(dice=79, margin=20), False),
        (effort(dice=1000), False),
        (effort(FOUR), True),
        (effort(0.0157), True),
        (effort(3.9 / 255), False),
        (effort(2.0, norm="l2"), False),
    ],
)
def test_strength_goes_by_losses_gradients_and_radius(made: dict[str, Any], enough: bool) -> None:
    verdict, statement = judged(strong(worst_case=made))
    assert verdict.word == ("Withstood" if enough else "Inconclusive")
    assert statement.rule == ("V5" if enough else "V6")


def test_attacks_in_one_ball_on_the_same_images_count_together() -> None:
    halves = [strong(worst_case=effort(dice=50)), strong(worst_case=effort(balanced_cross_entropy=50))]
    halves[1] |= {"name": "apgd", "label": "apgd"}
    halves[1]["results"] |= {"dice_adversarial": mean(0.785)}
    assert judged(*halves)[0].word == "Withstood"
    assert judged(halves[0], halves[1] | {"images": 399, "units": 399})[0].word == "Inconclusive"
    assert judged(halves[0], halves[1] | {"worst_case": effort(FOUR, dice=50)})[0].word == "Inconclusive"
    assert judged(halves[0], halves[1] | {"is_targeted": True})[0].word == "Inconclusive"


def of(*attacks: WhiteBox) -> str:
    """Return the verdict on a victim that attacks with these options did not harm."""
    made = [attack.worst_case for attack in attacks]
    assert all(worst is not None for worst in made)
    found = [
        strong(name=str(number), label=str(number), worst_case=worst.model_dump() if worst else None)
        for number, worst in enumerate(made)
    ]
    for number, attack in enumerate(found):
        attack["results"] = attack["results"] | {"l2": mean(1 + number)}  # no two share all digits
    return judged(*found)[0].word


def test_steps_that_cannot_cross_the_ball_are_no_search() -> None:
    made: dict[str, Any] = {"epsilon": 0.5, "steps": 50, "keep": "best"}
    assert of(Pgd(**made, step_size=1e-6), CosPgd(**made, step_size=1e-6)) == "Inconclusive"
    assert of(Pgd(**made, step_size=0.019), CosPgd(**made, step_size=0.019)) == "Inconclusive"
    assert of(Pgd(**made, step_size=0.02), CosPgd(**made, step_size=0.02)) == "Withstood"
    silent = effort()
    del silent["in_ball"], silent["reach"]  # a file that does not say it
    assert judged(strong(worst_case=silent))[0].word == "Inconclusive"


def test_a_repeated_attack_counts_once() -> None:
    short, other = Pgd(steps=20, keep="best"), CosPgd(steps=40)
    assert of(short, short, short, other) == "Inconclusive"
    assert of(Pgd(steps=40, loss="segpgd", keep="best"), SegPgd(steps=40), CosPgd(steps=40)) == "Inconclusive"
    assert of(Pgd(steps=60, keep="best"), other) == "Withstood"


def test_of_a_curve_the_largest_ball_counts() -> None:
    assert of(Curve(radii=[number / 10 for number in range(1, 51)], steps=1)) == "Inconclusive"
    assert of(Curve(radii=[1, 2, 4], steps=20)) == "Withstood"
    assert of(Curve(radii=[1, 2, 3], steps=20)) == "Inconclusive"


def test_radii_that_a_config_rounds_are_the_same() -> None:
    assert of(Apgd(epsilon=0.0157, steps=50), Apgd(epsilon=FOUR, steps=50, loss="tsallis")) == "Withstood"


def test_of_staged_radii_the_last_counts() -> None:
    losses: Any = ["dice", "tsallis"]
    assert of(Sea(steps=50, losses=losses)) == "Withstood"
    assert of(Sea(steps=50, losses=losses, staged=True)) == "Withstood"
    assert of(Sea(steps=49, losses=[*losses, "jensen_shannon"], staged=True)) == "Withstood"
    assert of(Sea(steps=40, losses=[*losses, "jensen_shannon"], staged=True)) == "Inconclusive"


def test_each_seed_needs_its_own_strong_attack() -> None:
    rows = [compared(round_=number) for number in (0, 1)]
    second = {"seed": 8, "round": 1}
    assert judged(strong(), strong(**second), defences=rows)[0].word == "Withstood"
    assert judged(strong(), weak("fgsm", **second), defences=rows)[1].rule == "V6"


def test_what_no_check_of_gradients_accompanies_is_no_resistance() -> None:
    verdict, statement = judged(strong(sanity=None))
    assert (verdict.word, statement.rule) == ("Inconclusive", "V6")
    assert verdict.why == (
        "Whether gradients are masked was not checked, or on fewer than 4 images. Set sanity_images to 4."
    )
    assert judged(strong(sanity=checked(images=3)))[1].rule == "V6"
    assert judged(strong(sanity=checked(images=3), images=3))[1].rule != "V6", "all that were attacked"
    assert judged(strong(sanity=None), weak("fgsm", sanity=checked()))[0].word == "Withstood", (
        "once for a victim is enough"
    )


def test_signs_of_masked_gradients_take_it_away() -> None:
    verdict, statement = judged(strong(sanity=checked(dice_unbounded=0.4)))
    assert (verdict.word, statement.rule) == ("Inconclusive", "V3")
    assert verdict.why == statement.why
    assert statement.why == (
        "Nothing was found, but gradients may be masked. robustness-curve: an unbounded attack leaves a "
        "Dice of 0.400, not 0."
    )
    ball: dict[str, Any] = {"attack": {"class_path": "a.Apgd", "init_args": {"epsilon": 8 / 255}}}
    blind: dict[str, Any] = {
        "attack": {"class_path": "a.Square", "init_args": {"epsilon": 8 / 255, "queries": 50}}
    }
    queries = weak("square", attacker_knowledge="probabilities", **blind)
    queries["results"] = queries["results"] | {"dice_adversarial": mean(0.765)}
    verdict, statement = judged(strong(**ball), queries)
    assert (verdict.word, statement.rule) == ("Inconclusive", "V3")
    assert "square, which uses no gradients of the victim, leaves a lower Dice" in statement.why


def test_images_without_gradient_take_it_away() -> None:
    assert judged(strong(no_gradient=20))[0].word == "Withstood"
    for stopped in (21, 200):  # of 400
        verdict, statement = judged(strong(no_gradient=stopped))
        assert (verdict.word, statement.rule) == ("Inconclusive", "V3")
        assert f"no gradient reached {stopped} of 400 images" in verdict.why


def test_an_attack_that_does_nothing_is_no_sign() -> None:
    verdict, statement = judged(strong(), weak("asma", unchanged=400))
    assert (verdict.word, statement.rule) == ("Withstood", "V5")


@pytest.mark.parametrize("name", ["fgsm", "square", "asma"])
def test_an_attack_that_succeeds_needs_no_strength(name: str) -> None:
    broken = weak(name, sanity=checked(dice_unbounded=0.4))
    broken["results"] = broken["results"] | {"dice_adversarial": mean(0.1, 0.0)}
    verdict, statement = judged(broken)
    assert (verdict.level, verdict.word) == ("bad", "Broken")
    assert (statement.rule, statement.answer) == ("V2", "evidence")
    assert statement.why == f"{name}, the only attack: the segmentation is broken."


AGREEING: dict[Level, set[Answer]] = {
    "good": {"resistance"},
    "fair": {"evidence"},
    "bad": {"evidence"},
    "void": {"void"},
    "none": {"absent", "unresolvable"},
}


@pytest.mark.parametrize("after", [0.79, 0.6, 0.1])
@pytest.mark.parametrize("images", [1, 3, 400])
@pytest.mark.parametrize("dice", [0.9, 0.02])
@pytest.mark.parametrize("made", [None, effort()])
@pytest.mark.parametrize("sanity", [None, checked(), checked(zero_gradient=2)])
def test_verdict_and_statement_never_contradict_each_other(
    after: float, images: int, dice: float, made: dict[str, Any] | None, sanity: dict[str, Any] | None
) -> None:
    attack = strong(after=after, images=images, worst_case=made, sanity=sanity)
    rows = [compared(utility={"members": {"dice": dice}})]
    others: list[list[dict[str, Any]]] = [
        [], [fool(images=images)], [weak("medis", success=[success(low=0.01, high=0.3)])],
        [weak("pgd", no_gradient=400)],
    ]  # fmt: skip
    for more in others:
        verdict, statement = judged(attack, *more, defences=rows)
        assert statement.answer in AGREEING[verdict.level]
        assert verdict.measure == statement.measure
