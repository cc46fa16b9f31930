"""Groups 3, 4 and 6 of the evidence: the attacks, what they need, what they found."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath

from seg_mia.config.spec import class_paths, resolve
from seg_mia.errors import InputError
from seg_mia.models.prompts import prompt_rule
from seg_mia.report.rules.statements import unit_auc, unit_rate
from seg_mia.results.audit import AuditResult, Stage
from seg_mia.results.base import Measure, Number
from seg_mia.results.evidence import Coverage, PatientsAtRisk, RateAt, ThreatModel, UnitResult
from seg_mia.results.leaks import LeakResult
from seg_mia.results.membership import FPRS, RATES, MembershipResult
from seg_mia.results.perturbation import PerturbationResult
from seg_mia.results.rates import rate_at
from seg_mia.results.recipe import RecipeResult

PRIORS = (0.01, 0.1, 0.5)
"""Shares of members among the samples in question."""
POISONING = ("seg_mia.attacks.trigger.Trigger",)
"""Perturbations that need a poisoned training."""
UNTESTED = {
    "attribute inference": "whether outputs disclose other traits of a training patient",
    "extraction": "whether training images can be extracted from the weights",
    "regurgitation": "whether outputs repeat training data; a segmentation network gives out masks and "
    "scores alone",
    "inversion": "whether an image can be computed from the network's outputs or weights",
    "reconstruction": "whether a training image can be rebuilt from gradients or weights",
}
"""Kinds of attack that this tool has no method for, and the question that stays open."""
OF_RECIPE = ", recipe"
"""End of the name of a method that was run on a recipe rather than one network."""
NOT_RUN = "Not run: no evidence"


def coverage(audit: AuditResult) -> list[Coverage]:
    """Return the kinds of attack that were run, and those that were not."""
    membership = [result.label for result in audit.membership if result.role == "attack"]
    membership += [f"{result.label}{OF_RECIPE}" for result in audit.recipes]
    poisoned = [result.label for result in audit.perturbations if poisons(result)]
    evading = [result.label for result in audit.perturbations if not poisons(result)]
    rows = [_covered("membership inference", membership, "whether a patient was in the training")]
    rows += [
        Coverage(kind=kind, tested=False, methods=[], note=f"{NOT_RUN} of {question}.")
        for kind, question in UNTESTED.items()
    ]
    rows.append(_covered("poisoning", poisoned, "whether training data can plant a trigger"))
    rows.append(_covered("evasion", evading, "whether changed images fool the network"))
    return rows


def _covered(kind: str, methods: Sequence[str], question: str) -> Coverage:
    labels = list(dict.fromkeys(methods))
    note = f"Tested: {question}." if labels else f"{NOT_RUN} of {question}."
    return Coverage(kind=kind, tested=bool(labels), methods=labels, note=note)


def poisons(result: PerturbationResult) -> bool:
    """Return whether a perturbation needs a poisoned training."""
    return result.attack.get("class_path") in POISONING


def threats(audit: AuditResult) -> list[ThreatModel]:
    """Return what each attack needs and costs, once for all seeds of a row; baselines are left out."""
    attacks: dict[tuple[int, str], list[MembershipResult | PerturbationResult]] = {}
    for result in audit.attacks:
        if isinstance(result, PerturbationResult) or result.role == "attack":
            attacks.setdefault((result.row, result.label), []).append(result)
    return [_threat(results, audit) for results in attacks.values()]


def _threat(results: Sequence[MembershipResult | PerturbationResult], audit: AuditResult) -> ThreatModel:
    first = results[0]
    folders = {result.folder for result in results}
    shadows = first.shadows if isinstance(first, MembershipResult) else []
    return ThreatModel(
        row=first.row,
        defence=first.defence,
        attack=first.label,
        access=first.attacker_knowledge,
        knowledge=_knowledge(first) + _prompt(first, audit),
        shadows=len(shadows),
        queries=_queries(first),
        hours=_hours(stage for stage in audit.stages if stage.folder in folders),
        training_hours=_hours(stage for stage in audit.stages if _holds(stage, shadows, audit)),
        device=str(audit.tool.get("device", "")),
    )


def _holds(stage: Stage, checkpoints: Sequence[str], audit: AuditResult) -> bool:
    """Return whether a stage trained one of the checkpoints; its folder is below the folder of runs."""
    if stage.kind not in {"shadow", "network"}:
        return False
    folder = PurePath(str(audit.settings.get("runs", "")), stage.folder)
    return any(PurePath(path).is_relative_to(folder) for path in checkpoints)


def _hours(stages: Iterator[Stage]) -> Number:
    seconds = [stage.seconds for stage in stages if stage.seconds is not None]
    return sum(seconds) / 3600 if seconds else None


def _knowledge(result: MembershipResult | PerturbationResult) -> str:
    if isinstance(result, PerturbationResult):
        return "target mask" if result.is_targeted else "true mask"
    count = len(result.shadows)
    networks = (
        f"{count} own network{'' if count == 1 else 's'} on data of the same kind"
        if count
        else "no own network"
    )
    return f"the exact image; {networks}"


def _prompt(result: MembershipResult | PerturbationResult, audit: AuditResult) -> str:
    """Return the prompt that a promptable victim is given, as a clause; empty for another."""
    victim = next((victim for victim in audit.defences if victim.key == result.key), None)
    prompt = None if victim is None else prompt_rule(victim.about.get("network"))
    return f"; the prompt: {prompt}" if prompt else ""


def _queries(result: MembershipResult | PerturbationResult) -> Number:
    """Return the queries for one patient: those counted, else one for each record, or a perturbation's steps.

    A perturbation from a surrogate asks a victim behind a service only about its results. None for mirror
    images that were not counted: their number depends on the victim's augmentation.
    """
    if isinstance(result, MembershipResult):
        measures = result.results
        units = measures.groups if result.groups is None else result.groups.groups
        if not units or (not result.victim_queries and _mirrors(result.attack)):
            return None
        return (result.victim_queries or measures.members + measures.nonmembers) / units
    arguments = result.attack.get("init_args")
    effort = arguments if isinstance(arguments, Mapping) else {}
    steps = result.mean("queries") or effort.get("queries", effort.get("steps"))
    if result.victim_queries is not None and "queries" not in result.results:
        return result.victim_queries / result.units if result.units else None
    if not isinstance(steps, int | float) or not result.units:
        return None
    return steps * result.images / result.units


def _mirrors(attack: object) -> bool:
    """Return whether a signal of an attack is also taken from mirror images."""
    own = [path for path in class_paths(attack) if path.startswith("seg_mia.membership.")]
    try:
        return any(getattr(resolve(path), "mirrors", False) for path in own)
    except InputError:  # an audit of another version, whose class is gone
        return False


def unit_results(membership: Sequence[MembershipResult], leaks: Sequence[LeakResult]) -> list[UnitResult]:
    """Return each attack's result by patient where there are patients."""
    return [
        UnitResult(
            row=result.row,
            defence=result.defence,
            attack=result.label,
            seed=result.seed,
            auc=unit_auc(result),
            simultaneous=_simultaneous(result, leaks),
            rates=[_rate(result, fpr) for fpr in FPRS],
        )
        for result in membership
        if result.role == "attack"
    ]


def _simultaneous(result: MembershipResult, leaks: Sequence[LeakResult]) -> Measure | None:
    kind = "auc" if result.groups is None else "groups.auc"
    for tested in leaks:
        for number in tested.tested:
            same = (number.label, number.seed, number.kind) == (result.label, result.seed, kind)
            if tested.row == result.row and same:
                return Measure(number.value, number.low, number.high)
    return None


def _rate(result: MembershipResult, fpr: float) -> RateAt:
    name = next(text for text in RATES if float(text) == fpr)
    nonmembers = (result.groups or result.results).nonmembers
    measure = unit_rate(result, name)
    tpr = measure.value if measure.resolvable else None
    if tpr is not None and result.thresholds is not None:
        reached = rate_at(result.thresholds.pooled, fpr)
        if reached is not None:  # else a file of an earlier version, and the nominal rate
            return RateAt(fpr=fpr, tpr=measure, expected=nonmembers * fpr, ppv=reached.ppv)
    return RateAt(
        fpr=fpr,
        tpr=measure,
        expected=nonmembers * fpr,
        ppv={f"{prior:g}": None if tpr is None else right_accusations(tpr, fpr, prior) for prior in PRIORS},
    )


def right_accusations(tpr: float, fpr: float, prior: float) -> float:
    """Return the share of members among those called members, pi TPR / (pi TPR + (1 - pi) FPR)."""
    right = prior * tpr
    return right / (right + (1 - prior) * fpr)


def patients_at_risk(recipes: Sequence[RecipeResult]) -> list[PatientsAtRisk]:
    """Return the risk of single patients, of each attack on a recipe."""
    return [
        PatientsAtRisk(
            row=result.row,
            defence=result.defence,
            attack=result.label,
            patients=result.patients,
            exposed=result.risk.significant,
            worst_decile=result.risk.worst_decile,
            worst_decile_null=result.risk.worst_decile_null,
        )
        for result in recipes
    ]
