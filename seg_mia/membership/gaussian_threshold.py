"""Lower bound on mu of a training that is a Gaussian mechanism, from independent scores at one threshold.

A training that uses all units in each step with Gaussian noise is mu-Gaussian private: no threshold has a
smaller false negative rate than Phi(Phi^-1(1 - FPR) - mu) (Dong, Roth, Su 2022). Clopper-Pearson bounds of
both rates bound mu from below, and mu gives epsilon at any delta. A pair (epsilon, delta) alone also allows
mechanisms that are far from Gaussian, so that the same rates show far less of it (`epsilon_lower_bound`).

Like that bound, this one assumes that the samples are independent: it is no proof. It is invalid for sampled
batches, whose losses are not Gaussian.
"""

from functools import lru_cache

import numpy as np
from scipy import special

from seg_mia.errors import InputError
from seg_mia.membership.arrays import Members, Scores
from seg_mia.membership.certify import Certified, ranked
from seg_mia.membership.roc import check_scores
from seg_mia.membership.tradeoff import gaussian_epsilon

HIGHEST_MU = 64.0
"""Largest mu that is tried; epsilon is then above 2000."""

STEPS = 60
"""Bisections, each of which halves the range."""


def gaussian_threshold_bound(
    scores: Scores, members: Members, *, delta: float, confidence: float = 0.95, seed: int = 0
) -> Certified:
    """Return the epsilon at `delta` of the largest mu-Gaussian privacy that errors at one threshold refute.

    As many samples are called members as there are members, those of highest scores; equal ones are ordered
    at random. This fixes the threshold by rank before any outcome is seen, uses all samples, and makes as
    many errors on either side. With n members and m non-members let beta and alpha be the rates on the curve
    of mu-Gaussian privacy with n beta = m alpha. Whatever the distribution of scores, as few errors as
    observed need that few on at least one side of the threshold with equal expected errors, and have at most
    the probability P[Binomial(n, beta) <= errors] + P[Binomial(m, alpha) <= errors].

    Args:
        scores: float (n + m,), higher for members.
        members: bool (n + m,).
        delta: at which epsilon is stated, in (0, 1).
        confidence: in (0, 1).
        seed: seed of the order of equal scores.

    Raises:
        InputError: errors of `check_scores`; delta or confidence out of range.
    """
    check_scores(scores, members)
    if not (0 < delta < 1 and 0 < confidence < 1):
        raise InputError(
            f"delta and confidence must lie between 0 and 1, got {delta} and {confidence}; 1e-5 and 0.95 are "
            "usual"
        )
    inside = int(np.count_nonzero(members))
    outside, order = len(members) - inside, ranked(scores, seed)
    errors = int(np.count_nonzero(~members[order[:inside]]))

    def shown(wrong: int) -> float:
        return gaussian_epsilon(rejected_mu(inside, outside, wrong, 1 - confidence), delta)

    return Certified(
        epsilon=shown(errors),
        attainable=shown(0),
        confidence=confidence,
        members=inside,
        nonmembers=outside,
        rule="gaussian_threshold",
        threshold=float(scores[order[inside - 1]]),
    )


def few_errors(members: int, nonmembers: int, errors: int, mu: float) -> float:
    """Bound the probability of at most `errors` on either side under mu-Gaussian privacy."""
    # n beta = m alpha on the curve beta = Phi(Phi^-1(1 - alpha) - mu), which falls with alpha.
    low, high = 0.0, min(1.0, members / nonmembers)
    for _ in range(STEPS):
        alpha = (low + high) / 2
        falls_short = float(special.ndtr(-special.ndtri(alpha) - mu)) > nonmembers / members * alpha
        low, high = (alpha, high) if falls_short else (low, alpha)
    beta = min(nonmembers / members * low, 1.0)
    return float(special.bdtr(errors, members, beta) + special.bdtr(errors, nonmembers, low))


@lru_cache(maxsize=4096)
def rejected_mu(members: int, nonmembers: int, errors: int, level: float) -> float:
    """Return a mu that is refuted at a level, next to one that is not; 0 if the smallest is not."""
    low, high = 0.0, HIGHEST_MU
    if few_errors(members, nonmembers, errors, high) < level:
        return high
    for _ in range(STEPS):
        middle = (low + high) / 2
        if few_errors(members, nonmembers, errors, middle) < level:
            low = middle
        else:
            high = middle
    return low
