"""The report as one HTML page: nothing is fetched, nothing of it is run but the sorting of tables."""

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files as resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from seg_mia.membership.compare import Scored
from seg_mia.report.epsilon import epsilon_charts
from seg_mia.report.figures import Chart, Point, histogram_drawing, roc_drawing, trade_off_drawing
from seg_mia.report.files import Files
from seg_mia.report.rows import canaries, compared, facts, flattened, headers, promised
from seg_mia.report.verdicts import RULES
from seg_mia.results.bounded_mean import dice_after
from seg_mia.results.model import Average, Fooled, Guessed, Measure, Report, Verdict, Victim

NONE, MINUS = "\u2013", "\u2212"


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
        several_seeds=len({victim.place.round for victim in report.victims}) > 1,
        rocs=_rocs(report, files.scores),
        histograms=_histograms(first, files.scores),
        trade_offs=_trade_offs(report),
        over_epsilon=epsilon_charts(report),
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
    return victim.place.round, victim.place.row


def _is_first(one: Guessed | Fooled) -> bool:
    return one.place.row == 0


def _rocs(report: Report, scores: Mapping[str, Scored]) -> list[Chart]:
    """Return a figure per seed: the first victim's membership attacks, but for the controls."""
    charts = []
    for round_ in sorted({one.place.round for one in report.membership}):
        own = [
            one
            for one in report.membership
            if (one.place.row, one.place.round) == (0, round_)
            and one.kind != "control"
            and one.folder in scores
        ]
        if own:
            curves = {one.label: scores[one.folder] for one in own}
            said = {one.label: rates_said(one) for one in own}
            drawing = roc_drawing(curves, said, prefix=f"roc{round_}")
            keys = [key._replace(note=measure(one.auc)) for key, one in zip(drawing.keys, own, strict=True)]
            drawing = drawing._replace(keys=keys)
            charts.append(Chart(f"Seed {own[0].place.seed}", drawing))
    return charts


def rates_said(one: Guessed) -> str:
    """Return an attack's AUC and rates in words."""
    shown = {"0.1": "10 %", "0.01": "1 %", "0.001": "0.1 %"}
    rates = [
        f"TPR {number(rate.value)}{'' if rate.resolvable else ' (unresolvable)'} at {shown[fpr]} FPR"
        for fpr, rate in one.rates.items()
    ]
    return ", ".join([f"AUC {measure(one.auc)}", *rates])


def _histograms(guessed: Sequence[Guessed], scores: Mapping[str, Scored]) -> list[Chart]:
    charts = []
    for place, one in enumerate(guessed):
        if one.folder in scores and one.place.round == 0:
            sides = [
                f"{spread.count} {name}: median {spread.median:.3g}, quartiles {spread.lower_quartile:.3g} "
                f"and {spread.upper_quartile:.3g}"
                for name, spread in zip(("members", "non-members"), one.scores.values(), strict=True)
            ]
            said = f"{one.label}. {'; '.join(sides)}"
            charts.append(
                Chart(one.label, histogram_drawing(scores[one.folder], said, prefix=f"scores{place}"))
            )
    return charts


def _trade_offs(report: Report) -> list[Chart]:
    """Return a figure per attack that was run on several victims of the first seed."""
    rows = sorted((victim for victim in report.victims if victim.place.round == 0), key=_order)
    dice = {victim.place.row: victim.dice("nonmembers") for victim in rows}
    charts = []
    labels = dict.fromkeys(one.label for one in report.membership if one.kind == "attack")
    for number_, label in enumerate(labels):
        points = [
            Point(victim.place.defence + _knows(victim), value, one.auc, victim.shadow != "defended")
            for victim in rows
            for one in report.membership
            if one.place == victim.place
            and one.label == label
            and (value := dice[victim.place.row]) is not None
        ]
        if len(points) > 1:
            said = "; ".join(
                f"{point.label}: Dice {point.dice:.3f}, AUC {measure(point.auc)}" for point in points
            )
            drawing = trade_off_drawing(points, f"{label}. {said}", prefix=f"trade{number_}")
            charts.append(Chart(label, drawing))
    return charts


def _knows(victim: Victim) -> str:
    return " (attacker knows)" if victim.shadow == "defended" else ""
