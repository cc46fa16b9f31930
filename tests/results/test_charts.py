import itertools
import re
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib import rcParams
from matplotlib.patches import StepPatch
from numpy.typing import NDArray

from seg_mia.membership.compare import Scored
from seg_mia.membership.roc import Roc, roc
from seg_mia.results.base import Measure
from seg_mia.results.charts.defences import Point, offsets, trade_off_drawing
from seg_mia.results.charts.drawing import COLOURS, Drawing
from seg_mia.results.charts.membership import BINS, histogram_drawing, roc_drawing, staircase
from seg_mia.results.charts.png import DPI, beside, pixels
from seg_mia.results.charts.svg import inline
from tests.report.audits import SCORES


def scored() -> Scored:
    members = np.array([name.startswith("m") for name in SCORES])
    names = np.array(list(SCORES))
    return Scored(names, names, members, np.array(list(SCORES.values())))


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("ground", ["#ffffff", "#14171b"])
def test_every_colour_stands_out_in_either_theme(colour: str, ground: str) -> None:
    light, dark = sorted((luminance(colour), luminance(ground)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 3


def test_a_staircase_is_never_interpolated() -> None:
    # The first three members are above every non-member, the fourth is below all.
    own = scored()
    x, y = staircase(roc(own.scores, own.members), 0.01)
    assert x.tolist() == [0.01, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75, 1.0, 1.0][: len(x)]
    assert y.tolist() == [0.75] * (len(y) - 1) + [1.0] or y[-1] == 1.0
    assert set(y.tolist()) == {0.75, 1.0}


def test_drawings_are_alike_and_have_ids_of_their_own() -> None:
    one, same, other = (
        inline(roc_drawing({"a": scored()}, {"a": "0.75"}, {"a": "AUC 0.75"}), prefix=prefix)
        for prefix in ("x", "x", "y")
    )
    assert one == same
    ids = [set(re.findall(r' id="([^"]+)"', svg)) for svg in (one, other)]
    assert all(ids)
    assert not ids[0] & ids[1]
    assert all(f'id="{link}"' in one for link in re.findall(r'(?:url\(|href=")#([^)"]+)', one))


def test_a_drawing_is_plain_svg_in_the_pages_colours() -> None:
    points = [Point("a", 0.8, Measure(0.7, 0.6, 0.8), True), Point("b", 0.7, Measure(0.5), False)]
    drawings = [
        roc_drawing({"a": scored()}, {"a": "0.75"}, {"a": "AUC 0.75"}),
        histogram_drawing(scored(), "said", threshold=0.55),
        trade_off_drawing(points, "said"),
    ]
    for drawing in drawings:
        svg = inline(drawing, prefix="x")
        root = ElementTree.fromstring(svg)
        assert root.attrib["role"] == "img"
        assert root[0].tag == "title"
        assert "currentColor" in svg
        for hidden in ("style", "#000000", "#0a0b0c", "metadata", "xmlns", "http", "DejaVu"):
            assert hidden not in svg, hidden
        assert "<text" in svg


def test_points_of_one_dice_stand_side_by_side() -> None:
    assert offsets([0.5, 0.9, 0.5, 0.5]) == [-8, 0, 0, 8]
    assert offsets([0.7, 0.7]) == [-4, 4]
    assert offsets([0.5, 0.514, 0.6, 1.0]) == [-4, 4, 0, 0]  # 3 % of what lies between 0.5 and 1 is 0.015
    aucs = Measure(0.7, 0.6, 0.8), Measure(0.7, 0.6, 0.8), Measure(0.6, 0.5, 0.7)
    points = [
        Point(name, dice, auc, True) for name, dice, auc in zip("abc", (0.8, 0.8, 0.5), aucs, strict=True)
    ]
    drawing = trade_off_drawing(points, "said")
    marked = {
        part.attrib["fill"]: float(part.attrib["x"])
        for part in ElementTree.fromstring(inline(drawing, prefix="x")).iter("use")
        if part.attrib.get("fill") in COLOURS
    }
    assert marked[COLOURS[1]] - marked[COLOURS[0]] == pytest.approx(8)
    assert marked[COLOURS[2]] < marked[COLOURS[0]] - 100
    assert "nearly equal Dice" in drawing.caption
    alone = trade_off_drawing([points[0], points[2]], "said")
    assert "side by side" not in alone.caption


def test_what_is_said_of_a_figure_is_escaped() -> None:
    name = "<b>$x$"
    svg = inline(roc_drawing({name: scored()}, {name: "<i>"}, {name: "AUC"}), prefix="x")
    assert "<b>" not in svg
    assert "&lt;b&gt;$x$" in svg


def test_neighbouring_curves_differ_in_colour_and_dash() -> None:
    words = {str(number): "" for number in range(7)}
    drawing = roc_drawing({name: scored() for name in words}, words, words)
    for one, other in itertools.pairwise(drawing.keys):
        assert one.colour != other.colour
        assert one.dash != other.dash
    assert len({(key.colour, key.dash) for key in drawing.keys}) == 7


def test_scores_that_are_all_alike_can_be_drawn() -> None:
    own = scored()
    drawing = histogram_drawing(own._replace(scores=np.ones(8)), "said")
    assert "<svg" in inline(drawing, prefix="x")


def test_matplotlib_is_left_as_found() -> None:
    before = dict(rcParams)
    inline(roc_drawing({"a": scored()}, {"a": ""}, {"a": ""}), prefix="x")
    assert dict(rcParams) == before


def sampled(shift: float = 1.5) -> Scored:
    """200 members and 150 non-members, whose scores are normal and `shift` apart."""
    members = np.arange(350) < 200
    names = np.array([str(number) for number in range(350)])
    return Scored(names, names, members, np.random.default_rng(0).normal(size=350) + shift * members)


def bars(drawing: Drawing) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return values and edges of members' bars, then those of non-members."""
    patches = [patch for patch in drawing.figure.axes[0].patches if isinstance(patch, StepPatch)]
    drawn: list[Any] = [patch.get_data() for patch in patches[::2]]
    return [(data.values, data.edges) for data in drawn]


def test_a_roc_is_drawn_in_steps_worked_out_by_hand() -> None:
    fpr = np.array([0.0, 0.0, 0.25, 0.25, 0.5, 0.75, 1.0])
    tpr = np.array([0.0, 0.2, 0.2, 0.6, 0.6, 1.0, 1.0])
    x, y = staircase(Roc(fpr, tpr, np.zeros(7)), 0.001)
    corners = list(dict.fromkeys(zip(x.tolist(), y.tolist(), strict=True)))
    assert corners == [(0.001, 0.2), (0.25, 0.2), (0.25, 0.6), (0.5, 0.6), (0.75, 0.6), (0.75, 1), (1, 1)]


def test_no_piece_of_a_staircase_is_oblique() -> None:
    own = sampled()
    x, y = staircase(roc(own.scores, own.members), 0.001)
    corners = list(zip(x.tolist(), y.tolist(), strict=True))
    assert all(x0 == x1 or y0 == y1 for (x0, y0), (x1, y1) in itertools.pairwise(corners))
    assert corners[-1] == (1, 1)


def test_a_roc_begins_below_one_nonmember() -> None:
    axes = roc_drawing({"a": sampled()}, {"a": ""}, {"a": ""}).figure.axes[0]
    assert axes.get_xlim() == axes.get_ylim() == pytest.approx((0.001, 1))
    assert axes.get_xscale() == axes.get_yscale() == "log"
    shaded = axes.patches[0].get_extents().transformed(axes.transData.inverted())
    assert (shaded.x0, shaded.x1) == pytest.approx((0.001, 1 / 150))


def test_each_side_sums_to_one_in_the_same_bins() -> None:
    own = sampled()
    drawing = histogram_drawing(own, "", threshold=0.7)
    (inside, edges), (outside, same) = bars(drawing)
    assert np.array_equal(edges, same)
    assert len(edges) == BINS + 1
    np.testing.assert_allclose((edges[0], edges[-1]), np.percentile(own.scores, [0.5, 99.5]))
    for side in (inside, outside):
        assert side.sum() == pytest.approx(1)
    assert [key.label for key in drawing.keys] == ["members (200)", "non-members (150)", "threshold 0.7"]


@pytest.mark.parametrize("value", [0.0, 1.0, -1e9])
def test_constant_scores_fill_the_bin_in_the_middle(value: float) -> None:
    for side, _ in bars(histogram_drawing(sampled()._replace(scores=np.full(350, value)), "")):
        assert np.flatnonzero(side).tolist() == [BINS // 2]


def test_all_but_a_few_scores_being_equal_does_not_narrow_the_bins_to_nothing() -> None:
    scores = np.zeros(350)
    scores[0] = 1
    (inside, _), (outside, _) = bars(histogram_drawing(sampled()._replace(scores=scores), ""))
    assert np.flatnonzero(inside).tolist() == [0, BINS - 1]
    assert np.flatnonzero(outside).tolist() == [0]


@pytest.mark.parametrize("threshold", [1e6, -1e6])
def test_a_threshold_off_scale_stands_at_the_end_and_says_so(threshold: float) -> None:
    own = sampled()
    drawing = histogram_drawing(own, "", threshold=threshold)
    assert drawing.keys[-1].label == f"threshold {threshold:.3g} (off scale)"
    (line,) = drawing.figure.axes[0].lines
    at = float(np.asarray(line.get_xdata())[0])
    assert at == pytest.approx(np.percentile(own.scores, [0.5, 99.5])[int(threshold > 0)])


def test_one_drawing_is_saved_as_pixels_and_as_svg() -> None:
    label = "LiRA, offline, 16 shadow models"
    drawing = roc_drawing({label: sampled()}, {label: "0.855 [0.815, 0.890]"}, {label: ""})
    before = inline(drawing, prefix="x")
    sheet = pixels(drawing)
    assert sheet.dtype == np.uint8
    assert sheet.ndim == 3
    assert sheet.shape[2] == 3
    assert sheet.shape[0] > 4.4 * DPI, "the legend and the caption stand below"
    border = np.concatenate([sheet[0], sheet[-1], sheet[:, 0], sheet[:, -1]])
    assert (border == 255).all()
    curve = np.array([int(COLOURS[0][start : start + 2], 16) for start in (1, 3, 5)])
    assert int((np.abs(sheet.astype(int) - curve).max(2) <= 3).sum()) > 50
    assert inline(drawing, prefix="x") == before, "saving leaves a drawing as it was"


def test_drawings_stand_side_by_side() -> None:
    low, high = histogram_drawing(sampled(), ""), roc_drawing({"a": sampled()}, {"a": ""}, {"a": ""})
    sheet = beside([low, high])
    widths = [pixels(drawing).shape[1] for drawing in (low, high)]
    assert sheet.shape[:2] == (len(pixels(high)), sum(widths))
    assert (sheet[-1, : widths[0]] == 255).all()
