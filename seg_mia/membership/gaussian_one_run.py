"""Lower bound on the privacy loss of one training that is a Gaussian mechanism.

A training that uses all units in each of T steps with Gaussian noise is mu-Gaussian private, mu = sqrt(T) /
noise (Dong, Roth, Su 2022). Its worst canaries have privacy losses of a known distribution, of which only the
order is used: the k-th smallest absolute loss bounds the chance of an error of the k-th least certain guess
(Xiang et al. 2025, arXiv:2509.08704). A promise of this kind can be refuted by far fewer canaries than one of
a pair (epsilon, delta) alone, which may be spent in a single catastrophic event.

The bound is invalid for sampled batches, whose losses are not Gaussian.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from seg_mia.membership.arrays import Members, Scores
from seg_mia.membership.certify import Certified, checked_coins, ranked
from seg_mia.membership.tradeoff import gaussian_epsilon

POINTS = 4000
"""Points of the grid of outputs of the mechanism; with 1000 bounds are lower by a few per cent."""

TAIL = 6.0
"""Standard deviations of the mechanism's output on either side of the grid."""

ROWS = 256
"""Order statistics computed at a time, which limits memory to some 10 MB."""

HIGHEST_MU = 64.0
"""Largest mu that is tried; epsilon is then above 2000."""

TOLERANCE = 1e-3
"""Width at which the search for mu ends; the lower end is returned."""


def gaussian_one_run_bound(
    scores: Scores, inserted: Members, *, delta: float, confidence: float = 0.95, seed: int = 0
) -> Certified:
    """Return the epsilon at `delta` of the largest mu-Gaussian privacy that the guesses refute.

    All n canaries are guessed: the half of highest scores as inserted, the others as left out; an odd one is
    guessed as inserted. The rule is thus fixed before any outcome is seen: choosing the best threshold
    afterwards would overstate the bound.

    Args:
        scores: float (n,), higher for inserted samples.
        inserted: bool (n,), independent fair coins.
        delta: at which epsilon is stated, in (0, 1).
        confidence: in (0, 1).
        seed: seed of the order of equal scores.

    Raises:
        InputError: errors of `check_scores`; delta or confidence out of range; unfair coins.
    """
    alpha = checked_coins(scores, inserted, delta, confidence)
    order, count = ranked(scores, seed), len(scores)
    guessed = np.zeros(count, dtype=np.bool_)
    guessed[order[: count - count // 2]] = True
    errors = int(np.count_nonzero(guessed != inserted))
    return Certified(
        epsilon=gaussian_epsilon(_rejected_mu(count, errors, alpha), delta),
        attainable=gaussian_epsilon(_rejected_mu(count, 0, alpha), delta),
        confidence=confidence,
        members=int(np.count_nonzero(inserted)),
        nonmembers=int(np.count_nonzero(~inserted)),
        rule="gaussian_one_run",
        threshold=float(scores[order[count - count // 2 - 1]]),
    )


def gaussian_p_value(canaries: int, errors: int, mu: float) -> float:
    """Bound the probability of at most `errors` wrong guesses of all canaries under mu-Gaussian privacy.

    Chernoff's bound of a sum of independent errors of probability v_k, the mean of 1 / (1 + exp|L|_(k)) over
    the k-th smallest of `canaries` absolute privacy losses |L|.
    """
    chances = error_chances(canaries, mu)

    def log_bound(rate: float) -> float:
        return float(rate * errors + np.log1p(chances * np.expm1(-rate)).sum())

    if errors >= chances.sum():
        return 1.0
    best = optimize.minimize_scalar(log_bound, bounds=(0.0, 60.0), method="bounded")
    return math.exp(min(0.0, float(best.fun)))


def error_chances(canaries: int, mu: float) -> NDArray[np.float64]:
    """Return v_k, the least chance of a wrong guess of the k-th least certain canary, (canaries,).

    The output w of the mechanism is Normal(mu, 1) with the canary and Normal(0, 1) without, each with
    probability 1/2; the privacy loss is mu^2 / 2 - mu w.
    """
    w = np.linspace(-TAIL, mu + TAIL, POINTS)
    mass = np.exp(-(w**2) / 2) + np.exp(-((w - mu) ** 2) / 2)
    losses = np.abs(mu * mu / 2 - mu * w)
    order = np.argsort(losses)
    losses, mass = losses[order], mass[order] / mass.sum()
    below = np.cumsum(mass) - mass / 2
    parts = []
    for first in range(1, canaries + 1, ROWS):
        k = np.arange(first, min(first + ROWS, canaries + 1))[:, None]
        log_weights = (k - 1) * np.log(below) + (canaries - k) * np.log1p(-below) + np.log(mass)
        weights = special.softmax(log_weights, axis=1)  # the binomial factor is the same along a row
        parts.append(weights @ special.expit(-losses))
    return np.concatenate(parts)


def _rejected_mu(canaries: int, errors: int, alpha: float) -> float:
    """Return a mu rejected at alpha next to one that is not; 0 if the smallest is not."""
    low, high = 0.0, HIGHEST_MU
    if gaussian_p_value(canaries, errors, high) < alpha:
        return high
    while high - low > TOLERANCE:
        middle = (low + high) / 2
        if gaussian_p_value(canaries, errors, middle) < alpha:
            low = middle
        else:
            high = middle
    return low
