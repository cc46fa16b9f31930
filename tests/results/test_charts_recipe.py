"""Figures of recipes draw the numbers of their results."""

from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.collections import PolyCollection

from seg_mia.results.charts.drawing import COLOURS
from seg_mia.results.charts.png import pixels
from seg_mia.results.charts.recipe import network_drawing, recipe_roc_drawing, survival_drawing
from seg_mia.results.charts.svg import inline
from tests.results.recipes import recipe, two_attacks


def lines(axes: Any) -> list[tuple[list[float], list[float]]]:
    """Return the coloured lines of axes, without those of guessing."""
    return [
        (np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist())
        for line in axes.lines
        if line.get_color() in COLOURS and len(line.get_xdata()) > 1 and line.get_linestyle() != "None"
    ]


def test_the_curves_of_all_attacks_are_drawn_in_steps_on_logarithmic_axes() -> None:
    results = two_attacks()
    drawing = recipe_roc_drawing(results)
    (axes,) = drawing.figure.axes
    assert axes.get_xscale() == axes.get_yscale() == "log"
    assert axes.get_xlim() == pytest.approx((0.5 / 1600, 1))
    drawn = lines(axes)
    assert len(drawn) == 2
    for (x, y), result in zip(drawn, results, strict=True):
        assert set(y) <= {*result.roc.tpr}
        assert (x[-1], y[-1]) == (1, 1)
        assert all(x0 == x1 or y0 == y1 for x0, x1, y0, y1 in zip(x, x[1:], y, y[1:], strict=False))
    diagonals = [
        line
        for line in axes.lines
        if np.asarray(line.get_xdata()).tolist() == np.asarray(line.get_ydata()).tolist()
    ]
    assert len(diagonals) == 1
    assert diagonals[0].get_color() not in COLOURS
    shaded = [patch.get_extents().transformed(axes.transData.inverted()).x1 for patch in axes.patches]
    assert sorted(shaded) == pytest.approx([1 / 1600, 5 / 1600])
    assert [key.note for key in drawing.keys] == [
        f"{result.auc.value:.3f} [{result.auc.low:.3f}, {result.auc.high:.3f}]" for result in results
    ]


def test_patients_are_drawn_against_their_band() -> None:
    result = recipe()
    drawing = survival_drawing(result)
    (axes,) = drawing.figure.axes
    ((x, y),) = lines(axes)
    assert x == result.risk.survival.at
    assert y == result.risk.survival.share
    (band,) = [part for part in axes.collections if isinstance(part, PolyCollection)]
    corners = band.get_paths()[0].vertices
    assert np.asarray(corners)[:, 1].max() == 1
    for at, low, high in zip(
        result.risk.survival.at, result.risk.survival.low, result.risk.survival.high, strict=True
    ):
        heights = [height for place, height in np.asarray(corners).tolist() if place == at]
        assert (min(heights), max(heights)) == (low, high)
    assert f"{result.risk.significant} significant" in drawing.title
    share = dict(zip(x, y, strict=True))[0.8]
    assert f"{share:.0%} at 0.8 or more" in drawing.title


def test_networks_are_drawn_by_doubling() -> None:
    drawing = network_drawing([*two_attacks(), recipe(name="mia-base", curve=())])
    upper, lower = drawing.figure.axes[1], drawing.figure.axes[0]
    assert upper.get_xscale() == lower.get_xscale() == "log"
    assert [label.get_text() for label in lower.get_xticklabels()] == ["2", "4", "8"]
    curve = recipe().curve
    assert lines(upper)[0][1] == [point.auc.value for point in curve]
    assert lines(lower)[0][1] == [point.tpr.value for point in curve]
    assert [key.label for key in drawing.keys] == ["mia-lira", "mia-calibrated"]
    assert upper.get_ylabel() == "AUC"
    assert lower.get_ylabel() == "TPR at 1 % FPR"
    assert f"2 networks AUC {curve[0].auc.value:.3f}" in drawing.title


def test_rates_that_cannot_be_resolved_are_not_drawn() -> None:
    shares = recipe(name="mia-rank", resolution=1 / 16)  # of 16 networks without a sample
    drawing = network_drawing([recipe(), shares])
    upper, lower = drawing.figure.axes[1], drawing.figure.axes[0]
    assert len(lines(upper)) == 2
    assert len(lines(lower)) == 1
    assert drawing.title.count("TPR not resolvable") == len(shares.curve)
    assert recipe_roc_drawing([recipe(), shares]).title.count("TPR not resolvable") == 1


def test_each_figure_is_saved_in_both_formats() -> None:
    results = two_attacks()
    for drawing in (recipe_roc_drawing(results), survival_drawing(results[0]), network_drawing(results)):
        svg = inline(drawing, prefix="x")
        root = ElementTree.fromstring(svg)
        assert root.attrib["role"] == "img"
        for hidden in ("style", "#0a0b0c", "xmlns", "http", "DejaVu"):
            assert hidden not in svg
        sheet = pixels(drawing)
        assert sheet.shape[1] > 400
        assert inline(drawing, prefix="x") == svg


def test_names_are_escaped() -> None:
    svg = inline(recipe_roc_drawing([recipe(label="<b>$x$")]), prefix="x")
    assert "<b>" not in svg
    assert "&lt;b&gt;$x$" in svg
