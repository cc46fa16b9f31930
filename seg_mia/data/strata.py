"""Bins of the foreground fraction for stratified splits."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from seg_mia.metrics.labels import IGNORE


def foreground_strata(masks: Iterable[NDArray[np.uint8]], bins: int) -> list[int]:
    """Return the bin of each mask (h, w) by its fraction of pixels other than class 0, (n,), from 0.

    Bins have nearly equal counts; masks of equal fraction share a bin. Ignored pixels do not count, and a
    mask without others has a fraction of 0.
    """
    shares = np.array([_share(mask) for mask in masks])
    if not shares.size:
        return []
    values, counts = np.unique(shares, return_counts=True)
    below = np.cumsum(counts)[:-1]  # masks on the left of each gap between two shares
    targets = np.arange(1, bins) * len(shares) / bins
    cuts = {int(np.abs(below - target).argmin()) for target in targets} if below.size else set[int]()
    edges = [values[cut + 1] for cut in sorted(cuts)]
    strata: list[int] = np.searchsorted(edges, shares, side="right").tolist()
    return strata


def _share(mask: NDArray[np.uint8]) -> float:
    labelled = int(np.count_nonzero(mask != IGNORE))
    return int(np.count_nonzero((mask != 0) & (mask != IGNORE))) / max(labelled, 1)
