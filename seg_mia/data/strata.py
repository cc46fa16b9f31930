"""How much of each sample is foreground, in bins: what a split can be balanced by."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from seg_mia.masks import IGNORE


def foreground_strata(masks: Iterable[NDArray[np.uint8]], bins: int) -> list[int]:
    """Return the bin of each mask (h, w) by the share of its pixels that are not class 0, (n,), from 0.

    Bins hold equally many masks, but for those of one share, which are never parted; pixels to ignore do not
    count, and a mask of nothing else has a share of 0.
    """
    shares = np.array([_share(mask) for mask in masks])
    if not shares.size:
        return []
    edges = np.quantile(shares, np.arange(1, bins) / bins, method="higher")
    found: list[int] = np.searchsorted(np.unique(edges), shares, side="right").tolist()
    return found


def _share(mask: NDArray[np.uint8]) -> float:
    labelled = int(np.count_nonzero(mask != IGNORE))
    return int(np.count_nonzero((mask != 0) & (mask != IGNORE))) / max(labelled, 1)
