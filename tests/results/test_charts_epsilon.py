"""Utility and leakage over epsilon: where victims stand, when it is drawn, and what it says in words."""

from typing import Any
from xml.etree import ElementTree

import pytest

from seg_mia.report.build import build
from seg_mia.results.base import Measure
from seg_mia.results.charts.drawing import Chart
from seg_mia.results.charts.epsilon import epsilon_charts, epsilon_drawing, scaled
from seg_mia.results.charts.svg import inline
from tests.report.audits import audit, compared, guess, promise, source

INFINITE = float("inf")


def charts(*promises: dict[str, Any] | None, **more: Any) -> list[Chart]:
    """Return the figures of an audit whose victims promise this."""
    rows = [compared(row, f"v{row}", privacy=made) for row, made in enumerate(promises)]
    attacks = [
        guess(row=row, defence=f"v{row}", auc=(0.5 + row / 10, 0.4 + row / 10, 0.6 + row / 10))
        for row in range(len(rows))
    ]
    content = audit(attacks, defences=rows, **more)
    return charts_of(content)


def charts_of(content: dict[str, Any]) -> list[Chart]:
    report = build(source(content), images=False)[0]
    return epsilon_charts(report.victims, report.membership)


def drawn(*epsilons: float | None) -> str:
    values = [Measure(0.5 + place / 10) for place in range(len(epsilons))]
    names = [f"v{place}" for place in range(len(epsilons))]
    return inline(epsilon_drawing({"Dice": values}, epsilons, names, measures="Dice"), prefix="x")


def test_finite_epsilons_stand_at_their_logarithms_and_the_others_right_of_them() -> None:
    scale = scaled([None, 100.0, INFINITE, 1.0, None])
    assert scale.positions[1] == pytest.approx(2)
    assert scale.positions[3] == pytest.approx(0)
    assert scale.finite == [False, True, False, True, False]
    none, other, endless = scale.positions[0], scale.positions[4], scale.positions[2]
    assert 2 < endless < none < other
    assert scale.ticks[(none + other) / 2] == "none"
    assert scale.ticks[endless] == "infinite"
    assert {scale.ticks[scale.positions[1]], scale.ticks[scale.positions[3]]} == {"1", "100"}
    assert scale.edge is not None
    assert 2 < scale.edge < endless
    assert scale.ends[0] < 0
    assert other < scale.ends[1]


def test_finite_epsilons_alone_shade_nothing() -> None:
    scale = scaled([1.0, 10.0])
    assert scale.edge is None
    assert set(scale.ticks.values()) == {"1", "10"}


def test_of_labels_that_would_overlap_the_first_is_written() -> None:
    scale = scaled([8.5, 8.0, 1.0, 8.0])
    assert [scale.ticks[place] for place in sorted(scale.ticks)] == ["1", "8", ""]


@pytest.mark.parametrize(
    ("promises", "count"),
    [
        ([promise(1.0), promise(8.0)], 2),
        ([promise(1.0), None], 2),
        ([promise(1.0), promise(None)], 2),
        ([promise(1.0)], 0),
        ([promise(8.0), promise(8.0)], 0),
        ([None, None], 0),
        ([None, promise(None)], 0),
        ([promise(0.0), None], 0),
        ([promise(1.0), promise(8.0, unit="patient")], 0),
        ([promise(1.0), promise(8.0, unit="patient"), None], 4),
    ],
)
def test_it_is_drawn_where_promises_differ_and_one_is_finite(promises: list[Any], count: int) -> None:
    """Dice and AUC for each unit: an epsilon per image is none per patient."""
    assert len(charts(*promises)) == count


def test_every_number_is_said_in_words() -> None:
    dice, auc = charts(promise(1.0), promise(None), None)
    assert dice.heading == "Dice over epsilon per image"
    title = dice.drawing.title
    assert "v0, epsilon 1: non-members 0.800, members 0.900" in title
    title = auc.drawing.title
    assert "v0, epsilon 1: mia-type2 0.500 [0.400, 0.600]" in title
    assert "v1, epsilon infinite: mia-type2 0.600 [0.500, 0.700]" in title
    assert "v2, no guarantee: mia-type2 0.700 [0.600, 0.800]" in title
    assert 'from left to right "v1", "v2"' in auc.drawing.caption
    assert "Dotted: guessing" in auc.drawing.caption
    assert "Dotted" not in dice.drawing.caption


def test_what_was_not_measured_is_left_out() -> None:
    rows = [compared(0, "a", privacy=promise()), compared(1, "b", utility={})]
    attacks = [guess(defence="a"), guess("mia-b", defence="a"), guess(row=1, defence="b")]
    content = audit(attacks, defences=rows)
    (auc,) = charts_of(content)
    assert [key.label for key in auc.drawing.keys] == ["mia-type2"]


def test_series_are_told_apart_without_colour() -> None:
    values = [Measure(0.5), Measure(0.6)]
    drawing = epsilon_drawing(
        {str(number): values for number in range(5)}, [1.0, None], ["a", "b"], measures="AUC"
    )
    assert (
        len({(key.marker, key.dash) for key in drawing.keys})
        == len({key.marker for key in drawing.keys})
        == 5
    )
    assert all(key.joined for key in drawing.keys)


def test_it_is_plain_svg_in_the_pages_colours() -> None:
    svg = drawn(1.0, 8.0, None)
    root = ElementTree.fromstring(svg)
    assert root.attrib["role"] == "img"
    assert "currentColor" in svg
    for hidden in ("style", "#000000", "#0a0b0c", "xmlns", "http"):
        assert hidden not in svg
    assert ">none</text>" in svg
    assert svg == drawn(1.0, 8.0, None)


def test_hostile_names_stay_text() -> None:
    values = [Measure(0.5), Measure(0.6)]
    names = ["</svg><script>alert(1)</script>", "$x^$"]
    drawing = epsilon_drawing({"<b>": values}, [1.0, None], names, measures="Dice")
    svg = inline(drawing, prefix="x")
    assert "<script" not in svg
    assert "<b>" not in svg
    ElementTree.fromstring(svg)
