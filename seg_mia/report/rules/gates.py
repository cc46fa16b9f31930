"""Gates: failure conditions of an audit, for automated pipelines: `mia.auc[distilled] > 0.6`."""

import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

from seg_mia.errors import InputError
from seg_mia.report.rules.leak_verdict import too_few
from seg_mia.report.rules.privacy_verdict import bounds_compared, refutations, uncomputed
from seg_mia.report.rules.robustness_verdict import judged_rows
from seg_mia.report.rules.verdicts import networks_segment_nothing, segments_nothing
from seg_mia.results.audit import Victim
from seg_mia.results.base import Measure, RunKey
from seg_mia.results.bounded_mean import dice_lost
from seg_mia.results.certificate import CertificateResult
from seg_mia.results.folds import FoldsResult
from seg_mia.results.many_runs import comparable, contradicted
from seg_mia.results.membership import MembershipResult
from seg_mia.results.perturbation import PerturbationResult
from seg_mia.results.recipe import RecipeResult
from seg_mia.results.report import Report
from seg_mia.results.warnings import fails

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
GRAMMAR = re.compile(
    r"\s*(?P<metric>[^\s<>=\[\]]+)\s*(?:\[(?P<row>.+)\])?\s*(?P<sign>>=|<=|>|<)\s*(?P<bound>[^\s<>=]+)\s*"
)
KINDS = {"attack": "mia", "blind": "blind", "control": "control"}
ALL_PERTURBATIONS = "perturbation"
RECIPE = "recipe"
FOLDS = "folds"
CERTIFICATE = "certificate"


@dataclass(frozen=True)
class Gate:
    """METRIC OP NUMBER: an audit fails if any value of the metric meets it.

    Attributes:
        text: original text.
        metric: a name of `readings`.
        row: the defence to which it is restricted, None for all.
        sign: one of OPERATORS.
        bound: the number.
    """

    text: str
    metric: str
    row: str | None
    sign: str
    bound: float

    def fails(self, value: float) -> bool:
        """Return whether a value meets the condition; NaN always does."""
        return math.isnan(value) or OPERATORS[self.sign](value, self.bound)


class RecipeKey(NamedTuple):
    """A recipe or a cross-validation, judged by all of its networks."""

    defence: str
    networks: int


@dataclass(frozen=True)
class Reading:
    """One value of a metric with its origin; NaN if measured without a result.

    Attributes:
        metric: its name.
        value: the number.
        key: key of the victim or the recipe.
        label: label of the attack, or of another source.
        void: reason why the number is invalid for the metric, empty if it is valid.
    """

    metric: str
    value: float
    key: RunKey | RecipeKey
    label: str
    void: str = ""


def read_gate(text: str) -> Gate:
    """Parse a condition; raise InputError for invalid text."""
    match = GRAMMAR.fullmatch(text)
    if match is None:
        raise InputError(
            f"a gate is METRIC OP NUMBER, OP one of {' '.join(OPERATORS)}, got {text!r}; for example "
            "'mia.auc>0.6' or 'mia.auc[distilled]>0.6'"
        )
    try:
        bound = float(match["bound"])
    except ValueError:
        bound = math.nan
    if not math.isfinite(bound):
        raise InputError(f"a gate compares with a finite number, got {match['bound']!r} in {text!r}")
    row = match["row"]
    return Gate(text.strip(), match["metric"], row.strip() if row else None, match["sign"], bound)


def check(gates: Sequence[Gate], report: Report) -> list[str]:
    """Return one line per value that fails a gate.

    Raises InputError for a gate without values in this audit: it could never fail.
    """
    known = list(readings(report))
    return [line for gate in gates for line in _check(gate, known)]


def _check(gate: Gate, known: Sequence[Reading]) -> Iterator[str]:
    named = [reading for reading in known if reading.metric == gate.metric]
    matching = [reading for reading in named if gate.row is None or reading.key.defence == gate.row]
    if not matching:
        raise InputError(_unknown(gate, named, known))
    for reading in matching:
        if reading.void or gate.fails(reading.value):
            value = "not a number" if math.isnan(reading.value) else f"{reading.value:.6g}"
            value += f", which is invalid: {reading.void}" if reading.void else ""
            yield (
                f"gate {gate.text}: {gate.metric} is {value} ({reading.label} on {reading.key.defence}, "
                f"{_origin(reading.key)})"
            )


def _origin(key: RunKey | RecipeKey) -> str:
    return f"seed {key.seed}" if isinstance(key, RunKey) else f"all {key.networks} networks"


def _unknown(gate: Gate, named: Sequence[Reading], known: Sequence[Reading]) -> str:
    if named:
        rows = ", ".join(sorted({reading.key.defence for reading in named}))
        return f"gate {gate.text!r} matches nothing: {gate.metric} was measured on {rows}; name one of these"
    metrics = ", ".join(sorted({reading.metric for reading in known}))
    return f"gate {gate.text!r} matches nothing in this audit: metrics here are {metrics or 'none'}"


def readings(report: Report) -> Iterator[Reading]:
    """Yield every value available to gates, by its metric's name."""
    nothing = [victim.key for victim in report.victims if segments_nothing(victim)]
    blank = dict.fromkeys(nothing, "the victim hardly segments")
    split = any(fails(result) for result in report.membership if result.role == "blind")
    reason = "the split itself separates members from non-members" if split else ""
    few = {leak_test.row for leak_test in report.leaks if too_few(leak_test)}
    for attack in report.membership:
        void = blank.get(attack.key, reason) if attack.role == "attack" else ""
        if not void and attack.role == "attack" and attack.row in few:
            void = "the samples are too few to show a leak"
        for reading in _membership_readings(attack):
            yield replace(reading, void=void or reading.void)
    for perturbation in report.perturbations:
        void = blank.get(perturbation.key, "") or perturbation.untested
        for reading in _perturbation_readings(perturbation):
            yield replace(reading, void=void)
    yield from _certificate_readings(report.certificates, blank)
    for recipe in report.recipes:
        yield from _recipe_readings(recipe)
    yield from _folds_readings(report.folds)
    for victim in report.victims:
        yield from _victim_readings(victim)
    yield from _refutation_readings(report)


def _membership_readings(result: MembershipResult) -> Iterator[Reading]:
    measures = {"auc": result.auc}
    if result.results.threshold is not None:
        measures["balanced_accuracy"] = result.results.balanced_accuracy
    measures |= {f"tpr_at_fpr_{fpr}": rate for fpr, rate in result.rates.items()}
    if result.pooled is not None:
        measures["groups.auc"] = result.pooled
        measures |= {f"groups.tpr_at_fpr_{fpr}": rate for fpr, rate in result.pooled_rates.items()}
    for prefix in dict.fromkeys((KINDS[result.role], result.name)):
        for name, measure in measures.items():
            void = (
                "" if measure.resolvable else "the non-members are too few for so low a false positive rate"
            )
            for metric, value in _ends(f"{prefix}.{name}", measure):
                yield Reading(metric, _number(value), result.key, result.label, void)
    for name, bound in result.bounds.items() if result.role == "attack" else ():
        yield Reading("epsilon.proved", _number(bound.epsilon), result.key, f"{result.label}{name}")


def _folds_readings(results: Sequence[FoldsResult]) -> Iterator[Reading]:
    for result in results:
        key = RecipeKey(result.defence, result.networks)
        for metric, value in _ends(f"{FOLDS}.auc", result.auc):
            yield Reading(metric, _number(value), key, FOLDS)
        yield Reading(f"{FOLDS}.p_value", result.p_value, key, FOLDS)


def _recipe_readings(result: RecipeResult) -> Iterator[Reading]:
    rates = result.rates
    measures = {"auc": result.auc}
    for origin, column in (
        ("", rates.pooled),
        ("calibrated.", rates.calibrated),
        ("transferred.", rates.transferred),
    ):
        measures |= {f"{origin}tpr_at_fpr_{rate.fpr:g}": rate.tpr for rate in column}
    blank = "the networks hardly segment" if networks_segment_nothing(result) else ""
    key = RecipeKey(result.defence, result.networks)
    for prefix in (RECIPE, f"{RECIPE}.{result.name}"):
        for name, measure in measures.items():
            void = "" if measure.resolvable else "the decisions are too few for so low a false positive rate"
            for metric, value in _ends(f"{prefix}.{name}", measure):
                yield Reading(metric, _number(value), key, result.label, blank or void)
        yield Reading(f"{prefix}.patients", float(result.risk.significant), key, result.label, blank)


def _perturbation_readings(result: PerturbationResult) -> Iterator[Reading]:
    values = {name: average.mean for name, average in result.results.items()}
    if "dice_adversarial" in result.results:
        lost = dice_lost(result)
        values["dice_lost"] = None if lost is None else lost.value
    rows = judged_rows(result.success)
    if rows:  # a rate over the images that count replaces the mean over all
        values.pop("success", None)
    for prefix in dict.fromkeys((ALL_PERTURBATIONS, result.name)):
        for name, value in values.items():
            yield Reading(f"{prefix}.{name}", _number(value), result.key, result.label)
        for row in rows:
            for metric, end in _ends(f"{prefix}.success", row.measure):
                yield Reading(metric, _number(end), result.key, f"{result.label}, {row.loss}")


def _certificate_readings(
    results: Sequence[CertificateResult], blank: Mapping[RunKey, str]
) -> Iterator[Reading]:
    for result in results:
        void = blank.get(result.key, "")
        for prefix, name in product(dict.fromkeys((CERTIFICATE, result.name)), result.results):
            for metric, value in _ends(f"{prefix}.{name}", result.measure(name)):
                yield Reading(metric, _number(value), result.key, result.label, void)


def _victim_readings(victim: Victim) -> Iterator[Reading]:
    for name, value in victim.utility.get("nonmembers", {}).items():
        yield Reading(f"utility.{name}", _number(value), victim.key, "non-members")
    if victim.utility:
        yield Reading("utility.gap", _number(victim.gap), victim.key, "Dice of members minus non-members")
    if victim.privacy is not None:
        epsilon = math.inf if victim.privacy.epsilon is None else victim.privacy.epsilon
        yield Reading("epsilon", epsilon, victim.key, f"guaranteed per {victim.privacy.unit}")
    if (canaries := victim.canaries) is not None:
        yield Reading("canaries.auc", _number(canaries.auc), victim.key, "canaries")
        for how, bound in canaries.bounds.items():
            yield Reading("canaries.epsilon", _number(bound.epsilon), victim.key, how)


def _refutation_readings(report: Report) -> Iterator[Reading]:
    """Yield how many bounds exceed each guarantee, at a confidence that holds for all of the row together.

    Bounds by the trainings of a victim's recipe, which hold together by themselves, count for each victim.
    """
    attacks = [result for result in report.membership if result.role == "attack"]
    proofs = refutations(report.victims, attacks)
    for victim in report.victims:
        row = [other for other in report.victims if other.row == victim.row]
        compared = bounds_compared(row, attacks)
        count = sum(bound[0].key == victim.key for bound in compared)
        trained = [result for result in report.recipes if result.row == victim.row]
        by_trainings = sum(comparable(result.many_runs, result.privacy) for result in trained)
        if count or by_trainings:
            value = float(len(proofs.get(victim.key, [])) + len(contradicted(trained)))
            label = f"{count} bounds, {len(compared)} together"
            label += f", {by_trainings} by many trainings" if by_trainings else ""
            yield Reading("epsilon.refutations", value, victim.key, label, uncomputed(compared))


def _ends(name: str, measure: Measure) -> Iterator[tuple[str, float | None]]:
    yield name, measure.value
    yield f"{name}.low", measure.low
    yield f"{name}.high", measure.high


def _number(value: float | None) -> float:
    return math.nan if value is None else value
