"""Verdict on a recipe: the leak of a fleet's networks, each in turn the victim."""

import math
from collections.abc import Sequence

from scipy import stats

from seg_mia.report.rules.leak_verdict import STRONG_AUC, STRONG_TPR, WORDS
from seg_mia.report.rules.levels import LEVELS, Strength, strongest_of
from seg_mia.results.base import Measure
from seg_mia.results.recipe import RecipeResult
from seg_mia.results.report import Verdict
from seg_mia.results.tables import counted, interval

LEVEL = 0.05
"""Error probability of a claimed leak, over all attacks on a recipe."""
DISCOVERIES = 0.05
"""False discovery rate at which patients count as exposed."""


def recipe_verdict(results: Sequence[RecipeResult], *, least_dice: float) -> Verdict | None:
    """Return the verdict on a recipe, None without an attack on it.

    Each attack has two p-values, of its AUC and of its patients, and all are adjusted together.

    Args:
        results: attacks on the recipe of one row.
        least_dice: mean Dice on members below which a leak of the networks is meaningless.
    """
    if not results:
        return None
    strongest = max(results, key=lambda result: (strength(result, len(results)), result.auc.value or 0.0))
    level = strength(strongest, len(results))
    why = (
        f"{strongest.label}, {strongest_of(len(results))}, on {strongest.networks} networks and "
        f"{strongest.patients} patients.{_rests_on(strongest, len(results))}"
    )
    dice = strongest.dice("members")
    if dice is not None and dice < least_dice:
        void = f" The networks hardly segment: Dice {dice:.3f} on members, below {least_dice}."
        return Verdict("void", "Void", "AUC", strongest.auc, why + void)
    if level == 0:
        why += _power(strongest, len(results))
    return Verdict(LEVELS[level], WORDS[level], "AUC", strongest.auc, why)


def strength(result: RecipeResult, attacks: int) -> Strength:
    """Return the strength of an attack as evidence of leakage, given the number of attacks on the recipe."""
    if adjusted(result, attacks) > LEVEL:
        return 0
    low, found = result.auc.low or 0.0, result.tpr_at_1
    rate = found.low or 0.0 if found.resolvable else 0.0
    return 2 if low >= STRONG_AUC or rate >= STRONG_TPR else 1


def adjusted(result: RecipeResult, attacks: int) -> float:
    """Return the smaller p-value of AUC and patients, after Bonferroni for all attacks."""
    return min(1.0, 2 * attacks * min(result.p_value, result.risk.p_value))


def fewest_found(result: RecipeResult, level: float) -> int:
    """Return the fewest patients that Simes' test can find at `level`, if every network discloses them.

    The smallest p-value of a patient by K networks is that of perfect separation, one over the number of ways
    to choose half of them; m patients of n that have it are found if n / m times it is at most `level`. More
    than there are patients if even all of them are not found.

    Args:
        result: an attack on the recipe.
        level: of the test, in (0, 1).
    """
    least = 1 / math.comb(result.networks, result.networks // 2)
    return max(1, math.ceil(result.patients * least / level - 1e-9))


def limit_of_networks(result: RecipeResult) -> str:
    """Return behind a number of exposed patients how many the networks cannot show; empty if they can one."""
    needed = fewest_found(result, DISCOVERIES)
    return "" if needed == 1 else f" ({counted(result.networks, 'network')} cannot show fewer than {needed})"


def fewest_claimed(result: RecipeResult, attacks: int) -> int:
    """Return `fewest_found` for a claimed leak, given the number of attacks on the recipe (`adjusted`)."""
    return fewest_found(result, LEVEL / (4 * attacks))


def single_patients(result: RecipeResult, attacks: int) -> str:
    """Return what the test could not have found of single patients, as a sentence; empty if it could."""
    fewest = fewest_claimed(result, attacks)
    if fewest == 1:
        return ""
    known = counted(result.networks, "network")
    if fewest > result.patients:
        return f" By {known} no number of exposed patients would have been found by their own AUCs."
    return (
        f" By {known} fewer than {fewest} exposed patients of {result.patients} would not have been found, "
        "however clearly each network discloses them."
    )


def _rests_on(result: RecipeResult, attacks: int) -> str:
    p_value = adjusted(result, attacks)
    source = "AUC" if result.p_value <= result.risk.p_value else "patients' own AUCs"
    rate = result.tpr_at_1
    measured = f"; TPR at 1 % FPR {interval(rate)}" if rate.value is not None and rate.resolvable else ""
    exposed = result.risk.significant
    patients = f"{exposed} {'patient is' if exposed == 1 else 'patients are'} more exposed than by chance"
    p_words = "p < 0.0001" if p_value < 0.0001 else f"p = {p_value:.{4 if p_value < 0.001 else 3}f}"
    return f" By the {source}, {p_words} as the best of {2 * attacks} numbers{measured}; {patients}."


def _power(result: RecipeResult, attacks: int) -> str:
    """Return in words what would have been found: the detectable AUC, and single patients."""
    proof = " A better attack, or more networks, may find what these did not."
    area = detectable_auc(result.auc, result.patients, attacks)
    found = "" if area is None else f" An AUC of {area:.2f} would have been found with a chance of 80 %."
    return f"{found}{single_patients(result, attacks)}{proof}"


def detectable_auc(auc: Measure, patients: int, attacks: int) -> float | None:
    """Return the AUC that would be detected with a probability of 80 %, by the width of the interval."""
    low, high = auc.low, auc.high
    if low is None or high is None or not 0 < low < high < 1:
        return None
    freedom = patients - 1
    width = math.log(high / (1 - high)) - math.log(low / (1 - low))
    error = width / (2 * float(stats.t.isf(0.025, freedom)))
    reached = error * float(stats.t.isf(LEVEL / (2 * attacks), freedom) + stats.t.isf(0.2, freedom))
    return 1 / (1 + math.exp(-reached))
