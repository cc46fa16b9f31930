from itertools import pairwise

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from seg_mia.results.membership_figures import (
    BINS,
    MEMBER,
    NONMEMBER,
    Curve,
    _histogram,
    _roc,
    exposed_sheet,
    extremes,
    roc_figure,
    score_histogram,
)
from sklearn.metrics import roc_curve

from seg_mia.results.pictures import Tile

Scores = NDArray[np.float64]
Members = NDArray[np.bool_]


def sampled(shift: float = 1.5) -> tuple[Scores, Members]:
    """200 members and 150 non-members, whose scores are normal and `shift` apart."""
    members = np.arange(350) < 200
    return np.random.default_rng(0).normal(size=350) + shift * members, members


def curve(scores: Scores, members: Members) -> Curve:
    fpr, tpr, _ = roc_curve(members, scores)
    return Curve(fpr, tpr, "AUC")


def points(*pairs: tuple[float, float]) -> Curve:
    return Curve(np.array([x for x, _ in pairs]), np.array([y for _, y in pairs]), "")


def shows(pixels: NDArray[np.uint8], colour: list[float]) -> bool:
    distance = np.abs(pixels.astype(int) - np.round(np.array(colour) * 255)).max(2)
    return int((distance <= 3).sum()) > 50


def line(figure: Figure, label: str) -> Line2D:
    (found,) = (drawn for drawn in figure.axes[0].lines if drawn.get_label() == label)
    return found


def corners(figure: Figure, label: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in np.asarray(line(figure, label).get_xydata())]


def texts(figure: Figure) -> list[str]:
    legend = figure.axes[0].get_legend()
    assert legend is not None
    return [text.get_text() for text in legend.get_texts()]


def densities(figure: Figure) -> list[Scores]:
    drawn = [patch.get_data() for patch in figure.axes[0].patches]  # type: ignore[attr-defined]
    return [np.nan_to_num(data.values) for data in drawn]


def test_figures_are_pixels_no_wider_than_a_card_and_a_roc_is_square() -> None:
    scores, members = sampled()
    roc = roc_figure({"loss": curve(scores, members)}, 150)
    histogram = score_histogram(scores, members, 0.7)
    for pixels in (roc, histogram):
        assert pixels.dtype == np.uint8
        assert pixels.ndim == 3
        assert pixels.shape[2] == 3
        assert 500 <= pixels.shape[1] <= 700
    assert roc.shape[0] == roc.shape[1]


def test_a_roc_is_drawn_in_steps_worked_out_by_hand() -> None:
    drawn = points((0.0, 0.0), (0.0, 0.2), (0.25, 0.2), (0.25, 0.6), (0.5, 0.6), (0.75, 1.0), (1.0, 1.0))
    expected = [(0.001, 0.2), (0.25, 0.2), (0.25, 0.6), (0.5, 0.6), (0.75, 0.6), (0.75, 1), (1, 1)]
    assert list(dict.fromkeys(corners(_roc({"a": drawn}, 4), "a"))) == expected


def test_no_piece_of_a_staircase_is_oblique_and_the_order_of_points_does_not_matter() -> None:
    drawn = curve(*sampled())
    order = np.random.default_rng(1).permutation(len(drawn.fpr))
    shuffled = Curve(drawn.fpr[order], drawn.tpr[order], "AUC")
    figure = _roc({"a": drawn, "b": shuffled}, 150)
    found = corners(figure, "a: AUC")
    assert found == corners(figure, "b: AUC")
    assert all(x0 == x1 or y0 == y1 for (x0, y0), (x1, y1) in pairwise(found))
    assert found[-1] == (1, 1)


def test_between_two_points_the_tpr_is_that_of_the_lower_fpr() -> None:
    hard = points((0.0, 0.0), (0.1, 0.8), (1.0, 1.0))
    assert list(dict.fromkeys(corners(_roc({"a": hard}, 10), "a"))) == [
        (0.1, 0.001),
        (0.1, 0.8),
        (1, 0.8),
        (1, 1),
    ]


def test_perfect_separation_runs_along_the_top() -> None:
    scores, members = sampled()
    perfect = curve(scores + 100 * members, members)
    assert set(corners(_roc({"a": perfect}, 150), "a: AUC")) == {(0.001, 1), (1, 1)}
    assert shows(roc_figure({"a": perfect}, 150), MEMBER)


@pytest.mark.parametrize(("nonmembers", "low"), [(1, 0.001), (150, 0.001), (500, 0.001), (20000, 2.5e-5)])
def test_a_roc_begins_below_one_nonmember(nonmembers: int, low: float) -> None:
    figure = _roc({"a": curve(*sampled())}, nonmembers)
    axes = figure.axes[0]
    assert axes.get_xlim() == axes.get_ylim() == pytest.approx((low, 1))
    assert axes.get_xscale() == axes.get_yscale() == "log"
    shaded = axes.patches[0].get_extents().transformed(axes.transData.inverted())
    assert (shaded.x0, shaded.x1) == pytest.approx((low, 1 / nonmembers))
    assert any("fewer than one non-member" in text.get_text() for text in axes.texts)
    assert corners(figure, "chance") == [(low, low), (1, 1)]


def test_the_legend_names_each_curve_and_chance() -> None:
    one = points((0.0, 0.1), (1.0, 1.0))
    found = texts(_roc({"LiRA": one._replace(label="AUC 0.91 [0.88, 0.94]"), "label only": one}, 10))
    assert found == ["LiRA: AUC 0.91 [0.88, 0.94]", "label only", "chance"]


def test_a_dozen_curves_look_different() -> None:
    figure = _roc({str(number): points((0.0, 0.1)) for number in range(12)}, 10)
    looks = {
        (str(drawn.get_color()), str(drawn._dash_pattern))  # type: ignore[attr-defined]  # no public name
        for drawn in (line(figure, str(number)) for number in range(12))
    }
    assert len(looks) == 12


def test_a_roc_without_nonmembers_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one non-member, got 0"):
        roc_figure({"a": points((0.0, 1.0))}, 0)


@pytest.mark.parametrize("shift", [0.0, 1.5, 100.0])
def test_members_and_nonmembers_have_their_colours(shift: float) -> None:
    pixels = score_histogram(*sampled(shift), None)
    assert shows(pixels, MEMBER)
    assert shows(pixels, NONMEMBER)


def test_each_class_has_area_one_in_the_same_bins() -> None:
    scores, members = sampled()
    figure = _histogram(scores, members, 0.7, "loss")
    inside, outside = figure.axes[0].patches
    edges = inside.get_data().edges  # type: ignore[attr-defined]
    assert np.array_equal(edges, outside.get_data().edges)  # type: ignore[attr-defined]
    assert len(edges) == BINS + 1
    np.testing.assert_allclose((edges[0], edges[-1]), np.percentile(scores, [0.5, 99.5]))
    for density in densities(figure):
        assert (density * np.diff(edges)).sum() == pytest.approx(1)
    assert texts(figure) == ["members (200)", "non-members (150)", "threshold 0.7"]
    assert line(figure, "threshold 0.7").get_linestyle() == "--"


def test_scores_beyond_the_bins_are_counted_in_the_outer_ones_and_said_so() -> None:
    scores = np.append(np.linspace(0, 1, 1001), [50.0, np.inf, -np.inf])
    figure = _histogram(scores, scores > 0.5, None, "loss")
    xlabel = figure.axes[0].get_xlabel()
    low, high = np.percentile(scores[:-2], [0.5, 99.5])
    beyond = int(((scores < low) | (scores > high)).sum())
    assert xlabel == f"loss\nouter bins also hold {beyond} of 1004 scores from beyond"
    assert texts(figure) == [f"members ({(scores > 0.5).sum()})", f"non-members ({(scores <= 0.5).sum()})"]
    assert _histogram(np.array([0.0, 1.0] * 300), np.arange(600) < 300, None, "x").axes[0].get_xlabel() == "x"


@pytest.mark.parametrize("value", [0.0, 1.0, -1e9, np.inf])
def test_constant_scores_fill_one_bin(value: float) -> None:
    _, members = sampled()
    scores = np.full(350, value)
    assert score_histogram(scores, members, value).dtype == np.uint8
    for density in densities(_histogram(scores, members, None, "x")):
        (filled,) = np.flatnonzero(density)
        assert filled == (BINS - 1 if np.isinf(value) else BINS // 2)


def test_constant_scores_stand_in_the_middle() -> None:
    _, members = sampled()
    bars = _histogram(np.full(350, 3.0), members, None, "x").axes[0].patches[0]
    edges = bars.get_data().edges  # type: ignore[attr-defined]
    np.testing.assert_allclose(edges[BINS // 2 : BINS // 2 + 2].mean(), 3)


def test_all_but_a_few_scores_being_equal_does_not_narrow_the_bins_to_nothing() -> None:
    scores, members = np.zeros(1000), np.arange(1000) < 500
    scores[0] = 1
    inside, outside = densities(_histogram(scores, members, None, "x"))
    assert np.flatnonzero(inside).tolist() == [0, BINS - 1]
    assert np.flatnonzero(outside).tolist() == [0]


def test_a_class_without_samples_is_left_empty() -> None:
    scores, members = sampled()
    assert texts(_histogram(scores, np.ones_like(members), None, "x")) == ["members (350)", "non-members (0)"]
    assert score_histogram(scores, np.zeros_like(members), None).dtype == np.uint8


@pytest.mark.parametrize("threshold", [np.inf, -np.inf, 1e6])
def test_a_threshold_off_scale_stands_at_the_end_and_says_so(threshold: float) -> None:
    scores, members = sampled()
    figure = _histogram(scores, members, threshold, "x")
    ends = np.percentile(scores, [0.5, 99.5])
    (at, _), _ = corners(figure, f"threshold {threshold:.3g} (off scale)")
    assert at == pytest.approx(ends[int(threshold > 0)])


@pytest.mark.parametrize("threshold", [None, -123456.789])
def test_nothing_is_cut_off(threshold: float | None) -> None:
    rng = np.random.default_rng(0)
    members = np.arange(40000) < 20000
    drawn = score_histogram(rng.standard_t(3, 40000), members, threshold)
    roc = roc_figure({"LiRA, offline, 16 shadow models": curve(*sampled())}, 20000)
    for pixels in (drawn, roc):
        border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
        assert (border == 255).all()


def test_a_sheet_has_three_columns() -> None:
    colours = np.eye(3, dtype=np.float32)
    row = [Tile(np.broadcast_to(colour, (4, 4, 3))) for colour in colours]
    one, two = exposed_sheet([row], ["a"]), exposed_sheet([row, row], ["a", "b"])
    assert one.dtype == np.uint8
    assert one.shape[1] == two.shape[1] <= 700
    columns = [
        np.argwhere((two == (colour * 255).astype(np.uint8)).all(2))[:, 1].mean() for colour in colours
    ]
    assert columns == sorted(columns)


def test_extremes_worked_out_by_hand() -> None:
    scores = np.array([0.3, 0.9, 0.1, 0.8, 0.5, 0.7, 0.2])
    members = np.array([True, True, True, False, False, False, True])
    found = extremes(scores, members, 2)
    assert {name: where.tolist() for name, where in found.items()} == {
        "members most exposed": [1, 0],
        "members least exposed": [2, 6],
        "non-members taken for members": [3, 5],
    }
    assert all(where.dtype == np.int64 for where in found.values())


def test_extremes_keep_ties_in_order_and_give_no_more_than_exist() -> None:
    scores = np.array([1.0, 2.0, 1.0, 2.0, 1.0, -np.inf])
    members = np.array([True, True, True, True, False, False])
    found = extremes(scores, members, 10)
    assert found["members most exposed"].tolist() == [1, 3, 0, 2]
    assert found["members least exposed"].tolist() == [0, 2, 1, 3]
    assert found["non-members taken for members"].tolist() == [4, 5]
    assert extremes(scores, members, 1)["members most exposed"].tolist() == [1]
    assert all(len(where) == 0 for where in extremes(scores, members, 0).values())
    assert extremes(scores, ~np.zeros(6, bool), 3)["non-members taken for members"].size == 0


def test_many_equal_scores_keep_their_order() -> None:
    members = np.arange(1000) % 3 == 0
    found = extremes(np.ones(1000), members, 1000)
    assert np.array_equal(found["members most exposed"], np.flatnonzero(members))
    assert np.array_equal(found["members least exposed"], np.flatnonzero(members))
    assert np.array_equal(found["non-members taken for members"], np.flatnonzero(~members))
    scores = np.random.default_rng(0).integers(0, 5, 1000).astype(float)
    ranked = extremes(scores, members, 1000)["members most exposed"].tolist()
    assert ranked == sorted(np.flatnonzero(members).tolist(), key=lambda at: (-scores[at], at))


def test_samples_that_do_not_fit_are_refused() -> None:
    scores, members = sampled()
    with pytest.raises(TypeError, match="members must be of type bool, got int64"):
        extremes(scores, members.astype(np.int64), 3)
    with pytest.raises(ValueError, match=r"shape \(n,\), n > 0, got \(350,\) and \(349,\)"):
        score_histogram(scores, members[1:], None)
    with pytest.raises(ValueError, match="got 1 NaN"):
        score_histogram(np.append(scores, np.nan), np.append(members, True), None)
    with pytest.raises(ValueError, match="count must be 0 or more, got -1"):
        extremes(scores, members, -1)
