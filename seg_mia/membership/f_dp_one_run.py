"""Lower bound on the privacy loss of one training from the trade-off function of its mechanism.

A mechanism is f-private if no test of one unit's presence has a smaller false negative rate than f of its
false positive rate (Dong, Roth, Su 2022). The number of right guesses of canaries in one training refutes a
trade-off function, not a pair (epsilon, delta) alone (Mahloujifar, Melis, Chaudhuri 2024, arXiv:2410.22235).
Here it is that of mu-Gaussian privacy, f(x) = Phi(Phi^-1(1 - x) - mu), which holds for trainings that use all
units in each step.
"""

from scipy import special

from seg_mia.membership.arrays import Members, Scores
from seg_mia.membership.certify import Certified, by_guesses, checked_coins
from seg_mia.membership.tradeoff import gaussian_epsilon

HIGHEST_MU = 64.0
"""Largest mu that is tried; epsilon is then above 2000."""

TOLERANCE = 1e-3
"""Width at which the search for mu ends; the lower end is returned."""


def f_dp_one_run_bound(
    scores: Scores,
    inserted: Members,
    *,
    delta: float,
    guesses: int | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> Certified:
    """Return the epsilon at `delta` of the largest mu-Gaussian privacy that the right guesses refute.

    The highest scores are guessed as inserted and the lowest as left out, half of the guesses each; an odd
    number has one more inserted. The rule is fixed before any outcome is seen. The other canaries are not
    guessed, which proves more than guessing all.

    Args:
        scores: float (n,), higher for inserted samples.
        inserted: bool (n,), independent fair coins.
        delta: at which epsilon is stated, in (0, 1).
        guesses: in [1, n], fixed before the scores are seen; by default half of the samples, 2 * (n // 4).
        confidence: in (0, 1).
        seed: seed of the order of equal scores.

    Raises:
        InputError: errors of `check_scores`; delta, confidence or guesses out of range; unfair coins.
    """
    alpha = checked_coins(scores, inserted, delta, confidence)

    def proved(samples: int, made: int, right: int) -> float:
        return gaussian_epsilon(_rejected_mu(samples, made, right, alpha), delta)

    return by_guesses(
        scores, inserted, proved, "f_dp_one_run", guesses=guesses, confidence=confidence, seed=seed
    )


def refuted(samples: int, guesses: int, right: int, *, mu: float, alpha: float) -> bool:
    """Return whether mu-Gaussian privacy gives `right` or more correct guesses less than a chance of alpha.

    Let p_j be the probability of j correct ones of all `guesses`, r_i the sum of j p_j / samples over j >= i,
    and h_i that of (guesses - j) p_j / samples. Turning one coin makes a right guess wrong and lowers j by
    one, so that r_(i+1) <= 1 - f(h_i), which is h_i >= Phi(Phi^-1(r_(i+1)) - mu). If alpha lay at j = right,
    the smallest r_0 and h_0 that these inequalities leave, downwards from `right`, would have to fit their
    sum, guesses / samples (Mahloujifar et al. 2024, theorem 3.2 and algorithm 3).
    """
    r, h = alpha * right / samples, alpha * (guesses - right) / samples
    for i in range(right - 1, -1, -1):
        least = float(special.ndtr(special.ndtri(r) - mu))
        if least > h:
            r, h = min(r + i / (guesses - i) * (least - h), 1.0), least
    return r + h > guesses / samples


def _rejected_mu(samples: int, guesses: int, right: int, alpha: float) -> float:
    """Return a mu refuted at alpha next to one that is not; 0 if the smallest is not."""
    low, high = 0.0, HIGHEST_MU
    if refuted(samples, guesses, right, mu=high, alpha=alpha):
        return high
    while high - low > TOLERANCE:
        middle = (low + high) / 2
        if refuted(samples, guesses, right, mu=middle, alpha=alpha):
            low = middle
        else:
            high = middle
    return low
