"""Stability of patients' risks over two halves of a fleet."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from seg_mia.errors import InputError
from seg_mia.membership.fleet.arrays import Folds, Inside, Values, mates


@dataclass(frozen=True)
class Stability:
    """Agreement of two halves of a fleet on the exposed patients.

    Attributes:
        spearman: rank correlation of the AUCs; None if those of one half are all equal.
        jaccard: Jaccard index of the most exposed patients of the halves, in [0, 1].
    """

    spearman: float | None
    jaccard: float


def network_halves(inside: Inside) -> tuple[Folds, Folds]:
    """Return the indices of two disjoint halves of a fleet; complementary networks stay together.

    Args:
        inside: bool (networks, n).

    Raises:
        InputError: fewer than two pairs or networks without complement.
    """
    complement = mates(inside)
    first = np.array([min(number, mate) if mate >= 0 else number for number, mate in enumerate(complement)])
    units = np.unique(first)
    if len(units) < 2:
        raise InputError(
            f"halves need at least 2 pairs of networks, or 2 networks without complement, got {len(units)}; "
            "train more networks"
        )
    half = np.isin(first, units[::2])
    return np.flatnonzero(half), np.flatnonzero(~half)


def stability(first: Values, second: Values, *, top: float = 0.05) -> Stability:
    """Return the agreement between two halves' AUCs of the same patients.

    Args:
        first: (patients,).
        second: (patients,).
        top: fraction of patients considered most exposed, in (0, 1]; at least one patient.

    Raises:
        InputError: shapes that differ, fewer than two patients.
    """
    if first.shape != second.shape or first.ndim != 1 or len(first) < 2:
        raise InputError(
            f"both halves must have the same patients, at least 2, got {first.shape}, {second.shape}"
        )
    count = max(1, round(top * len(first)))
    flagged = [set(np.argsort(-area, kind="stable")[:count].tolist()) for area in (first, second)]
    flat = np.ptp(first) == 0 or np.ptp(second) == 0
    return Stability(
        spearman=None if flat else float(stats.spearmanr(first, second).statistic),
        jaccard=len(flagged[0] & flagged[1]) / len(flagged[0] | flagged[1]),
    )
