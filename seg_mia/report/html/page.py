"""The report as one HTML page: nothing is fetched, and the only script sorts tables."""

import base64
import hashlib
from functools import cache
from importlib.resources import files as resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from seg_mia.report.attack_files import AttackFiles
from seg_mia.report.html.figures import (
    histogram_figures,
    promise_figures,
    robustness_figures,
    roc_figures,
    victim_figures,
)
from seg_mia.report.html.folds import folds_sections
from seg_mia.report.html.formatting import FILTERS
from seg_mia.report.html.recipe import SHOWN_PATIENTS, recipe_sections
from seg_mia.report.html.tables import (
    canary_rows,
    compared_labels,
    defence_rows,
    flattened,
    threshold_rows,
    victim_facts,
)
from seg_mia.report.rules.statement_rules import RULES as STATEMENT_RULES
from seg_mia.report.rules.verdicts import RULES
from seg_mia.results.bounded_mean import dice_after
from seg_mia.results.charts.defences import trade_offs
from seg_mia.results.charts.epsilon import epsilon_charts
from seg_mia.results.evidence import Question
from seg_mia.results.report import Report
from seg_mia.results.text import guarantee_in_words

QUESTIONS: dict[Question, str] = {
    "average": "Are training patients told from others?",
    "individuals": "Are single patients identified with near certainty?",
    "recipe": "Does any network trained this way disclose its patients?",
    "folds": "Do the networks of its cross-validation disclose their patients?",
    "evasion": "Can changed images fool it?",
    "promise": "Does its promise of privacy hold?",
}
MARKS = {"average": 0.5, "individuals": 0.01, "recipe": 0.5, "folds": 0.5, "evasion": 0.0}
"""Value of an attack without any effect, by question."""


@cache
def environment() -> Environment:
    """Return the environment of the templates: everything is escaped, and a missing value is an error.

    It is one for the process: templates are compiled once.
    """
    made = Environment(
        loader=PackageLoader("seg_mia.report.html", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= FILTERS
    return made


def page(report: Report, files: AttackFiles, digest: str) -> str:
    """Return the page's text; `digest` is that of report.json."""
    templates = resources("seg_mia.report.html") / "templates"
    # Inlined and allowed by hash: the page must work from a mail attachment, without a server.
    style, script = ((templates / name).read_text(encoding="utf-8") for name in ("style.css", "sort.js"))
    first_membership = [result for result in report.membership if result.row == 0]
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            report=report,
            files=files,
            digest=digest,
            rules=RULES,
            statement_rules=STATEMENT_RULES,
            questions=QUESTIONS,
            marks=MARKS,
            first_statements=[statement for statement in report.evidence.statements if statement.row == 0],
            promise_figures=promise_figures(report, files.scores),
            style=Markup(style),
            script=Markup(script),
            policy=_policy(style, script),
            first_membership=first_membership,
            first_perturbations=[result for result in report.perturbations if result.row == 0],
            victim=min(report.victims, key=lambda victim: victim.order, default=None),
            several_rows=len(report.verdicts) > 1,
            several_seeds=len({victim.round for victim in report.victims}) > 1,
            rocs=roc_figures(report, files.scores),
            histograms=histogram_figures(first_membership, files.scores),
            trade_offs=victim_figures(report, trade_offs, "trade"),
            over_radius=robustness_figures(report),
            over_epsilon=victim_figures(report, epsilon_charts, "epsilon"),
            thresholds=threshold_rows(report),
            recipes=recipe_sections(report),
            folds=folds_sections(report),
            shown_patients=SHOWN_PATIENTS,
            canaries=canary_rows(report),
            comparison=defence_rows(report),
            headers=compared_labels(report),
            facts=victim_facts(report),
            flattened=flattened,
            guarantee_in_words=guarantee_in_words,
            unresolved=any(
                not rate.resolvable for result in report.membership for rate in result.rates.values()
            ),
            dice_after=dice_after,
        )
    )


def _policy(style: str, script: str) -> str:
    """Return the page's content security policy: embedded pictures, its own style and script."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{hashes[0]}'; script-src "
        f"'sha256-{hashes[1]}'; base-uri 'none'; form-action 'none'"
    )
