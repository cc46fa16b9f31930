"""Samples classified most confidently by a membership attack."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from seg_mia.results.pictures import Tile, draw

TITLES = ("image", "truth", "prediction")


def exposed_sheet(rows: Sequence[Sequence[Tile]], names: Sequence[str]) -> NDArray[np.uint8]:
    """Return a sheet (H, W, 3) of samples, each a row of image, truth and prediction."""
    return draw(TITLES, rows, names)


def extremes(
    scores: NDArray[np.float64], members: NDArray[np.bool_], count: int
) -> dict[str, NDArray[np.int64]]:
    """Return the positions of at most `count` samples of each kind, the most extreme first, ties in order."""
    _check(scores, members)
    if count < 0:
        raise ValueError(f"count must be 0 or more, got {count}")
    member_rows, nonmember_rows = np.flatnonzero(members), np.flatnonzero(~members)
    return {
        "most exposed members": _sorted(member_rows, -scores)[:count],
        "least exposed members": _sorted(member_rows, scores)[:count],
        "non-members classified as members": _sorted(nonmember_rows, -scores)[:count],
    }


def _sorted(positions: NDArray[np.int64], keys: NDArray[np.float64]) -> NDArray[np.int64]:
    return positions[np.argsort(keys[positions], kind="stable")].astype(np.int64)


def _check(scores: NDArray[np.float64], members: NDArray[np.bool_]) -> None:
    if members.dtype != np.bool_:
        raise TypeError(f"members must be of type bool, got {members.dtype}; use members.astype(bool)")
    if scores.ndim != 1 or scores.shape != members.shape or not scores.size:
        raise ValueError(
            f"scores and members must both have shape (n,), n > 0, got {scores.shape} and {members.shape}"
        )
    if np.isnan(scores).any():
        raise ValueError(f"scores must be numbers, got {np.isnan(scores).sum()} NaN; drop or replace them")
