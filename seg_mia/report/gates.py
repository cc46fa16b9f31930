"""Conditions under which an audit has failed, for a pipeline that must stop: `mia.auc[distilled] > 0.6`."""

import math
import operator
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from seg_mia.errors import InputError
from seg_mia.report.leak import too_few
from seg_mia.report.verdicts import kept, segments_nothing
from seg_mia.results.audit import Victim
from seg_mia.results.base import Measure, RunKey
from seg_mia.results.bounded_mean import dice_lost
from seg_mia.results.membership import MembershipResult
from seg_mia.results.perturbation import PerturbationResult
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


@dataclass(frozen=True)
class Gate:
    """METRIC OP NUMBER: an audit fails when any value of the metric meets it.

    Attributes:
        text: as it was given.
        metric: a name of `readings`.
        row: the defence that it is restricted to, None for all.
        sign: one of OPERATORS.
        bound: the number.
    """

    text: str
    metric: str
    row: str | None
    sign: str
    bound: float

    def fails(self, value: float) -> bool:
        """Return whether a value meets the condition; what is no number always does."""
        return math.isnan(value) or OPERATORS[self.sign](value, self.bound)


@dataclass(frozen=True)
class Reading:
    """One value of a metric, NaN where it was to be measured and is none, and where it is from.

    Attributes:
        metric: its name.
        value: the number.
        key: of the victim.
        label: of the attack, or what else it is of.
        void: why the number says nothing of what the metric is about, empty where it does.
    """

    metric: str
    value: float
    key: RunKey
    label: str
    void: str = ""


def read_gate(text: str) -> Gate:
    """Return what a condition says; raise InputError for what is none."""
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

    Raises InputError for a gate that no value of this audit belongs to: it could never fail.
    """
    known = list(readings(report))
    return [line for gate in gates for line in _check(gate, known)]


def _check(gate: Gate, known: Sequence[Reading]) -> Iterator[str]:
    named = [one for one in known if one.metric == gate.metric]
    own = [one for one in named if gate.row is None or one.key.defence == gate.row]
    if not own:
        raise InputError(_unknown(gate, named, known))
    for one in own:
        if one.void or gate.fails(one.value):
            value = "not a number" if math.isnan(one.value) else f"{one.value:.6g}"
            value += f", which says nothing: {one.void}" if one.void else ""
            yield (
                f"gate {gate.text}: {gate.metric} is {value} ({one.label} on {one.key.defence}, "
                f"seed {one.key.seed})"
            )


def _unknown(gate: Gate, named: Sequence[Reading], known: Sequence[Reading]) -> str:
    if named:
        rows = ", ".join(sorted({one.key.defence for one in named}))
        return f"gate {gate.text!r} matches nothing: {gate.metric} is known of {rows}; name one of these"
    metrics = ", ".join(sorted({one.metric for one in known}))
    return f"gate {gate.text!r} matches nothing in this audit: metrics here are {metrics or 'none'}"


def readings(report: Report) -> Iterator[Reading]:
    """Yield every value that a gate can ask for, by its metric's name."""
    nothing = [victim.key for victim in report.victims if segments_nothing(victim)]
    blank = dict.fromkeys(nothing, "the victim segments next to nothing")
    split = any(fails(one) for one in report.membership if one.role == "blind")
    told = "the split itself tells members apart" if split else ""
    few = {tested.row for tested in report.leaks if too_few(tested)}
    for guessed in report.membership:
        void = blank.get(guessed.key, told) if guessed.role == "attack" else ""
        if not void and guessed.role == "attack" and guessed.row in few:
            void = "so few samples would not show a leak"
        for reading in _of_guessed(guessed):
            yield replace(reading, void=void or reading.void)
    for fooled in report.perturbations:
        void = blank.get(fooled.key, "") or fooled.untested
        for reading in _of_fooled(fooled):
            yield replace(reading, void=void)
    for victim in report.victims:
        yield from _of_victim(victim)


def _of_guessed(one: MembershipResult) -> Iterator[Reading]:
    measures = {"auc": one.auc, "balanced_accuracy": one.results.balanced_accuracy}
    measures |= {f"tpr_at_fpr_{fpr}": rate for fpr, rate in one.rates.items()}
    if one.pooled is not None:
        measures["groups.auc"] = one.pooled
        measures |= {f"groups.tpr_at_fpr_{fpr}": rate for fpr, rate in one.pooled_rates.items()}
    for prefix in dict.fromkeys((KINDS[one.role], one.name)):
        for name, measure in measures.items():
            void = "" if measure.resolvable else "too few non-members resolve so low a false positive rate"
            for metric, value in _ends(f"{prefix}.{name}", measure):
                yield Reading(metric, _number(value), one.key, one.label, void)
    if one.certified is not None and one.role == "attack":
        yield Reading("epsilon.proved", _number(one.certified.epsilon), one.key, one.label)


def _of_fooled(one: PerturbationResult) -> Iterator[Reading]:
    values = {name: average.mean for name, average in one.results.items()}
    if "dice_adversarial" in one.results:
        lost = dice_lost(one)
        values["dice_lost"] = None if lost is None else lost.value
    rows = kept(one.success)
    if rows:
        values.pop("success", None)
    for prefix in dict.fromkeys((ALL_PERTURBATIONS, one.name)):
        for name, value in values.items():
            yield Reading(f"{prefix}.{name}", _number(value), one.key, one.label)
        for row in rows:
            for metric, end in _ends(f"{prefix}.success", row.measure):
                yield Reading(metric, _number(end), one.key, f"{one.label}, {row.loss}")


def _of_victim(victim: Victim) -> Iterator[Reading]:
    for name, value in victim.utility.get("nonmembers", {}).items():
        yield Reading(f"utility.{name}", _number(value), victim.key, "non-members")
    if victim.utility:
        yield Reading("utility.gap", _number(victim.gap), victim.key, "Dice, members less non-members")
    if victim.privacy is not None:
        epsilon = math.inf if victim.privacy.epsilon is None else victim.privacy.epsilon
        yield Reading("epsilon", epsilon, victim.key, f"promised per {victim.privacy.unit}")
    if (asked := victim.canaries) is not None:
        yield Reading("canaries.auc", _number(asked.auc), victim.key, "canaries")
        for bound, how in ((asked.certified, "by a threshold"), (asked.one_run, "by right guesses")):
            yield Reading("canaries.epsilon", _number(bound.epsilon), victim.key, f"proved {how}")


def _ends(name: str, measure: Measure) -> Iterator[tuple[str, float | None]]:
    yield name, measure.value
    yield f"{name}.low", measure.low
    yield f"{name}.high", measure.high


def _number(value: float | None) -> float:
    return math.nan if value is None else value
