"""The report as one HTML page: nothing is fetched, nothing of it is run but the sorting of tables."""

import base64
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files as resources
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from seg_mia.membership.compare import Scored
from seg_mia.report.files import Files
from seg_mia.report.tables import canaries, compared, facts, flattened, headers
from seg_mia.report.verdicts import RULES
from seg_mia.results.audit import Victim
from seg_mia.results.base import Average, Measure
from seg_mia.results.bounded_mean import dice_after
from seg_mia.results.charts.defences import trade_offs
from seg_mia.results.charts.drawing import Chart, Drawing
from seg_mia.results.charts.epsilon import epsilon_charts
from seg_mia.results.charts.membership import histogram_drawing, roc_of
from seg_mia.results.charts.svg import inline
from seg_mia.results.membership import MembershipResult
from seg_mia.results.perturbation import PerturbationResult
from seg_mia.results.report import Report, Verdict
from seg_mia.results.text import promised

NONE, MINUS = "\u2013", "\u2212"


class Shown(NamedTuple):
    """A drawing below its heading, as the page holds it."""

    heading: str
    drawing: Drawing
    svg: Markup


def page(report: Report, files: Files) -> str:
    """Return the page's text."""
    environment = Environment(
        loader=PackageLoader("seg_mia.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "measure": measure,
        "number": number,
        "average": average,
        "duration": duration,
        "moment": moment,
        "signed": signed,
        "bound": bound,
    }
    own = resources("seg_mia.report") / "templates"
    style, script = ((own / name).read_text(encoding="utf-8") for name in ("style.css", "sort.js"))
    first = [one for one in report.membership if _is_first(one)]
    return environment.get_template("page.html.j2").render(
        report=report,
        files=files,
        rules=RULES,
        style=Markup(style),
        script=Markup(script),
        policy=_policy(style, script),
        first=first,
        fooled_first=[one for one in report.perturbations if _is_first(one)],
        victim=min(report.victims, key=_order, default=None),
        several_rows=len(report.verdicts) > 1,
        several_seeds=len({victim.round for victim in report.victims}) > 1,
        rocs=_rocs(report, files.scores),
        histograms=_histograms(first, files.scores),
        trade_offs=_over_victims(report, trade_offs, "trade"),
        over_epsilon=_over_victims(report, epsilon_charts, "epsilon"),
        canaries=canaries(report),
        comparison=compared(report),
        headers=headers,
        facts=facts(report),
        flattened=flattened,
        promised=promised,
        unresolved=any(not rate.resolvable for one in report.membership for rate in one.rates.values()),
        dice_after=dice_after,
    )


def measure(value: Measure | None, digits: int = 3) -> str:
    """Return a number with its interval."""
    if value is None or value.value is None:
        return NONE
    if value.low is None or value.high is None:
        return f"{value.value:.{digits}f}"
    return f"{value.value:.{digits}f} [{value.low:.{digits}f}, {value.high:.{digits}f}]"


def number(value: float | None, digits: int = 3) -> str:
    """Return a number, a dash where there is none."""
    return NONE if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def signed(value: Measure | None) -> str:
    """Return a difference with its sign and interval."""
    if value is None or value.value is None or value.low is None or value.high is None:
        return NONE
    return f"{value.value:+.3f} [{value.low:+.3f}, {value.high:+.3f}]".replace("-", MINUS)


def bound(verdict: Verdict) -> str:
    """Return the number that a verdict rests on; an epsilon to three significant digits."""
    value = verdict.measure.value if verdict.measure else None
    if verdict.measures == "epsilon" and value is not None:
        return f"{value:.3g}"
    return measure(verdict.measure)


def average(value: Average | None, digits: int = 3, factor: float = 1.0) -> str:
    """Return a mean over images."""
    return NONE if value is None or value.mean is None else f"{value.mean * factor:.{digits}f}"


def duration(seconds: float | None) -> str:
    """Return how long something took, as people say it."""
    if seconds is None:
        return NONE
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def moment(created: str) -> str:
    """Return a time as people write it; what is none stays as it is."""
    try:
        when = datetime.fromisoformat(created).astimezone(UTC)
    except (ValueError, OverflowError):
        return created
    return f"{when.day} {when:%B %Y, %H:%M} UTC"


def _policy(style: str, script: str) -> str:
    """Return what a browser may load for this page: pictures inside it, its own style and script."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{hashes[0]}'; script-src "
        f"'sha256-{hashes[1]}'; base-uri 'none'; form-action 'none'"
    )


def _order(victim: Victim) -> tuple[int, int]:
    return victim.round, victim.row


def _is_first(one: MembershipResult | PerturbationResult) -> bool:
    return one.row == 0


def _rocs(report: Report, scores: Mapping[str, Scored]) -> list[Shown]:
    """Return a figure per seed: the first victim's membership attacks, but for the controls."""
    figures = []
    for round_ in sorted({result.round for result in report.membership}):
        first = [
            result
            for result in report.membership
            if (result.row, result.round) == (0, round_)
            and result.role != "control"
            and result.folder in scores
        ]
        if first:
            drawing = roc_of(first, {result.label: scores[result.folder] for result in first})
            figures.append(_shown(Chart(f"Seed {first[0].seed}", drawing), f"roc{round_}"))
    return figures


def _histograms(results: Sequence[MembershipResult], scores: Mapping[str, Scored]) -> list[Shown]:
    figures = []
    for number_, result in enumerate(results):
        if result.folder in scores and result.round == 0:
            sides = [
                f"{spread.count} {name}: median {spread.median:.3g}, quartiles {spread.lower_quartile:.3g} "
                f"and {spread.upper_quartile:.3g}"
                for name, spread in zip(("members", "non-members"), result.scores.values(), strict=True)
            ]
            said = f"{result.label}. {'; '.join(sides)}"
            drawing = histogram_drawing(scores[result.folder], said, threshold=result.results.threshold)
            figures.append(_shown(Chart(result.label, drawing), f"scores{number_}"))
    return figures


def _over_victims(report: Report, draw: Callable[..., list[Chart]], prefix: str) -> list[Shown]:
    """Return figures of the first seed's victims."""
    charts = draw([victim for victim in report.victims if victim.round == 0], report.membership)
    return [_shown(chart, f"{prefix}{number_}") for number_, chart in enumerate(charts)]


def _shown(chart: Chart, prefix: str) -> Shown:
    return Shown(chart.heading, chart.drawing, inline(chart.drawing, prefix=prefix))
