"""Maximum success of any attack on one unit's membership under a privacy guarantee.

A guarantee bounds the trade-off between false and true positives (Dong, Roth, Su 2022, "Gaussian
differential privacy", arXiv:1905.02383). For the Gaussian mechanism it is known exactly; otherwise each
valid pair (epsilon, delta) gives a pair of lines that bound every attack (Kairouz, Oh, Viswanath 2015).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

STRIPS = 10_000
"""Midpoint strips for the area below a bound; since it is concave, the area is never underestimated."""
SAFE = 1e-12
"""Relative margin added to an epsilon found by bisection."""


@dataclass(frozen=True)
class Permitted:
    """The most that an attack on one unit may reach, whatever it knows.

    Attributes:
        auc: area under the curve of true over false positive rates, in [0.5, 1].
        tpr_at_10: true positive rate at a false positive rate of 10 %.
        tpr_at_1: true positive rate at a false positive rate of 1 %.
        by: what it follows from: `gaussian` is exact, `prv` and `rdp` are the accountant's whole curve,
            `point` is the one pair (epsilon, delta) that was promised, which permits the most.
    """

    auc: float
    tpr_at_10: float
    tpr_at_1: float
    by: str


def of_gaussian(mu: float) -> Permitted:
    """Return the bounds of mu-Gaussian privacy; T steps that use all units have mu = sqrt(T) / noise.

    TPR = Phi(Phi^-1(FPR) + mu), AUC = Phi(mu / sqrt(2)); mu may be infinite.
    """
    tpr_at_10, tpr_at_1 = gaussian_limit(np.array([0.1, 0.01]), mu).tolist()
    return Permitted(float(special.ndtr(mu / math.sqrt(2))), tpr_at_10, tpr_at_1, "gaussian")


def of_points(points: Sequence[tuple[float, float]], by: str) -> Permitted:
    """Return the bounds of pairs (epsilon, delta), all valid for one training; infinite ones are ignored."""
    known = [(epsilon, delta) for epsilon, delta in points if math.isfinite(epsilon)]
    middles = (np.arange(STRIPS) + 0.5) / STRIPS
    auc = float(tpr_limit(middles, known).mean())
    tpr_at_10, tpr_at_1 = (float(rate) for rate in tpr_limit(np.array([0.1, 0.01]), known))
    return Permitted(max(auc, 0.5), tpr_at_10, tpr_at_1, by)


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Return the smallest epsilon of a mu-Gaussian mechanism, mu >= 0, at a delta in (0, 1), rounded up.

    delta(epsilon) = Phi(mu / 2 - epsilon / mu) - e^epsilon Phi(-mu / 2 - epsilon / mu) (Balle and Wang 2018,
    arXiv:1805.06530, theorem 8) falls with epsilon.
    """
    if not math.isfinite(mu):
        return math.inf
    if mu == 0:
        return 0.0
    if gaussian_delta(mu, 0.0) <= delta:
        return 0.0
    low, high = 0.0, 1.0
    while gaussian_delta(mu, high) > delta:
        low, high = high, 2 * high
    while (middle := (low + high) / 2) not in {low, high}:
        low, high = (middle, high) if gaussian_delta(mu, middle) > delta else (low, middle)
    return high * (1 + SAFE)


def gaussian_delta(mu: float, epsilon: float) -> float:
    """Return delta of a mu-Gaussian mechanism, mu above 0, at an epsilon of 0 or more."""
    above = special.ndtr(mu / 2 - epsilon / mu)
    return float(above - math.exp(epsilon + special.log_ndtr(-mu / 2 - epsilon / mu)))


def gaussian_limit(fpr: NDArray[np.float64], mu: float) -> NDArray[np.float64]:
    """Return the maximum true positive rates under mu-Gaussian privacy, (n,): Phi(Phi^-1(FPR) + mu)."""
    limit: NDArray[np.float64] = np.where(
        fpr > 0, special.ndtr(special.ndtri(fpr) + mu), 1.0 if math.isinf(mu) else 0.0
    )
    return limit


def tpr_limit(fpr: NDArray[np.float64], points: Sequence[tuple[float, float]]) -> NDArray[np.float64]:
    """Return the maximum true positive rates at given false positive rates, (n,).

    TPR <= e^epsilon FPR + delta, and the same with members and non-members exchanged:
    1 - FPR <= e^epsilon (1 - TPR) + delta.
    """
    limit = np.ones_like(fpr)
    for epsilon, delta in points:
        with np.errstate(over="ignore"):  # e^epsilon may be infinite, which bounds nothing
            limit = np.minimum(limit, np.exp(epsilon) * fpr + delta)
        limit = np.minimum(limit, 1 - np.exp(-epsilon) * np.maximum(1 - delta - fpr, 0))
    return limit
