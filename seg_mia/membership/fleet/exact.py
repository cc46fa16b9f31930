"""Exact null distribution of the Mann-Whitney statistic, summed over folds."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy import stats

from seg_mia.membership.fleet.arrays import Values

LARGEST = 64 * 64
"""Pairs of one fold up to which the distribution is exact; beyond, the normal one errs only far out, to the
careful side.
"""


def tail(wins: float, sides: Sequence[tuple[int, int]]) -> float:
    """Return the probability of at least as many pairs won by chance.

    Mann and Whitney 1947, Annals of Mathematical Statistics 18:50, equation 1; independent folds are
    convolved. A tie is half a win; half a win more than a whole number counts as none, which is conservative.

    Args:
        wins: number of pairs won, over all folds.
        sides: numbers of networks with and without the patient in each fold.
    """
    if any(members * nonmembers > LARGEST for members, nonmembers in sides):
        mean = sum(members * nonmembers for members, nonmembers in sides) / 2
        variance = (
            sum(members * nonmembers * (members + nonmembers + 1) for members, nonmembers in sides) / 12
        )
        return float(stats.norm.sf((wins - mean) / np.sqrt(variance)))
    tails = _tails(tuple(sorted(sides)))
    return float(min(1.0, tails[int(np.floor(wins + 1e-6))]))


@lru_cache(maxsize=4096)
def _tails(sides: tuple[tuple[int, int], ...]) -> Values:
    """Return the probabilities of at least 0, 1, 2... wins over all folds."""
    chances = np.ones(1)
    for members, nonmembers in sides:
        chances = np.convolve(chances, _chances(members, nonmembers))
    return np.cumsum(chances[::-1])[::-1]


@lru_cache(maxsize=1024)
def _chances(inside: int, outside: int) -> Values:
    """Return the probability of each number of wins, (inside * outside + 1,).

    The highest of all scores is one of the inside, which wins against the whole outside, or of the outside.
    """
    column = [np.ones(1)] * (outside + 1)
    for m in range(1, inside + 1):
        row = [np.ones(1)]
        for n in range(1, outside + 1):
            chances = np.zeros(m * n + 1)
            chances[n:] += m / (m + n) * column[n]
            chances[: m * (n - 1) + 1] += n / (m + n) * row[n - 1]
            row.append(chances)
        column = row
    return column[outside]
