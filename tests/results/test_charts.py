import itertools
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib import rcParams

from seg_mia.membership.compare import Scored
from seg_mia.membership.roc import roc
from seg_mia.results.base import Measure
from seg_mia.results.charts.defences import Point, offsets, trade_off_drawing
from seg_mia.results.charts.drawing import COLOURS
from seg_mia.results.charts.membership import histogram_drawing, roc_drawing, staircase
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
    assert "drawn side by side" in drawing.caption
    alone = trade_off_drawing([points[0], points[2]], "said")
    assert "side by side" not in alone.caption


def test_what_is_said_of_a_figure_is_escaped() -> None:
    name = "<b>$x$"
    svg = inline(roc_drawing({name: scored()}, {name: "<i>"}, {name: "AUC"}), prefix="x")
    assert "<b>" not in svg
    assert "&lt;b&gt;$x$" in svg


def test_neighbouring_curves_differ_in_colour_and_dash() -> None:
    drawing = roc_drawing(*({str(n): value for n in range(7)} for value in (scored(), "", "")))
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
