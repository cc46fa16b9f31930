import numpy as np
import pytest
from numpy.typing import NDArray

from seg_mia.results.exposed import exposed_sheet, extremes
from seg_mia.results.pictures import Tile


def sampled() -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """200 members and 150 non-members, whose scores are normal and 1.5 apart."""
    members = np.arange(350) < 200
    return np.random.default_rng(0).normal(size=350) + 1.5 * members, members


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
        "most exposed members": [1, 0],
        "least exposed members": [2, 6],
        "non-members classified as members": [3, 5],
    }
    assert all(where.dtype == np.int64 for where in found.values())


def test_extremes_keep_ties_in_order_and_give_no_more_than_exist() -> None:
    scores = np.array([1.0, 2.0, 1.0, 2.0, 1.0, -np.inf])
    members = np.array([True, True, True, True, False, False])
    found = extremes(scores, members, 10)
    assert found["most exposed members"].tolist() == [1, 3, 0, 2]
    assert found["least exposed members"].tolist() == [0, 2, 1, 3]
    assert found["non-members classified as members"].tolist() == [4, 5]
    assert extremes(scores, members, 1)["most exposed members"].tolist() == [1]
    assert all(len(where) == 0 for where in extremes(scores, members, 0).values())
    assert extremes(scores, ~np.zeros(6, bool), 3)["non-members classified as members"].size == 0


def test_many_equal_scores_keep_their_order() -> None:
    members = np.arange(1000) % 3 == 0
    found = extremes(np.ones(1000), members, 1000)
    assert np.array_equal(found["most exposed members"], np.flatnonzero(members))
    assert np.array_equal(found["least exposed members"], np.flatnonzero(members))
    assert np.array_equal(found["non-members classified as members"], np.flatnonzero(~members))
    scores = np.random.default_rng(0).integers(0, 5, 1000).astype(float)
    ranked = extremes(scores, members, 1000)["most exposed members"].tolist()
    assert ranked == sorted(np.flatnonzero(members).tolist(), key=lambda at: (-scores[at], at))


def test_samples_that_do_not_fit_are_refused() -> None:
    scores, members = sampled()
    with pytest.raises(TypeError, match="members must be of type bool, got int64"):
        extremes(scores, members.astype(np.int64), 3)
    with pytest.raises(ValueError, match=r"shape \(n,\), n > 0, got \(350,\) and \(349,\)"):
        extremes(scores, members[1:], 3)
    with pytest.raises(ValueError, match="got 1 NaN"):
        extremes(np.append(scores, np.nan), np.append(members, True), 3)
    with pytest.raises(ValueError, match="count must be 0 or more, got -1"):
        extremes(scores, members, -1)
