"""Statements of a report: the answer to each question, by written rules on interval, controls and power.

An answer is evidence of leakage or vulnerability, resistance to the attacks in scope, or neither. Resistance
needs three things: no attack found anything, the samples would have shown a relevant effect, and every
interval excludes one. For the last no correction for many attacks is needed, since all intervals must exclude
it (intersection-union test, Berger 1982, "Multiparameter hypothesis testing and acceptance sampling").
Evidence of leakage rests on the joint test, which is corrected for the choice of the strongest attack.
"""

from collections.abc import Sequence
from typing import NamedTuple

from seg_mia.report.rules.leak_verdict import (
    LOW_FPR,
    MEASURES,
    failed_control,
    measure_of,
    order,
    strength,
)
from seg_mia.report.rules.levels import strongest_of
from seg_mia.report.rules.statement_rules import RELEVANT_AUC, RELEVANT_TPR, ROUGH
from seg_mia.results.base import Measure
from seg_mia.results.evidence import Answer, Question, Statement
from seg_mia.results.leaks import LeakNumber, LeakResult
from seg_mia.results.membership import MembershipResult
from seg_mia.results.tables import interval

WORDS: dict[Answer, str] = {
    "evidence": "Evidence of leakage",
    "resistance": "Evidence of resistance to the attacks in scope",
    "unresolvable": "Not resolvable",
    "void": "Void",
    "absent": "Not run: no evidence",
}


class Row(NamedTuple):
    """One row of the comparison, as the statements see it.

    Attributes:
        row: its number.
        defence: its name in tables.
        void: why membership numbers are meaningless; empty if they are not.
    """

    row: int
    defence: str
    void: str


def statement(
    row: Row,
    question: Question,
    rule: str,
    answer: Answer,
    why: str,
    *,
    measured: tuple[str, Measure | None] = ("", None),
    word: str = "",
) -> Statement:
    """Return a statement with the answer's usual words, unless others are given."""
    return Statement(
        row=row.row,
        defence=row.defence,
        question=question,
        answer=answer,
        word=word or WORDS[answer],
        rule=rule,
        measures=measured[0],
        measure=measured[1],
        why=why.strip(),
    )


def average(
    row: Row,
    attacks: Sequence[MembershipResult],
    tested: LeakResult | None,
    controls: Sequence[MembershipResult],
) -> Statement:
    """Answer whether members are told from others on average, by the AUC.

    Args:
        row: the row.
        attacks: attacks on its victims, over all seeds.
        tested: the joint test of their numbers, None if no attack queried these victims.
        controls: negative controls, of any row.
    """
    kinds = ("auc", "groups.auc")
    if tested is None or not _of(tested, kinds):
        return _absent(row, "average", "A0", "AUC")
    measure_name, top = _highest(attacks, tested)
    number = _strongest(tested, kinds)
    if row.void:
        return statement(row, "average", "A1", "void", row.void, measured=(measure_name, top))
    if strength(number, tested):
        return _claimed(row, "average", ("A2", "A3"), kinds, (attacks, tested, controls))
    why = (
        f"{strongest_of(len(_attacks(tested))).capitalize()}: {number.label}, {_p_in_words(number, tested)}. "
    )
    why += _power(tested)
    if tested.detectable is None or tested.detectable > RELEVANT_AUC:
        return statement(row, "average", "A4", "unresolvable", why, measured=(measure_name, top))
    if top.high is None or top.high >= RELEVANT_AUC:
        why += f" The interval {interval(top)} does not exclude {RELEVANT_AUC}."
        return statement(row, "average", "A5", "unresolvable", why, measured=(measure_name, top))
    why += f" All intervals end below {RELEVANT_AUC}; the highest is {interval(top)}."
    return statement(row, "average", "A6", "resistance", why, measured=(measure_name, top))


def individuals(
    row: Row,
    attacks: Sequence[MembershipResult],
    tested: LeakResult | None,
    controls: Sequence[MembershipResult],
) -> Statement:
    """Answer whether some members are identified with near certainty, by the rate at 1 % false positives.

    Args:
        row: the row.
        attacks: attacks on its victims, over all seeds.
        tested: the joint test of their numbers, None if no attack queried these victims.
        controls: negative controls, of any row.
    """
    kinds = ("tpr_at_fpr_0.01", "groups.tpr_at_fpr_0.01")
    if tested is None or not tested.tested:
        return _absent(row, "individuals", "I0", "TPR at 1 % FPR")
    top = _highest_rate(attacks, tested)
    measured = (f"TPR at 1 % FPR{_over(tested)}", top if top.resolvable else None)
    if row.void:
        return statement(row, "individuals", "I1", "void", row.void, measured=measured)
    if any(strength(number, tested) for number in _of(tested, kinds)):
        return _claimed(row, "individuals", ("I2", "I6"), kinds, (attacks, tested, controls))
    expected = tested.nonmembers * float(LOW_FPR)
    if expected < ROUGH:
        unit = "patients" if tested.grouped else "images"
        why = (
            f"{tested.nonmembers} non-members ({unit}) give {expected:.2g} expected false positives at 1 %; "
            f"{ROUGH} are needed. A leak of few patients may be missed."
        )
        return statement(row, "individuals", "I3", "unresolvable", why, measured=measured)
    if top.high is None or top.high >= RELEVANT_TPR:
        why = f"The interval {interval(top)} does not exclude {RELEVANT_TPR}."
        return statement(row, "individuals", "I4", "unresolvable", why, measured=measured)
    why = f"{expected:.3g} false positives are expected. All intervals end below {RELEVANT_TPR}."
    return statement(row, "individuals", "I5", "resistance", why, measured=measured)


Tested = tuple[Sequence[MembershipResult], LeakResult, Sequence[MembershipResult]]
"""Attacks on a row, their joint test, and the negative controls."""


def _claimed(
    row: Row, question: Question, rules: tuple[str, str], kinds: Sequence[str], tested: Tested
) -> Statement:
    """Return the statement on the strongest claimed number that its negative control leaves standing."""
    claimed = [number for number in _of(tested[1], kinds) if strength(number, tested[1])]
    ordered = sorted(claimed, key=lambda number: order(number, tested[1]), reverse=True)
    answers = [_claim(row, question, rules, number, tested) for number in ordered]
    return next((answer for answer in answers if answer.answer == "evidence"), answers[0])


def _claim(
    row: Row, question: Question, rules: tuple[str, str], number: LeakNumber, tested: Tested
) -> Statement:
    """Return the statement on one claimed number, and what its negative control makes of it."""
    attacks, joint, controls = tested
    made = next(
        (attack for attack in attacks if (attack.label, attack.seed) == (number.label, number.seed)), None
    )
    measure = Measure(number.value) if made is None else measure_of(made, number)
    measured = (MEASURES[number.kind], measure)
    degree = "a strong leak" if strength(number, joint) == 2 else "at least a weak leak"
    bound = (
        f"at least {number.low:.3f}" if number.high is None else f"in [{number.low:.3f}, {number.high:.3f}]"
    )
    why = (
        f"{number.label}, {strongest_of(len(_attacks(joint)))}: {_p_in_words(number, joint)}. Corrected for "
        f"the choice, it is {bound}: {degree}."
    )
    control = None if made is None else failed_control(made, number, controls)
    if control is None:
        return statement(row, question, rules[0], "evidence", why, measured=measured)
    if not number.kind.endswith("auc"):
        why += f" Its negative control is above chance, too: AUC {interval(control)}."
        return statement(row, question, rules[1], "unresolvable", why, measured=measured)
    if measure.low is not None and measure.low > (control.high or 0.0):
        why += f" Its negative control reaches {interval(control)}, which is above chance, too."
        return statement(row, question, rules[0], "evidence", why, measured=measured)
    why += f" It does not exceed its negative control, {interval(control)}."
    return statement(row, question, rules[1], "unresolvable", why, measured=measured)


def _absent(row: Row, question: Question, rule: str, measures: str) -> Statement:
    why = "No membership attack was run on this victim."
    return statement(row, question, rule, "absent", why, measured=(measures, None))


def _of(tested: LeakResult, kinds: Sequence[str]) -> list[LeakNumber]:
    return [number for number in tested.tested if number.kind in kinds]


def _strongest(tested: LeakResult, kinds: Sequence[str]) -> LeakNumber:
    return max(_of(tested, kinds), key=lambda number: order(number, tested))


def _attacks(tested: LeakResult) -> set[tuple[str, int]]:
    return {(number.label, number.seed) for number in tested.tested}


def _over(tested: LeakResult) -> str:
    return " over patients" if tested.grouped else ""


def unit_auc(result: MembershipResult) -> Measure:
    """Return an attack's AUC over patients, or over images if each is its own patient."""
    return result.pooled or result.auc


def unit_rate(result: MembershipResult, fpr: str = LOW_FPR) -> Measure:
    """Return an attack's true positive rate over patients, or over images if each is its own patient."""
    rates = result.pooled_rates if result.groups is not None else result.rates
    return rates.get(fpr) or Measure(None, resolvable=False)


def _highest(attacks: Sequence[MembershipResult], tested: LeakResult) -> tuple[str, Measure]:
    """Return the AUC whose interval ends highest; one without an interval is the highest of all."""
    aucs = [unit_auc(attack) for attack in attacks if (attack.label, attack.seed) in _attacks(tested)]
    top = max(aucs, key=_end, default=Measure(None))
    return f"AUC{_over(tested)}", top


def _highest_rate(attacks: Sequence[MembershipResult], tested: LeakResult) -> Measure:
    rates = [unit_rate(attack) for attack in attacks if (attack.label, attack.seed) in _attacks(tested)]
    return max(rates, key=_end, default=Measure(None, resolvable=False))


def _end(measure: Measure) -> float:
    return float("inf") if measure.high is None else measure.high


def _p_in_words(number: LeakNumber, tested: LeakResult) -> str:
    p_value = "p < 0.001" if number.adjusted < 0.001 else f"p = {number.adjusted:.3f}"
    return f"{p_value} as the best of {len(tested.tested)} numbers"


def _power(tested: LeakResult) -> str:
    """Return the power of the joint test in words."""
    samples = f"{tested.members} members and {tested.nonmembers} non-members"
    unit = "patients" if tested.grouped else "images"
    if tested.detectable is None:
        return f"With {samples} ({unit}) not even perfect scores would be found reliably."
    return f"With {samples} ({unit}) an AUC of {tested.detectable:.2f} would be found with a chance of 80 %."
