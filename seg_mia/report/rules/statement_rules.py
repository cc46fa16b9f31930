"""Rules of the statements, in words, and their thresholds."""

from seg_mia.report.rules.attack_strength import LEAST_GRADIENTS, LEAST_LOSSES, LEAST_PER_LOSS
from seg_mia.report.rules.leak_verdict import STRONG_AUC, STRONG_TPR

RELEVANT_AUC, RELEVANT_TPR = STRONG_AUC, STRONG_TPR
"""Effects that resistance must exclude: those of a strong leak."""
ROUGH = 5
"""Expected false positives below which a rate is rough, and no evidence of resistance."""

RULES = {
    "A0": "Average, absent: no membership attack queried this victim.",
    "A1": "Average, void: a blind baseline is above chance, over images or over patients, or the victim's "
    "Dice on its own members is below 0.1.",
    "A2": "Average, evidence of leakage: the joint test of all attacks and seeds claims an AUC at 5 %.",
    "A3": "Average, not resolvable: it claims an AUC, but no higher than the negative control of the same "
    "attack, which is above chance itself.",
    "A4": f"Average, not resolvable: nothing is claimed, and an AUC of {RELEVANT_AUC} would have been "
    "found with a chance below 80 %.",
    "A5": "Average, not resolvable: nothing is claimed, but the 95 % interval of some attack's AUC "
    f"reaches {RELEVANT_AUC}.",
    "A6": "Average, resistance: nothing is claimed, the power suffices, and all intervals end below "
    f"{RELEVANT_AUC}.",
    "I0": "Individuals, absent: no membership attack queried this victim.",
    "I1": "Individuals, void: as A1.",
    "I2": "Individuals, evidence of leakage: the joint test claims a true positive rate at 1 % false "
    "positives at 5 %.",
    "I3": "Individuals, not resolvable: nothing is claimed, and fewer than 5 false positives are expected "
    "among the non-members (500 are needed).",
    "I4": "Individuals, not resolvable: nothing is claimed, but the interval of some attack's rate "
    f"reaches {RELEVANT_TPR}.",
    "I5": f"Individuals, resistance: nothing is claimed, and all intervals end below {RELEVANT_TPR}.",
    "I6": "Individuals, not resolvable: it claims a rate, but the negative control of the same attack has "
    "an AUC above chance.",
    "R1": "Recipe, void: the mean Dice of the networks on members is below 0.1.",
    "R2": "Recipe, evidence of leakage: the AUC or the patients of some attack have a p-value of at most "
    "5 %, after Bonferroni.",
    "R3": f"Recipe, not resolvable: nothing is claimed, and an AUC of {RELEVANT_AUC} would have been found "
    "with a chance below 80 %.",
    "R4": "Recipe, not resolvable: nothing is claimed, but the interval of some attack's AUC reaches "
    f"{RELEVANT_AUC}.",
    "R5": "Recipe, resistance: nothing is claimed, the power suffices, all intervals end below "
    f"{RELEVANT_AUC}, and a single patient that every network discloses would have been found.",
    "R6": "Recipe, not resolvable for single patients, resistance on average: as R5, but the networks are "
    "too few to find a single patient, however clearly every network discloses it.",
    "F1": "Cross-validation, void: the mean Dice of the networks on members is below 0.1.",
    "F2": "Cross-validation, evidence of leakage: the exact test or the AUC has a p-value of at most 5 %, "
    "after Bonferroni.",
    "F3": f"Cross-validation, not resolvable: nothing is claimed, and an AUC of {RELEVANT_AUC} would have "
    "been found with a chance below 80 %.",
    "F4": "Cross-validation, not resolvable: nothing is claimed, but the interval of the AUC reaches "
    f"{RELEVANT_AUC}.",
    "F5": "Cross-validation, resistance: nothing is claimed, the power suffices, and the interval ends below "
    f"{RELEVANT_AUC}.",
    "V0": "Evasion, absent: no perturbation was run on this victim.",
    "V1": "Evasion, void: the victim's Dice on its own members is below 0.1.",
    "V2": "Evasion, evidence of vulnerability: the interval of some attack's effect begins above the "
    "threshold of "
    '"weakened".',
    "V3": "Evasion, not resolvable: no image counts (no gradient, no change, or one image), or there are "
    "signs of masked gradients, from a check or from attacks that contradict each other.",
    "V4": "Evasion, not resolvable: a strong attack ran and none has an effect, but the interval of some "
    'attack reaches the threshold of "broken".',
    "V5": "Evasion, resistance: a strong attack ran, gradients were checked and show no sign of masking, no "
    'attack has an effect, and all intervals end below the threshold of "broken".',
    "V6": "Evasion, not resolvable: no attack has an effect, but only weak attacks ran, or gradients were "
    "not checked on 4 images (or all). Strong is: each image's worst iterate on the victim's own gradients, "
    f"in an L-infinity ball of at least 4/255 that its steps can cross, with {LEAST_LOSSES} losses of at "
    f"least {LEAST_PER_LOSS} gradients per image each in that ball, {LEAST_GRADIENTS} together, each loss "
    "counted once.",
    "P0": "Promise, absent: not trained with differential privacy, without noise, or only predictions are "
    "given.",
    "P1": "Promise, contradicted: canaries prove a larger epsilon for the same unit, by bounds that hold at "
    "95 % for all of the row together, or the trainings of the recipe prove a larger one than promised if "
    "one unit is replaced, for all attacks on it together; or contradicted if samples are independent: a "
    "bound of an attack is larger, or its AUC exceeds the largest that the promise permits, by a bound "
    "that holds for all numbers at once.",
    "P2": "Promise, void: an attack contradicts it, canaries do not, and the split itself separates "
    "members from non-members.",
    "P3": "Promise, not resolvable: it is not contradicted, but perfect guesses could not have "
    "contradicted it either, nothing was audited for its unit, or bounds were not computed at the confidence "
    "that all of the row need together (files of an earlier version, more than 500 bounds).",
    "P4": "Promise, not contradicted: some audit for its unit could have contradicted it, and none did.",
}
"""The rules in words, by name: the first letter is the question's."""
