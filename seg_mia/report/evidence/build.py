"""All groups of the evidence, and the statements that follow."""

from collections.abc import Mapping, Sequence

from seg_mia.membership.compare import Scored
from seg_mia.report.evidence.attacks import (
    coverage,
    patients_at_risk,
    threats,
    unit_results,
)
from seg_mia.report.evidence.limits import limits
from seg_mia.report.evidence.networks import identity, scopes
from seg_mia.report.evidence.promises import promises
from seg_mia.report.evidence.robustness import certificates, curves, robustness_rows
from seg_mia.report.evidence.utility import utilities
from seg_mia.report.load import StoredAudit
from seg_mia.report.rules.folds_statement import folds
from seg_mia.report.rules.further_statements import evasion, promise, recipe
from seg_mia.report.rules.statements import Row, average, individuals
from seg_mia.report.rules.verdicts import LEAST_DICE, judged_victims, networks_segment_nothing, restricted
from seg_mia.results.audit import AuditResult
from seg_mia.results.evidence import Evidence, Statement
from seg_mia.results.evidence_measures import Promise
from seg_mia.results.report import SCHEMA
from seg_mia.results.warnings import fails

SPLIT = " The split itself separates members from non-members."


def evidence(stored: StoredAudit, shareable: AuditResult, scores: Mapping[str, Scored]) -> Evidence:
    """Return the evidence of an audit.

    Args:
        stored: the audit.
        shareable: the same without absolute paths.
        scores: scores of membership attacks by their folder in `stored`.
    """
    covered = coverage(shareable)
    scoped = scopes(shareable.leaks, shareable.membership, shareable.defences)
    promised = promises(shareable.defences, shareable.membership, shareable.leaks)
    return Evidence(
        statements=statements(shareable, promised),
        identity=identity(shareable, SCHEMA, stored.digest),
        release=shareable.release_context,
        coverage=covered,
        threats=threats(shareable),
        scope=scoped,
        units=unit_results(shareable.membership, shareable.leaks),
        patients=patients_at_risk(shareable.recipes),
        promises=promised,
        robustness=robustness_rows(shareable.perturbations),
        curves=curves(shareable.perturbations),
        certificates=certificates(shareable.certificates),
        utility=utilities(stored, stored.audit.membership, scores),
        limits=limits(shareable, covered, scoped),
    )


def statements(audit: AuditResult, promised: Sequence[Promise]) -> list[Statement]:
    """Return the answers to all questions, row by row."""
    rows = sorted({victim.row for victim in audit.defences})
    return [answer for row in rows for answer in _of_row(audit, row, promised)]


def _of_row(audit: AuditResult, row: int, promised: Sequence[Promise]) -> list[Statement]:
    victims = [victim for victim in audit.defences if victim.row == row]
    judged, nothing = judged_victims(victims)
    split = SPLIT if any(fails(result) for result in audit.membership if result.role == "blind") else ""
    attacks = [result for result in audit.membership if result.row == row and result.role == "attack"]
    controls = [result for result in audit.membership if result.role == "control"]
    tested = restricted(audit.leaks, row, {key.seed for key in judged})
    perturbed = [result for result in audit.perturbations if result.key in judged]
    recipes = [result for result in audit.recipes if result.row == row]
    base = Row(row, victims[0].defence, f"{nothing}{split}".strip())
    answers = [
        average(base, attacks, tested, controls),
        individuals(base, attacks, tested, controls),
    ]
    if recipes:
        void = f"The networks hardly segment, Dice below {LEAST_DICE} on members."
        hardly = any(networks_segment_nothing(result) for result in recipes)
        answers.append(recipe(base._replace(void=void if hardly else ""), recipes))
    answers += [folds(base, result) for result in audit.folds if result.row == row]
    guarantees = [answer for answer in promised if answer.row == row]
    return [
        *answers,
        evasion(base._replace(void=nothing.strip()), perturbed),
        promise(base._replace(void=split.strip()), victims, attacks, guarantees, recipes),
    ]
