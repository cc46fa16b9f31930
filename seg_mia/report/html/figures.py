"""The page's figures, drawn from results and scores as SVG."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from seg_mia.membership.compare import Scored
from seg_mia.membership.roc import pooled
from seg_mia.results.charts.drawing import Chart, Drawing
from seg_mia.results.charts.membership import histogram_drawing, roc_of
from seg_mia.results.charts.promise import promise_drawing
from seg_mia.results.charts.robustness import curve_drawing, norms_drawing
from seg_mia.results.charts.svg import inline
from seg_mia.results.membership import MembershipResult
from seg_mia.results.perturbation import PerturbationResult
from seg_mia.results.report import Report


class PageFigure(NamedTuple):
    """A drawing with its heading, for the page."""

    heading: str
    drawing: Drawing
    svg: Markup


def roc_figures(report: Report, scores: Mapping[str, Scored]) -> list[PageFigure]:
    """Return a figure per seed: the first victim's membership attacks, without controls."""
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
            figures.append(page_figure(Chart(f"Seed {first[0].seed}", drawing), f"roc{round_}"))
    return figures


def histogram_figures(results: Sequence[MembershipResult], scores: Mapping[str, Scored]) -> list[PageFigure]:
    """Return the score distributions of each attack on a victim of the first seed."""
    figures = []
    for index, result in enumerate(results):
        if result.folder in scores and result.round == 0:
            sides = [
                f"{spread.count} {name}: median {spread.median:.3g}, quartiles {spread.lower_quartile:.3g} "
                f"and {spread.upper_quartile:.3g}"
                for name, spread in zip(("members", "non-members"), result.scores.values(), strict=True)
            ]
            description = f"{result.label}. {'; '.join(sides)}"
            drawing = histogram_drawing(
                scores[result.folder], description, threshold=result.results.threshold
            )
            figures.append(page_figure(Chart(result.label, drawing), f"scores{index}"))
    return figures


def robustness_figures(report: Report) -> list[PageFigure]:
    """Return Dice over the radius and the smallest changes that fool, of the first seed's victims."""
    first = [result for result in report.perturbations if result.round == 0]
    curves = {result.title: result.curve for result in first if result.curve is not None}
    norms = {_aim(result): result.minimal for result in first if result.minimal is not None}
    charts = [Chart("Dice over the radius", curve_drawing(curves))] if curves else []
    charts += [Chart("Smallest changes that fool", norms_drawing(norms))] if norms else []
    return [page_figure(chart, f"robust{index}") for index, chart in enumerate(charts)]


def _aim(result: PerturbationResult) -> str:
    """Return an attack's title, and what counts as fooled where it is a share of the Dice."""
    curve = result.curve
    return result.title if curve is None else f"{result.title}: at most {curve.fooled:g} of the Dice left"


def victim_figures(report: Report, draw: Callable[..., list[Chart]], prefix: str) -> list[PageFigure]:
    """Return figures of the first seed's victims."""
    charts = draw([victim for victim in report.victims if victim.round == 0], report.membership)
    return [page_figure(chart, f"{prefix}{index}") for index, chart in enumerate(charts)]


def promise_figures(report: Report, scores: Mapping[str, Scored]) -> dict[tuple[int, int], PageFigure]:
    """Return the trade-off curve of each promise over the attacks on its unit, by row and seed."""
    figures = {}
    for number, promise in enumerate(report.evidence.promises):
        if promise.curve:
            attacks = [
                result
                for result in report.membership
                if (result.row, result.seed, result.role) == (promise.row, promise.seed, "attack")
                and result.folder in scores
            ]
            drawing = promise_drawing(
                promise.curve,
                _on_unit(attacks, scores, promise.unit),
                basis=promise.curve_by,
                description=f"{promise.defence}, seed {promise.seed}",
            )
            chart = Chart(promise.defence, drawing)
            figures[promise.row, promise.seed] = page_figure(chart, f"promise{number}")
    return figures


def _on_unit(
    attacks: Sequence[MembershipResult], scores: Mapping[str, Scored], unit: str
) -> dict[str, Scored]:
    """Return the scores of a promise's unit: none of images for a promise on images of grouped data."""
    curves = {}
    for attack in attacks:
        scored = scores[attack.folder]
        if attack.groups is None:
            curves[attack.label] = scored
        elif unit == "patient":
            values, members, names = pooled(scored.scores, scored.members, scored.groups)
            curves[attack.label] = Scored(np.array(names), np.array(names), members, values)
    return curves


def page_figure(chart: Chart, prefix: str) -> PageFigure:
    """Return a figure for the page; `prefix` begins its ids."""
    return PageFigure(chart.heading, chart.drawing, inline(chart.drawing, prefix=prefix))
