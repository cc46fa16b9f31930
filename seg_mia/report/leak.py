"""What membership attacks amount to, by one test for all of their numbers (`seg_mia.membership.leakage`)."""

from collections.abc import Sequence
from typing import Literal

from seg_mia.results.base import Measure
from seg_mia.results.leaks import LeakNumber, LeakResult
from seg_mia.results.membership import MembershipResult
from seg_mia.results.report import Level, Verdict
from seg_mia.results.warnings import above_chance

LOW_FPR = "0.01"
"""The false positive rate at which a leak is judged. An attack that is nearly always right about a few is
worse for these few than one that is a little better than chance about all (Carlini et al. 2022, "Membership
inference attacks from first principles")."""
STRONG_AUC = 0.7
"""A random member then ranks above a random non-member in seven of ten pairs at least: no artefact of a
sample's size, and more than audits of well-generalising networks report."""
STRONG_TPR = 0.1
"""At a false positive rate of 1 %: ten times what guessing gives, one member in ten all but certain."""

Strength = Literal[0, 1, 2]
WORDS = ("None found", "Weak leak", "Strong leak")
TOO_FEW = "Too few to tell"
"""Instead of "None found" where not even scores that part the sides perfectly would have shown a leak."""
LEVELS: tuple[Level, Level, Level] = ("good", "fair", "bad")
MEASURES = {
    "auc": "AUC",
    "groups.auc": "AUC over patients",
    "tpr_at_fpr_0.01": "TPR at 1 % FPR",
    "groups.tpr_at_fpr_0.01": "TPR at 1 % FPR over patients",
}


def leak(
    attacks: Sequence[MembershipResult],
    tested: LeakResult | None,
    *,
    controls: Sequence[MembershipResult] = (),
    void: str = "",
) -> Verdict:
    """Return how much membership attacks found; `void` says why that means nothing, if it does.

    Args:
        attacks: on the victims of one row, over all seeds.
        tested: the test of all of their numbers, None where no attack asked these victims.
        controls: negative controls.
        void: a further sentence, empty where numbers mean something.
    """
    if tested is None or not tested.tested:
        return Verdict("none", "Not tested", "AUC", None, "No membership attack was run on this victim.")
    strongest = max(tested.tested, key=lambda one: (strength(one, tested), -one.adjusted, one.low))
    one = next((one for one in attacks if _made(one, strongest)), None)
    why = _rests_on(strongest, tested, one)
    shown = _shown(strongest, one)
    if void:
        return Verdict("void", "Void", *shown, f"{why}{void}")
    if strength(strongest, tested) == 0:
        why += _power(tested)
    elif one is not None:
        why += _beside_control(one, strongest, controls)
    found = strength(strongest, tested)
    if found == 0 and tested.detectable is None:
        return Verdict("none", TOO_FEW, *shown, why)
    return Verdict(LEVELS[found], WORDS[found], *shown, why)


def strength(number: LeakNumber, tested: LeakResult) -> Strength:
    """Return how much a number says: nothing, that something leaks, or that much does."""
    if number.adjusted > 1 - tested.confidence + 1e-9:
        return 0
    strong = STRONG_AUC if number.kind.endswith("auc") else STRONG_TPR
    return 2 if number.low >= strong else 1


def too_few(tested: LeakResult) -> bool:
    """Return whether so few samples could not show any leak, and have shown none."""
    return tested.detectable is None and not any(strength(number, tested) for number in tested.tested)


def _made(one: MembershipResult, number: LeakNumber) -> bool:
    return (one.label, one.seed) == (number.label, number.seed)


def _rests_on(number: LeakNumber, tested: LeakResult, one: MembershipResult | None) -> str:
    """Return which number is the strongest, and how surely it is none of chance."""
    labels = {(other.label, other.seed) for other in tested.tested}
    which = "the only attack" if len(labels) == 1 else f"the strongest of {len(labels)} attacks"
    count = len(tested.tested)
    said = "" if one is None or number.kind == "auc" else f" {_said(measure_of(one, number))}"
    among = "" if count == 1 else f" as the best of {count} numbers"
    if number.kind == "auc":
        rests = f" Its AUC has p = {_p(number.adjusted)}{among}."
    else:
        rests = f" It rests on the {MEASURES[number.kind]},{said}, with p = {_p(number.adjusted)}{among}."
    return f"{number.label}, {which}.{rests}"


def _p(value: float) -> str:
    return f"{value:.4f}" if value < 0.001 else f"{value:.3f}"


def _power(tested: LeakResult) -> str:
    """Return what so many samples would have shown, and that nothing shown is nothing proved."""
    what = "patients" if tested.grouped else "images"
    sides = f"{tested.members} members and {tested.nonmembers} non-members"
    if tested.detectable is None:
        power = (
            f" With {sides} ({what}) not even scores that tell all of them apart would show a leak reliably."
        )
    else:
        power = (
            f" With {sides} ({what}) an attack would have been found with a chance of 80 % if its AUC"
            f"{' over patients' if tested.grouped else ''} were {tested.detectable:.2f}, a weaker one less "
            "often."
        )
    return f"{power} A better attack may find what these did not: this is no proof that none exists."


def measure_of(one: MembershipResult, number: LeakNumber) -> Measure:
    """Return a number with the interval that it has by itself."""
    match number.kind:
        case "auc":
            found: Measure | None = one.auc
        case "groups.auc":
            found = one.pooled
        case "tpr_at_fpr_0.01":
            found = one.rates.get(LOW_FPR)
        case _:
            found = one.pooled_rates.get(LOW_FPR)
    return found or Measure(number.value)


def _shown(number: LeakNumber, one: MembershipResult | None) -> tuple[str, Measure]:
    """Return the AUC of the attack that a verdict rests on, which readers can compare across reports."""
    if number.kind == "groups.auc":
        return MEASURES[number.kind], Measure(number.value) if one is None else measure_of(one, number)
    return "AUC", Measure(number.value if number.kind == "auc" else None) if one is None else one.auc


def _beside_control(one: MembershipResult, number: LeakNumber, controls: Sequence[MembershipResult]) -> str:
    """Return what a failed control of the same attack says of a leak, over the same units."""
    if not number.kind.endswith("auc"):
        return ""
    pooled = number.kind == "groups.auc"
    own = [other for other in controls if other.name.removesuffix("-control") == one.name]
    alike = [other.pooled if pooled else other.auc for other in own]
    above = [auc for auc in alike if auc is not None and auc.high is not None and above_chance(auc)]
    low = measure_of(one, number).low
    if not above or low is None:
        return ""
    control = max(above, key=lambda auc: auc.high or 0.0)
    over = " over patients" if pooled else ""
    if low > (control.high or 0.0):
        return f" Its negative control reaches {_said(control)}{over}."
    return f" No more than its negative control reaches{over}, {_said(control)}."


def _said(measure: Measure) -> str:
    if measure.low is None or measure.high is None:
        return "none" if measure.value is None else f"{measure.value:.3f}"
    return f"{measure.value:.3f} [{measure.low:.3f}, {measure.high:.3f}]"
