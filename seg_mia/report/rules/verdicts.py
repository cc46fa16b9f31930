"""Verdicts in a word: thresholds on the ends of intervals, stated next to the results.

A verdict covers only the attacks that were run. A negative result does not prove the absence of a leak: the
samples may be too few, or a better attack may exist.
"""

from collections.abc import Collection, Sequence

from seg_mia.report.rules.attack_strength import LEAST_GRADIENTS, LEAST_LOSSES
from seg_mia.report.rules.folds_rules import folds_verdict
from seg_mia.report.rules.leak_verdict import STRONG_AUC, STRONG_TPR, leak
from seg_mia.report.rules.privacy_verdict import MODERATE_EPSILON, STRONG_EPSILON, privacy
from seg_mia.report.rules.recipe_verdict import LEVEL, recipe_verdict
from seg_mia.report.rules.robustness_verdict import (
    BROKEN_IOU,
    BROKEN_SHARE,
    BROKEN_SUCCESS,
    GAINED_IOU,
    WEAKENED_SHARE,
    WEAKENED_SUCCESS,
    robustness,
)
from seg_mia.results.audit import Victim
from seg_mia.results.base import RunKey
from seg_mia.results.folds import FoldsResult
from seg_mia.results.leaks import LeakResult
from seg_mia.results.membership import MembershipResult
from seg_mia.results.perturbation import PerturbationResult
from seg_mia.results.recipe import RecipeResult
from seg_mia.results.report import Verdicts
from seg_mia.results.warnings import fails

LEAST_DICE = 0.1
"""On members: a mask of the whole image reaches as much if an object covers a twentieth of it."""

RULES = {
    "leak": (
        "One permutation test covers the AUC and the TPR at 1 % FPR of all attacks and seeds, over images "
        "and, where there are patients, over patients: membership is permuted among patients, and a leak is "
        "claimed if a number exceeds the maximum over all numbers in all but 5 % of the permutations. "
        f"Strong: such a number is at least {STRONG_AUC} (AUC) or {STRONG_TPR} (TPR) by a simultaneous lower "
        "bound. Weak: none is. None found: no number exceeds the maximum. Void: the split itself separates "
        f"members from non-members, or the victim hardly segments, Dice below {LEAST_DICE} on members."
    ),
    "recipe": (
        "Each network of a fleet is in turn the victim, the others are the attacker's. Every attack has two "
        "p-values: of its AUC over all decisions, by patient, and of all patients' own AUCs. A leak is "
        f"claimed where one of them is at most {LEVEL:g} after Bonferroni for all attacks. Strong: the "
        f"interval of that attack's AUC begins at {STRONG_AUC} or above, or that of its TPR at 1 % FPR, if "
        f"it is resolvable, at {STRONG_TPR} or above. Weak: neither does. Void: the networks hardly "
        f"segment, mean Dice below {LEAST_DICE} on members. It judges any network trained this way, not the "
        "victim."
    ),
    "folds": (
        "Each patient was left out by exactly one network of a cross-validation. Two p-values: of the "
        "number of "
        "patients whose confidence is lowest under that network, exact without a leak if folds were drawn "
        "at random, "
        "and of the AUC of telling a network trained on a patient from that one. A leak is claimed where "
        "one is at "
        f"most {LEVEL:g} after Bonferroni for both. Strong: the interval of the AUC begins at {STRONG_AUC} "
        "or above. "
        "Weak: it does not. Void: the networks hardly segment. It judges the networks one by one; their "
        "mean, which "
        "is deployed, usually discloses less."
    ),
    "robustness": (
        f"Broken: for some attack, the interval of the share of Dice lost begins at {BROKEN_SHARE} or above, "
        f"that of the success rate at {BROKEN_SUCCESS} or above, or that of the IoU with the attacker's mask "
        f"at {BROKEN_IOU} or above and more than {GAINED_IOU} above its value before the attack. Weakened: "
        f"an interval begins above {WEAKENED_SHARE}, {WEAKENED_SUCCESS}, or {GAINED_IOU} above the value "
        "before. Withstood: none does, a strong attack ran, no check shows a sign of masked gradients, and "
        f"all intervals end below the threshold of broken. Strong is each image's worst iterate in an "
        f"L-infinity ball of at least 4/255 that its steps can cross, on the victim's own gradients, with "
        f"{LEAST_LOSSES} losses and {LEAST_GRADIENTS} gradients per image. Inconclusive: anything else. "
        f"Void: the victim hardly segments, Dice below {LEAST_DICE} on members."
    ),
    "privacy": (
        "Broken: canaries prove a larger epsilon than guaranteed for the same unit, by random coins, or the "
        "trainings of the recipe prove a larger one than guaranteed if one unit is replaced. "
        "Contradicted if independent: a bound of an attack, or of canaries by a threshold, is larger, which "
        "assumes that the samples of one training are independent. Otherwise "
        f"by epsilon: strong up to {STRONG_EPSILON:g}, moderate up to {MODERATE_EPSILON:g}, weak above."
    ),
}
"""The thresholds in words."""


def verdicts(
    victims: Sequence[Victim],
    membership: Sequence[MembershipResult],
    perturbations: Sequence[PerturbationResult],
    leaks: Sequence[LeakResult] = (),
    recipes: Sequence[RecipeResult] = (),
    *,
    folds: Sequence[FoldsResult] = (),
) -> list[Verdicts]:
    """Return the verdicts on each row of the comparison, over all of its seeds."""
    split = any(fails(result) for result in membership if result.role == "blind")
    split_leaks = " The split itself separates members from non-members." if split else ""
    rows = []
    for row in sorted({victim.row for victim in victims}):
        of_row = [victim for victim in victims if victim.row == row]
        judged, void = judged_victims(of_row)
        attacks = [result for result in membership if result.row == row and result.role == "attack"]
        # Of any row: an audit runs controls on the first victim alone.
        controls = [result for result in membership if result.role == "control"]
        perturbed = [result for result in perturbations if result.key in judged]
        rows.append(
            Verdicts(
                row=row,
                defence=of_row[0].defence,
                leak=leak(
                    attacks,
                    restricted(leaks, row, {key.seed for key in judged}),
                    controls=controls,
                    void=void + split_leaks,
                ),
                robustness=robustness(perturbed, void=void),
                privacy=privacy(of_row, attacks, [result for result in recipes if result.row == row]),
                recipe=recipe_verdict(
                    [result for result in recipes if result.row == row], least_dice=LEAST_DICE
                ),
                folds=folds_verdict([result for result in folds if result.row == row], least_dice=LEAST_DICE),
            )
        )
    return rows


def restricted(leaks: Sequence[LeakResult], row: int, seeds: Collection[int]) -> LeakResult | None:
    """Return one row's test with the numbers of some seeds only, still adjusted for the others."""
    tested = next((leak_test for leak_test in leaks if leak_test.row == row), None)
    if tested is None:
        return None
    return tested.model_copy(update={"tested": [number for number in tested.tested if number.seed in seeds]})


def segments_nothing(victim: Victim) -> bool:
    """Return whether a victim's segmentation is too poor for leakage or robustness to be meaningful."""
    dice = victim.dice("members")
    return dice is not None and dice < LEAST_DICE


def networks_segment_nothing(result: RecipeResult) -> bool:
    """Return whether the segmentation of a recipe's networks is too poor for leakage to be meaningful."""
    dice = result.dice("members")
    return dice is not None and dice < LEAST_DICE


def judged_victims(victims: Sequence[Victim]) -> tuple[list[RunKey], str]:
    """Return the evaluated victims of one row, and the reason if none segments anything."""
    judged = [victim.key for victim in victims if not segments_nothing(victim)]
    if judged:
        return judged, ""
    best = max(victim.dice("members") or 0.0 for victim in victims)
    void = f" The victim hardly segments: Dice {best:.3f} on members, below {LEAST_DICE}."
    return [victim.key for victim in victims], void
