"""Annex for the data protection officer: all groups of fields on at most six printed sheets."""

import base64
import hashlib
from importlib.resources import files as resources

from markupsafe import Markup

from seg_mia.report.annex.mapping import MAPPING, NOTE
from seg_mia.report.attack_files import AttackFiles
from seg_mia.report.html.figures import promise_figures
from seg_mia.report.html.page import QUESTIONS, environment
from seg_mia.results.report import Report

LINES = 12
"""Rows of a table that are printed; the page of the report has all."""
TABLES = {
    "coverage": "kinds of attack",
    "threats": "threat models",
    "scope": "scopes",
    "units": "results by patient",
    "patients": "results of single patients",
    "robustness": "perturbations",
    "curves": "curves over the radius",
    "certificates": "certificates",
    "utility": "victims' measures",
}
"""Tables of so many rows at most, and what their rows are called."""
SHOWN_PROMISES = 2
"""Promises that are printed, each with a figure."""
LONGEST = 30
"""Statements that are printed: six victims with all questions."""


def annex(report: Report, files: AttackFiles, digest: str) -> str:
    """Return the annex as one HTML page without a script.

    Args:
        report: the report.
        files: scores for its figures.
        digest: digest of report.json.
    """
    style = (resources("seg_mia.report.html") / "templates" / "annex.css").read_text(encoding="utf-8")
    allowed = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    short, left_out = _shortened(report)
    return (
        environment()
        .get_template("annex.html.j2")
        .render(
            report=short,
            evidence=short.evidence,
            digest=digest,
            left_out=left_out,
            style=Markup(style),
            policy=f"default-src 'none'; style-src 'sha256-{allowed}'; base-uri 'none'; form-action 'none'",
            questions=QUESTIONS,
            mapping={entry.anchor: entry for entry in MAPPING},
            note=NOTE,
            promise_figures=promise_figures(short, files.scores),
            several_rows=len(short.verdicts) > 1,
            several_seeds=len({victim.round for victim in short.victims}) > 1,
        )
    )


def _shortened(report: Report) -> tuple[Report, list[str]]:
    """Return a report whose tables fit on the sheets, and how many rows of which were left out."""
    evidence, changes, left_out = report.evidence, dict[str, object](), list[str]()
    limits = {name: (rows, LINES) for name, rows in TABLES.items()}
    limits |= {"promises": ("promises", SHOWN_PROMISES), "statements": ("statements", LONGEST)}
    for name, (noun, count) in limits.items():
        rows = getattr(evidence, name)
        changes[name] = rows[:count]
        if len(rows) > count:
            left_out.append(f"{len(rows) - count} {noun}")
    networks = evidence.identity.networks
    if len(networks) > LINES:
        left_out.append(f"{len(networks) - LINES} networks")
    changes["identity"] = evidence.identity.model_copy(update={"networks": networks[:LINES]})
    return report.model_copy(update={"evidence": evidence.model_copy(update=changes)}), left_out
