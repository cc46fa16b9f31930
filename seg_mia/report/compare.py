"""`python -m seg_mia compare REPORT REPORT`: what became better or worse from one report to the next."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from seg_mia.errors import InputError
from seg_mia.membership.compare import Scored, read_scores
from seg_mia.membership.intervals import Interval, auc_bounds, paired_difference
from seg_mia.membership.roc import auc
from seg_mia.report.evidence.utility import OF_LABEL, Dice, dice_of, difference, groups_of
from seg_mia.report.load import StoredAudit, read_audit
from seg_mia.report.read import read_report, report_folder
from seg_mia.report.sums import NUMBERS
from seg_mia.results.audit import Victim
from seg_mia.results.base import Measure
from seg_mia.results.evidence import SHORT, Statement
from seg_mia.results.membership import MembershipResult
from seg_mia.results.report import Report
from seg_mia.results.tables import aligned, interval

Direction = Literal["better", "worse", "not resolvable"]
ERROR = 0.05
"""Probability that any difference without a cause is called better or worse."""
USAGE = """\
usage: python -m seg_mia compare FIRST SECOND

FIRST and SECOND are folders of one membership attack, such as RUN/mia-type2/version_0: print the first AUC
minus the second, with a 95 % interval of the paired difference.

Or they are two reports (report.json or an audit's folder), such as before and after a defence, or of two
releases: print what became better or worse in the second, for the first victim of each. Differences are
paired where the samples are the same; their intervals hold for all of them at once, at 95 %.
"""


class Side(NamedTuple):
    """One of the reports, with the audit that it is of."""

    report: Report
    stored: StoredAudit


@dataclass(frozen=True)
class Change:
    """A measured difference, second minus first.

    Attributes:
        subject: what is compared.
        first: in the first report.
        second: in the second.
        difference: with an interval that holds for all differences at once; None without the values.
        paired: whether the samples are the same, of a label whether there are any common ones.
        direction: what it means.
        images: number of common samples, of a label's Dice.
    """

    subject: str
    first: Measure
    second: Measure
    difference: Measure | None
    paired: bool
    direction: Direction
    images: int | None = None

    @property
    def samples(self) -> str:
        """Whether the samples are the same, and how many."""
        number = "" if self.images is None else f", {self.images} images"
        return f"paired{number}" if self.paired else "not paired"


@dataclass(frozen=True)
class Comparison:
    """All changes from one report to the next.

    Attributes:
        changes: measured differences.
        statements: a line for each question.
        notes: a line for each thing that only one report has, or that differs between them.
    """

    changes: list[Change]
    statements: list[str]
    notes: list[str]

    def lines(self) -> list[str]:
        """Return the lines to print."""
        table = [["", "first", "second", "difference", "samples", "second is"]]
        table += [
            [
                change.subject,
                interval(change.first),
                interval(change.second),
                "none" if change.difference is None else interval(change.difference),
                change.samples,
                change.direction,
            ]
            for change in self.changes
        ]
        measured = aligned(table) if self.changes else ["no measure is in both reports"]
        return [*measured, "", *self.statements, *self.notes]


def are_reports(words: Sequence[str]) -> bool:
    """Return whether both words name reports; raise InputError if only one does."""
    named = [_is_report(Path(word)) for word in words]
    if any(named) and not all(named):
        folder = words[named.index(False)]
        raise InputError(
            f"compare takes two reports or two folders of one attack, and {folder} holds no report"
        )
    return all(named)


def _is_report(path: Path) -> bool:
    versions = path.glob(f"version_*/{NUMBERS}") if path.is_dir() else iter(())
    return path.name == NUMBERS or (path / NUMBERS).is_file() or any(versions)


def compare_reports(first: str | Path, second: str | Path) -> Comparison:
    """Compare the first victims of two reports, seed by seed alike: the first seed of each.

    Raises:
        InputError: no report, or one of another layout.
    """
    before, after = (_side(Path(named)) for named in (first, second))
    pairs = _pairs(before.report, after.report)
    has_dice = all(_victim(side.report) is not None for side in (before, after))
    labels = [label for label in _label_dice(before) if label in _label_dice(after)] if has_dice else []
    scores = {label: _both_scores((before, after), results) for label, results in pairs.items()}
    tables = {label: _dice_tables(before, after, label) for label in [*([None] if has_dice else []), *labels]}
    resolved = sum(both is not None for both in scores.values())
    resolved += sum(_are_paired(both, label) for label, both in tables.items())
    tail = ERROR / 2 / max(1, resolved)
    changes = [_auc_change(label, results, scores[label], tail) for label, results in pairs.items()]
    changes += [_dice_change((before, after), both, tail, label) for label, both in tables.items()]
    return Comparison(
        changes, list(_statements(before.report, after.report)), list(_notes(before.report, after.report))
    )


def _side(named: Path) -> Side:
    folder = report_folder(named)
    return Side(read_report(folder), read_audit(folder))


def _victim(report: Report) -> Victim | None:
    return min(report.victims, key=lambda victim: victim.order, default=None)


def _attacks(report: Report) -> dict[str, MembershipResult]:
    """Return the attacks on the first victim by label."""
    return {
        result.label: result
        for result in report.membership
        if (result.row, result.round, result.role) == (0, 0, "attack")
    }


def _pairs(first: Report, second: Report) -> dict[str, tuple[MembershipResult, MembershipResult]]:
    second_attacks = _attacks(second)
    return {
        label: (result, second_attacks[label])
        for label, result in _attacks(first).items()
        if label in second_attacks
    }


def _both_scores(
    sides: tuple[Side, Side], results: tuple[MembershipResult, MembershipResult]
) -> tuple[Scored, Scored] | None:
    """Return an attack's scores in both reports, None if any are gone."""
    before, after = (_scores(side, result) for side, result in zip(sides, results, strict=True))
    return None if before is None or after is None else (before, after)


def _auc_change(
    label: str,
    results: tuple[MembershipResult, MembershipResult],
    scores: tuple[Scored, Scored] | None,
    tail: float,
) -> Change:
    """Return the change of an attack's AUC over patients; a lower one is better."""
    values = [result.pooled or result.auc for result in results]
    subject = f"AUC, {label}"
    if scores is None:
        return Change(subject, values[0], values[1], None, paired=False, direction="not resolvable")
    before, after = scores
    paired = all(np.array_equal(a, b) for a, b in zip(before[:3], after[:3], strict=True))
    if paired:
        change = paired_difference(
            after.scores, before.scores, before.members, before.groups, level=1 - 2 * tail
        )
    else:
        change = unpaired_difference(after, before, tail)
    measure = Measure(change.value, change.low, change.high)
    return Change(subject, values[0], values[1], measure, paired, _direction(measure, lower_is_better=True))


def _scores(side: Side, result: MembershipResult) -> Scored | None:
    """Return an attack's scores, None if they are gone or damaged."""
    folder = side.stored.locate(result.folder)
    try:
        return None if folder is None else read_scores(folder)
    except (InputError, OSError):
        return None


def unpaired_difference(first: Scored, second: Scored, tail: float) -> Interval:
    """Return AUC(first) - AUC(second) of independent samples, each bound one-sided at `tail`.

    The bounds of the two AUCs are joined as for independent estimates (Zou and Donner 2008, "MOVER").
    """
    areas = [auc(scored.scores, scored.members) for scored in (first, second)]
    (low_one, high_one), (low_two, high_two) = (
        auc_bounds(scored.scores, scored.members, scored.groups, tail=tail) for scored in (first, second)
    )
    value = areas[0] - areas[1]
    down = math.hypot(areas[0] - low_one, high_two - areas[1])
    up = math.hypot(high_one - areas[0], areas[1] - low_two)
    return Interval(value, max(-1.0, value - down), min(1.0, value + up))


def _label_dice(side: Side) -> dict[str, Measure]:
    """Return the Dice of each label of the first victim on non-members."""
    first = next((row for row in side.report.evidence.utility if row.row == 0), None)
    return {} if first is None else {label.label: label.nonmembers for label in first.labels}


def _dice_tables(first: Side, second: Side, label: str | None) -> tuple[Dice, Dice]:
    """Return the Dice, or that of a label, of each non-member in both reports, where it is defined."""
    victims = [min(side.stored.audit.defences, key=lambda victim: victim.order) for side in (first, second)]
    column = "dice" if label is None else f"{OF_LABEL}{label}"
    return (
        dice_of(first.stored, victims[0], "nonmembers", column),
        dice_of(second.stored, victims[1], "nonmembers", column),
    )


def _are_paired(tables: tuple[Dice, Dice], label: str | None) -> bool:
    """Return whether the samples are the same; a label's Dice is compared where both networks have one."""
    first, second = (set(table) for table in tables)
    return bool(first & second) if label else bool(first) and first == second


def _dice_change(
    sides: tuple[Side, Side], tables: tuple[Dice, Dice], tail: float, label: str | None
) -> Change:
    """Return the change of the Dice on non-members, or of a label's; a higher one is better."""
    groups = dict[str, str]()
    for side in sides:
        scores = [_scores(side, result) for result in _attacks(side.report).values()]
        groups |= groups_of(scored for scored in scores if scored is not None)
    paired = _are_paired(tables, label)
    change = difference(tables[1], tables[0], groups, tail=tail) if paired else None
    values = [
        _label_dice(side)[label]
        if label
        else next((row.nonmembers for row in side.report.evidence.utility if row.row == 0), Measure(None))
        for side in sides
    ]
    direction = "not resolvable" if change is None else _direction(change, lower_is_better=False)
    subject = f"Dice of {label}, non-members" if label else "Dice, non-members"
    common = len(set(tables[0]) & set(tables[1])) if label else None
    return Change(subject, values[0], values[1], change, paired, direction, common)


def _direction(change: Measure, *, lower_is_better: bool) -> Direction:
    if change.low is None or change.high is None or change.low <= 0 <= change.high:
        return "not resolvable"
    return "better" if (change.high < 0) == lower_is_better else "worse"


def _statements(first: Report, second: Report) -> Iterator[str]:
    """Yield a line for each question on the first rows."""
    before, after = (_answers(report) for report in (first, second))
    for question, subject in SHORT.items():
        answers = [answers.get(question) for answers in (before, after)]
        if answers[0] is None and answers[1] is None:
            continue
        words = ["not asked" if answer is None else f"{answer.word} ({answer.rule})" for answer in answers]
        yield f"{subject}: {words[0]}" + ("" if words[0] == words[1] else f" -> {words[1]}")


def _answers(report: Report) -> dict[str, Statement]:
    return {answer.question: answer for answer in report.evidence.statements if answer.row == 0}


def _notes(first: Report, second: Report) -> Iterator[str]:
    """Yield what only one report covers, and whether release, data and weights differ."""
    methods = [
        {name for row in report.evidence.coverage for name in row.methods} for report in (first, second)
    ]
    for name in sorted(methods[0] - methods[1]):
        yield f"only in the first: {name}; nothing is known of the second"
    for name in sorted(methods[1] - methods[0]):
        yield f"only in the second: {name}"
    releases = [
        "not declared" if r.evidence.release is None else r.evidence.release.words for r in (first, second)
    ]
    if releases[0] != releases[1]:
        yield f"release: {releases[0]} -> {releases[1]}"
    networks = [next(iter(report.evidence.identity.networks), None) for report in (first, second)]
    if networks[0] is not None and networks[1] is not None:
        if networks[0].fingerprint != networks[1].fingerprint:
            yield "the data differ: their fingerprints are not the same"
        weights = [network.weights.sha256 if network.weights else None for network in networks if network]
        if weights[0] is not None and weights[0] == weights[1]:
            yield "the weights are the same"
