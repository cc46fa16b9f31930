"""Verdict on membership attacks, by one joint test of all their numbers (`seg_mia.membership.leakage`)."""

from collections.abc import Sequence

from seg_mia.report.rules.levels import LEVELS, Strength, strongest_of
from seg_mia.results.base import Measure
from seg_mia.results.leaks import LeakNumber, LeakResult
from seg_mia.results.membership import MembershipResult
from seg_mia.results.report import Verdict
from seg_mia.results.tables import interval
from seg_mia.results.warnings import above_chance

LOW_FPR = "0.01"
"""The false positive rate at which leakage is judged. An attack that is nearly always right about a few
members is worse for these few than one slightly better than chance about all (Carlini et al. 2022,
"Membership inference attacks from first principles").
"""
STRONG_AUC = 0.7
"""A random member then ranks above a random non-member in at least seven of ten pairs: more than an artefact
of sample size, and more than audits of well-generalising networks report.
"""
STRONG_TPR = 0.1
"""At a false positive rate of 1 %: ten times the rate of guessing, one member in ten nearly certain."""

WORDS = ("None found", "Weak leak", "Strong leak")
TOO_FEW = "Too few samples"
"""Replaces "None found" if even perfectly separated scores would not have shown a leak."""
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
    """Return the verdict on membership attacks; `void` is the reason if it is meaningless.

    Args:
        attacks: attacks on the victims of one row, over all seeds.
        tested: the joint test of their numbers, None if no attack queried these victims.
        controls: negative controls.
        void: an additional sentence, empty if the numbers are valid.
    """
    if tested is None or not tested.tested:
        return Verdict("none", "Not tested", "AUC", None, "No membership attack was run on this victim.")
    strongest = max(tested.tested, key=lambda number: order(number, tested))
    attack = next((attack for attack in attacks if _made(attack, strongest)), None)
    why = _rests_on(strongest, tested, attack)
    headline = _headline_auc(strongest, attack)
    if void:
        return Verdict("void", "Void", *headline, f"{why}{void}")
    if strength(strongest, tested) == 0:
        why += _power(tested)
    elif attack is not None:
        why += _beside_control(attack, strongest, controls)
    level = strength(strongest, tested)
    if level == 0 and tested.detectable is None:
        return Verdict("none", TOO_FEW, *headline, why)
    return Verdict(LEVELS[level], WORDS[level], *headline, why)


def strength(number: LeakNumber, tested: LeakResult) -> Strength:
    """Return the strength of a number as evidence: no leakage, some, or much."""
    # p-values are counts over permutations: one that is just 0.05 may be stored a rounding error above it.
    if number.adjusted > 1 - tested.confidence + 1e-9:
        return 0
    strong = STRONG_AUC if number.kind.endswith("auc") else STRONG_TPR
    return 2 if number.low >= strong else 1


def order(number: LeakNumber, tested: LeakResult) -> tuple[float, ...]:
    """Return the sort key of a number as evidence, the strongest last.

    With few patients several attacks have the least p-value and an interval from zero: the value decides.
    """
    return strength(number, tested), -number.adjusted, number.low, number.value


def too_few(tested: LeakResult) -> bool:
    """Return whether the samples are too few to show any leak, and none is shown."""
    return tested.detectable is None and not any(strength(number, tested) for number in tested.tested)


def _made(result: MembershipResult, number: LeakNumber) -> bool:
    return (result.label, result.seed) == (number.label, number.seed)


def _rests_on(number: LeakNumber, tested: LeakResult, result: MembershipResult | None) -> str:
    """Return the strongest number, and its significance."""
    attacks = {(test.label, test.seed) for test in tested.tested}
    count = len(tested.tested)
    measured = "" if result is None or number.kind == "auc" else f" {interval(measure_of(result, number))}"
    among = "" if count == 1 else f" as the best of {count} numbers"
    if number.kind == "auc":
        rests = f" Its AUC has p = {_p(number.adjusted)}{among}."
    else:
        rests = (
            f" The evidence is the {MEASURES[number.kind]},{measured}, with p = {_p(number.adjusted)}{among}."
        )
    return f"{number.label}, {strongest_of(len(attacks))}.{rests}"


def _p(value: float) -> str:
    return f"{value:.4f}" if value < 0.001 else f"{value:.3f}"


def _power(tested: LeakResult) -> str:
    """Return the detectable effect for these samples, and that a negative result is no proof."""
    unit = "patients" if tested.grouped else "images"
    samples = f"{tested.members} members and {tested.nonmembers} non-members ({unit})"
    if tested.detectable is None:
        power = f" With {samples} not even perfectly separated scores would show a leak reliably."
    else:
        power = (
            f" With {samples} this test detects an AUC{' over patients' if tested.grouped else ''} of "
            f"{tested.detectable:.2f} with a power of 80 %, a weaker attack less often."
        )
    return f"{power} A better attack may find what these did not: this is no proof that there is no leak."


def measure_of(result: MembershipResult, number: LeakNumber) -> Measure:
    """Return a number with its individual interval."""
    match number.kind:
        case "auc":
            measure: Measure | None = result.auc
        case "groups.auc":
            measure = result.pooled
        case "tpr_at_fpr_0.01":
            measure = result.rates.get(LOW_FPR)
        case _:
            measure = result.pooled_rates.get(LOW_FPR)
    return measure or Measure(number.value)


def _headline_auc(number: LeakNumber, result: MembershipResult | None) -> tuple[str, Measure]:
    """Return the AUC of the attack behind a verdict, comparable across reports."""
    if number.kind == "groups.auc":
        return MEASURES[number.kind], Measure(number.value) if result is None else measure_of(result, number)
    return "AUC", Measure(number.value if number.kind == "auc" else None) if result is None else result.auc


def _beside_control(
    result: MembershipResult, number: LeakNumber, controls: Sequence[MembershipResult]
) -> str:
    """Return the consequence of a failed control of the same attack, over the same units."""
    if not number.kind.endswith("auc"):
        return ""
    highest, low = failed_control(result, number, controls), measure_of(result, number).low
    if highest is None or low is None:
        return ""
    over = " over patients" if number.kind == "groups.auc" else ""
    if low > (highest.high or 0.0):
        return f" Its negative control reaches {interval(highest)}{over}."
    return f" It does not exceed its negative control{over}, {interval(highest)}."


def failed_control(
    result: MembershipResult, number: LeakNumber, controls: Sequence[MembershipResult]
) -> Measure | None:
    """Return the highest AUC above chance of the attack's controls, over the same units; None if none is."""
    # An audit names the control of an attack after the attack.
    matching = [control for control in controls if control.name.removesuffix("-control") == result.name]
    over_groups = number.kind.startswith("groups.")
    aucs = [control.pooled if over_groups else control.auc for control in matching]
    above = [auc for auc in aucs if auc is not None and auc.high is not None and above_chance(auc)]
    return max(above, key=lambda auc: auc.high or 0.0, default=None)
