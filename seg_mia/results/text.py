"""Summary text of a run."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from seg_mia.membership.tradeoff import Permitted
from seg_mia.results.certificate import CertificateSummary
from seg_mia.results.folds import FoldsResult
from seg_mia.results.many_runs import bounds_of
from seg_mia.results.membership import MembershipMeasures, MembershipSummary
from seg_mia.results.perturbation import PerturbationSummary
from seg_mia.results.privacy import CanaryResult, DPGuarantee, EpsilonLowerBound, guarantee
from seg_mia.results.rates import rate_at
from seg_mia.results.recipe import AlteredSamples, RecipeControls, RecipeResult
from seg_mia.results.robustness import MinimalNorms
from seg_mia.results.tables import (
    aligned,
    certificate_outcome,
    counted,
    curve_table,
    interval,
    low_fpr,
    mask_lost,
    member_table,
    perturbation_outcome,
    recipe_rate,
    success_table,
    threshold_table,
)
from seg_mia.results.warnings import (
    certificate_warnings,
    membership_warnings,
    perturbation_warnings,
    same_start,
)

BOUNDS = {
    "gaussian": "exact for this mechanism",
    "prv": "by the accountant's curve, prv",
    "rdp": "by the accountant's curve, rdp",
    "point": "by epsilon and delta alone",
}
"""Basis of the permitted maximum, by `Permitted.by`."""


def utility_headline(summary: Mapping[str, Any]) -> list[str]:
    """Return a network's segmentation quality, its training's guarantee, and the effect of a trigger."""
    names = [name for name in ("val/dice", "val/iou", "val/loss", "train/dice") if name in summary]
    lines = ["   ".join(f"{name} {summary[name]:.3f}" for name in names)] if names else []
    if not all(math.isfinite(summary[name]) for name in names):
        lines.append("WARNING: the loss is not a number, the training has diverged; lower --model.lr")
    if likeness := [name for name in sorted(summary) if name.startswith("val/ssim_")]:
        levels = ", ".join(f"{summary[name]:.3f}" for name in likeness)
        lines.append(
            f"SSIM of held-out images and their reconstructions, levels 1 to {len(likeness)}: {levels}"
        )
    privacy = guarantee(summary.get("privacy"), "privacy guarantee in the checkpoint")
    if privacy is not None:
        lines.append(privacy_headline(privacy))
    if "val/triggered_area" in summary:
        areas = [summary[f"val/{name}"] for name in ("area", "triggered_area", "triggered_success")]
        lines.append(mask_lost(*areas))
    return lines


def privacy_headline(privacy: DPGuarantee) -> str:
    """Return the privacy spent by a differentially private training, and its unit."""
    spent = "infinite (no noise)" if privacy.epsilon is None else f"{privacy.epsilon:.3g}"
    budget = f" of {privacy.budget:g}" if privacy.budget is not None else ""
    void = "; void against an attacker who knows the seed" if privacy.reproducible else ""
    units = "declared units" if privacy.declared else "units, their number assumed public"
    permitted = f"; permits {permits(privacy.permitted)}" if privacy.permitted is not None else ""
    replaced = f"; epsilon {_short(privacy.replace_one)} if one is replaced" if privacy.replace_one else ""
    return (
        f"privacy spent: epsilon {spent}{budget} at delta {_short(privacy.delta)} per {privacy.unit} "
        f"({privacy.units} {units}, {_mechanism(privacy)}){replaced}{permitted}{void}"
    )


def _mechanism(privacy: DPGuarantee) -> str:
    """Return noise, sampling and steps of a guarantee in words, or its release."""
    if privacy.steps == 0 and privacy.noise is None:
        return "one exact release" if privacy.release is None else f"one release of mu {privacy.release:.3g}"
    release = f" after a release of mu {privacy.release:.3g}" if privacy.release else ""
    return (
        f"noise {_short(privacy.noise)}, clip {_short(privacy.clip)}, sampling rate {_short(privacy.rate)}, "
        f"{privacy.steps} steps{release}, accountant {privacy.accountant}"
    )


def _short(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}"


def guarantee_in_words(privacy: DPGuarantee) -> str:
    """Return a guarantee with its unit, for a table."""
    epsilon = "infinite" if privacy.epsilon is None else f"{privacy.epsilon:.3g}"
    delta = "" if privacy.delta is None else f", delta {privacy.delta:.2g}"
    replaced = "" if privacy.replace_one is None else f", {privacy.replace_one:.3g} if one is replaced"
    permitted = "" if privacy.permitted is None else f", permits {permits(privacy.permitted)}"
    return f"epsilon {epsilon} per {privacy.unit}{delta}{replaced}{permitted}"


def permits(permitted: Permitted) -> str:
    """Return the maximum attack success under a guarantee, rounded up, and its basis."""
    at_10 = _rounded_up(permitted.tpr_at_10)
    return f"{permits_at_1(permitted)} and {at_10} at 10 % ({BOUNDS.get(permitted.by, permitted.by)})"


def permits_at_1(permitted: Permitted) -> str:
    """Return the same for a table's cell, only at the lower false positive rate."""
    auc, at_1 = _rounded_up(permitted.auc), _rounded_up(permitted.tpr_at_1)
    return f"AUC up to {auc}, TPR up to {at_1} at 1 % FPR"


def _rounded_up(value: float) -> str:
    return f"{math.ceil(value * 1000 - 1e-6) / 1000:.3f}"


def certified_headline(bound: EpsilonLowerBound, privacy: DPGuarantee | None) -> str:
    """Return the epsilon proved by an attack, the provable maximum, and the claimed epsilon.

    Args:
        bound: the lower bound; a patient-level bound does not apply to image-level guarantees.
        privacy: guarantee of the victim, if any.
    """
    epsilon, line = bound.epsilon or 0.0, _proof(bound)
    if privacy is None or privacy.epsilon is None:
        return f"{line}; no guarantee"
    if bound.unit is not None and bound.unit != privacy.unit:
        return (
            f"{line} per {bound.unit}; the guarantee is {privacy.epsilon:.3g} per {privacy.unit}, not "
            "comparable"
        )
    broken = "" if epsilon <= privacy.epsilon else f", WHICH IS {_degree(bound)}"
    return f"{line}; the guarantee is {privacy.epsilon:.3g}{broken}"


def _degree(bound: EpsilonLowerBound) -> str:
    """Return what a bound above a guarantee means for it."""
    return "BROKEN" if bound.is_proof else "CONTRADICTED IF SAMPLES ARE INDEPENDENT"


def _proof(bound: EpsilonLowerBound) -> str:
    """Return a bound with its confidence and assumption, and what could have been shown."""
    epsilon = bound.epsilon or 0.0
    verb, assumption = ("proves", "") if bound.is_proof else ("shows", " if samples are independent")
    shown = (
        f"{verb} epsilon >= {epsilon:.2f}{assumption}"
        if epsilon
        else f"{verb} no epsilon, which is no evidence of privacy"
    )
    return (
        f"{shown} ({bound.confidence or 0.0:.0%} confidence; perfect guesses on these samples would give "
        f"{bound.attainable or 0.0:.2f})"
    )


def canary_headline(canaries: CanaryResult) -> str:
    """Return the detection rate of canaries, the bound by a threshold and the largest proved one."""
    bounds = list(canaries.bounds.values())
    strongest = max(bounds[1:], key=lambda bound: bound.epsilon or 0.0)
    limit = None if canaries.privacy is None else canaries.privacy.epsilon
    joint = [bound.jointly(len(bounds)) for bound in bounds]
    most = math.inf if limit is None else limit
    above = [bound for bound in joint if bound is not None and (bound.epsilon or 0.0) > most]
    guarantee = "no guarantee" if limit is None else f"the guarantee is {limit:.3g}"
    if above:
        highest = max(above, key=lambda bound: (bound.is_proof, bound.epsilon or 0.0))
        guarantee += (
            f", WHICH IS {_degree(highest)}: >= {highest.epsilon:.2f}, 95% confidence for {len(bounds)} "
            "bounds together"
        )
    elif limit is not None and None in joint:
        guarantee += (
            f", not compared: bounds at the confidence that {len(bounds)} need are missing, audit again"
        )
    return (
        f"canaries: {canaries.inserted} inserted, {canaries.left_out} left out, AUC {canaries.auc:.3f}, "
        f"{_proof(canaries.certified)}; proved by the coins >= {strongest.epsilon or 0.0:.2f} (of "
        f"{strongest.attainable:.2f}); {guarantee}"
    )


def attack_headline(
    name: str, summary: MembershipSummary | PerturbationSummary | CertificateSummary
) -> list[str]:
    """Return one line on an attack's result and attacker knowledge, then its limitations."""
    if isinstance(summary, CertificateSummary):
        return _certificate(name, summary)
    if isinstance(summary, MembershipSummary):
        return _membership(name, summary)
    lines = [f"{name} (attacker knowledge: {summary.attacker_knowledge}), {perturbation_outcome(summary)}"]
    lines += [f"WARNING: {line}" for line in perturbation_warnings(summary, name)]
    if summary.fitted is not None:
        lines.append(
            f"  fitted to {counted(summary.fitted.images, 'image')} of "
            f"{counted(summary.fitted.units, 'other patient')}"
        )
    lines += [
        f"  on {other.victim}: Dice {other.before or 0.0:.3f} before, {interval(other.measure)} after"
        for other in summary.others
    ]
    if summary.minimal is not None:
        lines.append(f"  {minimal_in_words(summary.minimal)}")
    tables = [success_table(summary.success)] if summary.success else []
    tables += [member_table(summary.members)] if summary.members else []
    tables += [curve_table(summary.curve)] if summary.curve is not None else []
    return [*lines, *(line for table in tables for line in aligned(table, indent="  "))]


def _certificate(name: str, summary: CertificateSummary) -> list[str]:
    lines = [f"{name}, {certificate_outcome(summary)}"]
    lines += [f"WARNING: {line}" for line in certificate_warnings(summary, name)]
    return lines


def minimal_in_words(norms: MinimalNorms) -> str:
    """Return the median of minimal norms with its interval, and how many were found."""
    median, low, high = (
        "infinite" if norm is None else f"{255 * norm:.2f}/255"
        for norm in (norms.quantiles["0.5"], norms.low, norms.high)
    )
    return (
        f"smallest change found for {norms.found} of {norms.images} images, median {median} [{low}, {high}]"
    )


def folds_headline(result: FoldsResult) -> list[str]:
    """Return the audit of a cross-validation in lines."""
    rates = ", ".join(
        f"{interval(rate.tpr)} at {100 * rate.fpr:g} % FPR{' (rough)' if rate.flagged else ''}"
        for rate in result.rates
        if rate.resolvable
    )
    return [
        f"folds (attacker knowledge: {result.attacker_knowledge}), {result.networks} networks, "
        f"{counted(result.patients, 'patient')}: {result.lowest} have the lowest confidence under the "
        "network "
        f"that left them out, {result.chance * result.patients:.1f} expected (p = {result.p_value:.2g}, "
        "exact)",
        f"  a network trained on a patient against the one that was not: AUC {interval(result.auc)}; TPR "
        f"{rates}",
    ]


def recipe_headlines(results: Sequence[RecipeResult]) -> list[str]:
    """Return all attacks on recipes in lines; bounds of one recipe hold together."""
    return [
        line for result in results for line in recipe_headline(result, max(1, bounds_of(results, result.row)))
    ]


def recipe_headline(result: RecipeResult, bounds: int = 1) -> list[str]:
    """Return an attack on a recipe in lines: decisions, patients, and what weakens them.

    Args:
        result: of the attack.
        bounds: number of attacks on the recipe whose bounds on epsilon hold together.
    """
    risk, aucs = result.risk, result.network_aucs
    rates = result.rates
    at_1 = [
        f"{recipe_rate(rate_at(column, 0.01))} {how}"
        for how, column in (
            ("at one threshold", rates.pooled),
            ("at a threshold per patient", rates.calibrated),
            ("at a threshold of other networks", rates.transferred),
        )
    ]
    null = risk.worst_decile_null
    altered = result.altered
    attacker = f"{result.sampling}, " if result.sampling is not None else ""
    return [
        f"recipe, {result.label} ({attacker}attacker knowledge: {result.attacker_knowledge}), each "
        f"of {counted(result.networks, 'network')} in turn the victim, "
        f"{counted(result.patients, 'patient')}: "
        f"AUC {interval(result.auc)}, single networks {min(aucs):.3f} to {max(aucs):.3f}",
        f"  TPR at 1 % FPR {', '.join(at_1)}",
        f"  {risk.significant} of {counted(result.patients, 'patient')} more exposed than by chance, by its "
        f"signals; worst decile AUC {risk.worst_decile:.3f}, without leakage {interval(null)}",
        *([] if altered is None else [altered_headline(altered)]),
        *([] if result.controls is None else [controls_headline(result.controls)]),
        *(
            []
            if result.many_runs is None
            else [f"  {many_runs_headline(result.many_runs, result.privacy, bounds)}"]
        ),
    ]


def many_runs_headline(bound: EpsilonLowerBound, privacy: DPGuarantee | None, bounds: int = 1) -> str:
    """Return the epsilon that many trainings prove for one patient, its ceiling, and the promise.

    The promise is that under replacing one unit. It is called broken by the bound that holds beside those of
    the other `bounds` - 1 attacks.
    """
    epsilon, trainings = bound.epsilon or 0.0, (bound.members or 0) + (bound.nonmembers or 0)
    shown = f"prove epsilon >= {epsilon:.2f}" if epsilon else "prove no epsilon"
    line = (
        f"{trainings} trainings with and without one {bound.unit or 'patient'} {shown} of at most "
        f"{bound.attainable or 0.0:.2f} ({bound.confidence or 0.0:.0%} confidence)"
    )
    promised = None if privacy is None else privacy.replace_one
    if privacy is None or promised is None:
        return f"{line}; no guarantee under replacing one"
    if bound.unit is not None and bound.unit != privacy.unit:
        return f"{line}; the guarantee is per {privacy.unit}, not comparable"
    joint, broken = bound.jointly(bounds), ""
    if joint is not None and (joint.epsilon or 0.0) > promised:
        broken = (
            f", WHICH IS BROKEN: >= {joint.epsilon:.2f} at 95% confidence for {counted(bounds, 'attack')}"
        )
    return f"{line}; the guarantee is {promised:.3g} if one is replaced{broken}"


def controls_headline(controls: RecipeControls) -> str:
    """Return the line on negative controls."""
    named = {
        "memberships exchanged, AUC": controls.permuted,
        "on members alone": controls.members,
        "untrained networks": controls.untrained,
    }
    words = [f"{name} {interval(measure)}" for name, measure in named.items() if measure is not None]
    return f"  negative controls: {', '.join(words)}"


def altered_headline(altered: AlteredSamples) -> str:
    """Return the line on altered samples."""
    return (
        f"  on {altered.samples} altered samples: AUC {interval(altered.auc)}, TPR at 1 % FPR "
        f"{recipe_rate(rate_at(altered.rates, 0.01))}"
    )


def without_gradient(attacker_knowledge: str, stopped: int, images: int) -> str:
    """Return the attacker knowledge, with the number of images without a usable gradient."""
    return (
        f"{attacker_knowledge}, no gradient for {stopped} of {images} images"
        if stopped
        else attacker_knowledge
    )


def _membership(name: str, summary: MembershipSummary) -> list[str]:
    measures = summary.results
    queried = "; negative control, which queries the shadow" if summary.control else ""
    shadows = f"{len(summary.shadows)} shadows, " if len(summary.shadows) > 1 else ""
    attacker = f"; {summary.sampling} attacker" if summary.sampling is not None else ""
    lines = [
        f"{name} (attacker knowledge: {summary.attacker_knowledge}{attacker}{queried}), {shadows}"
        f"{measures.members} "
        f"members, {measures.nonmembers} non-members: AUC {interval(measures.auc)}, {_decided(measures)}, "
        f"TPR {low_fpr(measures)}"
    ]
    lines += [f"WARNING: {line}" for line in membership_warnings(summary, name)]
    for how, bound in summary.bounds.items() if summary.role == "attack" else ():
        lines.append(f"  {certified_headline(bound, summary.privacy)}{how and f' ({how[2:]})'}")
    if summary.same_seed:
        lines.append(f"WARNING: {same_start()}")
    if (groups := summary.groups) is not None:
        lines.append(f"  pooled over {groups.groups} groups: AUC {interval(groups.auc)}")
    if (rates := summary.thresholds) is not None and rates.transferred:
        over = "" if summary.groups is None else ", over groups"
        lines.append(
            f"  {rates.members} members, {rates.nonmembers} non-members{over}; expected: false positives"
        )
        lines += aligned(threshold_table(rates), indent="  ")
    if (seeds := summary.seeds) is not None:
        auc = seeds.auc
        lines.append(f"  {len(auc.values)} seeds: AUC {auc.mean:.3f} +- {auc.std:.3f} each")
    if (last := summary.published_mean_of_last_epochs) is not None:
        lines.append(
            f"  mean over the last {last.epochs} epochs, as published: accuracy {last.accuracy:.3f}, "
            f"F1 {last.f1:.3f}"
        )
    if (fit := summary.regression) is not None:
        held = "" if fit.covers else "WARNING: the threshold does not hold: "
        lines.append(
            f"  {held}FPR {fit.achieved_fpr:.3f} at nominal {fit.nominal_fpr:.3g} on {fit.nonmembers} "
            f"held-out non-members; image and mask explain {fit.explained:.0%} of their variance"
        )
    return lines


def _decided(measures: MembershipMeasures) -> str:
    """Return the balanced accuracy at the threshold, if there is one."""
    if measures.threshold is None:
        return "no threshold"
    return f"balanced accuracy {interval(measures.balanced_accuracy)}"
