"""The page's section on a cross-validation: what it shows in words, table and figure."""

from typing import NamedTuple

from seg_mia.report.html.figures import PageFigure, page_figure
from seg_mia.results.charts.drawing import Chart
from seg_mia.results.charts.folds import ranks_drawing
from seg_mia.results.folds import FoldsResult
from seg_mia.results.report import Report
from seg_mia.results.tables import counted, interval


class FoldsSection(NamedTuple):
    """A cross-validation in words, with its result and figure."""

    result: FoldsResult
    words: str
    ranks: PageFigure


def folds_sections(report: Report) -> list[FoldsSection]:
    """Return a section for each cross-validation."""
    return [
        FoldsSection(
            result,
            folds_in_words(result),
            page_figure(Chart("Rank where left out", ranks_drawing(result)), f"folds{result.row}"),
        )
        for result in report.folds
    ]


def folds_in_words(result: FoldsResult) -> str:
    """Return what a cross-validation shows, for readers without statistics."""
    share = 100 * (result.auc.value or 0.0)
    return (
        f"Each of {counted(result.patients, 'patient')} was left out by exactly one of {result.networks} "
        "networks "
        "that were trained alike. Without a leak that network would be the least confident of all about a "
        "patient "
        f"in {result.chance * result.patients:.1f} cases; it is in {result.lowest} (p = "
        f"{result.p_value:.2g}, exact). "
        "Given a network trained on a patient and the one that was not, an attacker who holds the others "
        "picks the "
        f"right one in {share:.0f} of 100 cases (AUC {interval(result.auc)}); guessing does in 50."
    )
