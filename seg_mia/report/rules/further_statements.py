"""Statements on a recipe, on perturbations and on guarantees, by the rules in `statements`."""

from collections.abc import Sequence

from seg_mia.report.rules.levels import strongest_of
from seg_mia.report.rules.privacy_verdict import Refutation, not_computed, refutations, spent
from seg_mia.report.rules.privacy_verdict import strongest as strongest_proof
from seg_mia.report.rules.recipe_verdict import adjusted, detectable_auc, limit_of_networks, single_patients
from seg_mia.report.rules.recipe_verdict import strength as recipe_strength
from seg_mia.report.rules.robustness_verdict import EvasionRule, conclusion
from seg_mia.report.rules.statement_rules import RELEVANT_AUC
from seg_mia.report.rules.statements import Row, statement
from seg_mia.results.audit import Victim
from seg_mia.results.base import Measure
from seg_mia.results.evidence import Answer, Statement
from seg_mia.results.evidence_measures import Promise
from seg_mia.results.many_runs import contradicted
from seg_mia.results.many_runs import strongest_of as largest_of
from seg_mia.results.membership import MembershipResult
from seg_mia.results.perturbation import PerturbationResult
from seg_mia.results.recipe import RecipeResult
from seg_mia.results.tables import interval

EVASION: dict[EvasionRule, Answer] = {
    "V0": "absent",
    "V1": "void",
    "V2": "evidence",
    "V3": "unresolvable",
    "V4": "unresolvable",
    "V5": "resistance",
    "V6": "unresolvable",
}
"""The answer that each rule gives."""
VULNERABLE = "Evidence of vulnerability"
ON_AVERAGE = "Not resolvable for single patients; resistance on average"
LEAST_P = 0.001
"""Smaller p-values are not told apart."""


def _order(result: RecipeResult, count: int) -> tuple[float, ...]:
    """Return the sort key of an attack on a recipe as evidence, the strongest last."""
    p_value = max(adjusted(result, count), LEAST_P)
    return recipe_strength(result, count), -p_value, result.auc.value or 0.0


def recipe(row: Row, results: Sequence[RecipeResult]) -> Statement:
    """Answer whether networks of a recipe disclose their patients, from one attack or more."""
    count = len(results)
    strongest = max(results, key=lambda result: _order(result, count))
    measured = ("AUC over all networks", strongest.auc)
    if row.void:
        return statement(row, "recipe", "R1", "void", row.void, measured=measured)
    p_value = adjusted(strongest, count)
    p_words = f"p < {LEAST_P}" if p_value < LEAST_P else f"p = {p_value:.3f}"
    why = (
        f"{strongest.label}, {strongest_of(count)}: {p_words} as the best of {2 * count} numbers; "
        f"{strongest.risk.significant} of {strongest.patients} patients are more exposed than by chance"
        f"{limit_of_networks(strongest)}."
    )
    if (level := recipe_strength(strongest, count)) > 0:
        why += f" A {'strong' if level == 2 else 'weak'} leak of any network trained this way."
        return statement(row, "recipe", "R2", "evidence", why, measured=measured)
    area = detectable_auc(strongest.auc, strongest.patients, count)
    why += "" if area is None else f" An AUC of {area:.2f} would be found with a chance of 80 %."
    if area is None or area > RELEVANT_AUC:
        return statement(row, "recipe", "R3", "unresolvable", why, measured=measured)
    top = max((result.auc for result in results), key=lambda auc: 1.0 if auc.high is None else auc.high)
    if top.high is None or top.high >= RELEVANT_AUC:
        why += f" The interval {interval(top)} does not exclude {RELEVANT_AUC}."
        return statement(row, "recipe", "R4", "unresolvable", why, measured=measured)
    if missed := single_patients(strongest, count):
        why += f" All intervals end below {RELEVANT_AUC}, which speaks of the average alone.{missed}"
        return statement(row, "recipe", "R6", "unresolvable", why, measured=measured, word=ON_AVERAGE)
    why += f" All intervals end below {RELEVANT_AUC}, and one exposed patient would have been found."
    return statement(row, "recipe", "R5", "resistance", why, measured=measured)


def evasion(row: Row, attacks: Sequence[PerturbationResult]) -> Statement:
    """Answer whether changed images fool a victim.

    Args:
        row: the row; its reason for void is that its victims hardly segment.
        attacks: perturbations of the row's victims.
    """
    found = conclusion(attacks, void=row.void)
    word = VULNERABLE if found.rule == "V2" else ""
    return statement(
        row, "evasion", found.rule, EVASION[found.rule], found.why, measured=found.measured, word=word
    )


def promise(
    row: Row,
    victims: Sequence[Victim],
    attacks: Sequence[MembershipResult],
    promises: Sequence[Promise],
    recipes: Sequence[RecipeResult] = (),
) -> Statement:
    """Answer whether a guarantee of differential privacy was contradicted.

    Args:
        row: the row; its reason for void is a split that separates members from non-members.
        victims: victims of the row.
        attacks: membership attacks on them.
        promises: their guarantees.
        recipes: attacks on the row's recipe, whose trainings may contradict the guarantee of each.
    """
    if recipes_broken := contradicted(recipes):
        largest = largest_of(recipes_broken)
        why = f"Promised {largest.promised:.3g} if one is replaced; {largest.proof}."
        measured = ("epsilon if one is replaced", Measure(largest.promised))
        return statement(
            row, "promise", "P1", "evidence", why, measured=measured, word="Promise contradicted"
        )
    bounded = [promised for promised in promises if promised.epsilon is not None]
    if not bounded:
        return _no_promise(row, victims, promises)
    worst = max(bounded, key=lambda promised: promised.epsilon or 0.0)
    measured = ("epsilon", Measure(worst.epsilon))
    proofs = refutations(victims, attacks)
    above = [label for promised in bounded for label in promised.above]
    if not proofs and not above:
        return _not_contradicted(row, bounded, worst)
    sentence = _proof_in_words(strongest_proof(proofs)) if proofs else ""
    why = f"{sentence} {_area_in_words(above, worst)}".strip()
    by_canaries = any(proof.attack is None for row_proofs in proofs.values() for proof in row_proofs)
    if row.void and not by_canaries:
        return statement(row, "promise", "P2", "void", f"{why} {row.void}", measured=measured)
    is_proof = any(proof.bound.is_proof for row_proofs in proofs.values() for proof in row_proofs)
    word = "Promise contradicted" if is_proof else "Promise contradicted if samples are independent"
    return statement(row, "promise", "P1", "evidence", why, measured=measured, word=word)


def _not_contradicted(row: Row, bounded: Sequence[Promise], worst: Promise) -> Statement:
    """Return the statement on a promise that nothing contradicts: whether anything could have."""
    measured = ("epsilon", Measure(worst.epsilon))
    audits = [(promised, audit) for promised in bounded for audit in promised.audits if audit.comparable]
    able = [audit for promised, audit in audits if (audit.ceiling or 0.0) > (promised.epsilon or 0.0)]
    replaced = "" if worst.replace_one is None else f" ({worst.replace_one:.3g} if one is replaced)"
    promised = f"Promised per {worst.unit}, epsilon {worst.epsilon:.3g}{replaced}"
    missing = sum(audit.proved is None and audit.ceiling is None for _, audit in audits)
    if missing:
        why = f"{promised}; {not_computed(missing, max(worst.compared, missing))}."
        return statement(row, "promise", "P3", "unresolvable", why, measured=measured)
    if not able:
        ceilings = [audit.ceiling or 0.0 for _, audit in audits]
        provable = (
            f"at most {max(ceilings):.2f} could be shown" if audits else "nothing was audited for this unit"
        )
        why = f"{promised}; {provable}, so that the promise could not have been contradicted."
        return statement(row, "promise", "P3", "unresolvable", why, measured=measured)
    best = max(able, key=lambda audit: audit.ceiling or 0.0)
    why = (
        f"{promised}. {best.by} {'shows' if best.assumes_independence else 'proves'} "
        f"{best.proved or 0.0:.2f} and could have shown up to {best.ceiling:.2f}"
        f"{', if samples are independent' if best.assumes_independence else ''}. "
        "This is no proof of the promise."
    )
    return statement(
        row, "promise", "P4", "resistance", why, measured=measured, word="Promise not contradicted"
    )


def _proof_in_words(proof: Refutation) -> str:
    return (
        f"{proof.subject} at least epsilon {proof.bound.epsilon or 0.0:.2f}, promised are "
        f"{spent(proof.guarantee):.3g} per {proof.guarantee.unit}, {proof.together}."
    )


def _area_in_words(above: Sequence[str], worst: Promise) -> str:
    """Return the attacks above the permitted area as a sentence, empty without any."""
    limit = "" if worst.permitted_auc is None else f" of {worst.permitted_auc:.3f}"
    return f"Above the permitted AUC{limit}: {', '.join(dict.fromkeys(above))}." if above else ""


def _no_promise(row: Row, victims: Sequence[Victim], promises: Sequence[Promise]) -> Statement:
    known = not any(victim.from_predictions for victim in victims)
    why = "Not trained with differential privacy." if known else "Only predictions are given."
    if promises:
        why = "Clipped without noise: no guarantee."
    word = "No promise" if known else "Unknown"
    return statement(row, "promise", "P0", "absent", why, measured=("epsilon", None), word=word)
