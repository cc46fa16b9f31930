"""Privacy accounting of DP-SGD with Opacus' accountants; the only file that imports Opacus."""

import logging
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seg_mia.defences.dp.replacement import group_epsilon, replacement_epsilon
from seg_mia.errors import InputError
from seg_mia.membership.tradeoff import (
    Permitted,
    gaussian_epsilon,
    gaussian_limit,
    of_gaussian,
    of_points,
    tpr_limit,
)

Accountant = Literal["prv", "rdp"]

# Warnings of an accountant about its own numerics, each conservative.
_REMARKS = ("Optimal order is the", "invalid value", "overflow", "divide by zero")


MOST_NOISE = 1e4
"""Upper limit of noise multipliers: nothing is learnt beyond it."""

LEAST_NOISE = 0.01
"""Lower limit of noise multipliers: noise below it is negligible."""

SAME = 1e-4
"""Noise multipliers with a ratio closer to 1 are considered equal."""

NO_NOISE = 1e-6
"""A noise multiplier below which epsilon counts as infinite: one step spends more than 1e11."""

LOOSE_IS_ENOUGH = 200.0
"""Epsilon above which `prv` is skipped: there is no meaningful privacy."""

MOST_POINTS = 2**20
"""Grid points on which `prv` composes privacy losses: about one second and 100 MiB per call."""

LEAST_ERROR, MOST_ERROR = 0.01, 0.5
"""Additive grid error of `prv` in epsilon: the default, and the maximum for coarser grids."""

CURVE = 256
"""Number of stored points of an accountant's curve of epsilon over delta."""


class Composed(NamedTuple):
    """An accountant's result for all steps: epsilon at the given delta, and valid pairs."""

    epsilon: float
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Mechanism:
    """The Gaussian mechanism on Poisson batches, identical at each step.

    Attributes:
        noise: standard deviation of the noise as a multiple of the clip; 0 gives no privacy.
        rate: probability of each unit to be in a batch.
        delta: delta of (epsilon, delta).
        accountant: `prv` (Gopi, Lee, Wutschitz 2021, arXiv:2106.02848), of which the upper bound is used, or
            `rdp` (Mironov 2017, arXiv:1702.07476), looser and faster. Both bounds are valid, so `prv` never
            gives more than `rdp`. At a rate of 1 `prv` is the exact formula of the Gaussian mechanism; it is
            skipped if its grid would be too large.
        release: mu of a Gaussian release of all units before the first step, composed with the steps; 0 for
            none, infinite for an exact one.
    """

    noise: float
    rate: float
    delta: float
    accountant: Accountant
    release: float = 0.0

    def spent(self, steps: int) -> float:
        """Return epsilon after a number of steps, and the release before them."""
        if steps == 0:
            return gaussian_epsilon(self.release, self.delta)
        if self.noise < NO_NOISE:
            return float("inf")
        loose = _rdp_epsilon(self._counted, self.rate, steps, self.delta, self.release)
        if self.accountant == "rdp":
            return loose
        if self.rate >= 1:
            return min(loose, gaussian_epsilon(self._mu(steps), self.delta))
        tight = self._tight(steps)
        return loose if tight is None else min(loose, tight.epsilon)

    def replaced(self, steps: int) -> float:
        """Return epsilon after a number of steps if a unit is replaced by another, not added or removed.

        At a rate of 1 mu doubles. Otherwise it is that of two changes by the curve of `rdp`, and with
        accountant `prv` the exact one of `replacement_epsilon`, up to its grid, where that is smaller.
        """
        if steps == 0:
            return gaussian_epsilon(2 * self.release, self.delta)
        if self.noise < NO_NOISE:
            return float("inf")
        noise, delta = self._counted, self.delta
        if self.rate >= 1:
            loose = _rdp_epsilon(noise / 2, 1.0, steps, delta, 2 * self.release)
            tight = gaussian_epsilon(2 * self._mu(steps), delta)
            return loose if self.accountant == "rdp" else min(loose, tight)
        loose = group_epsilon(lambda each: _rdp_deltas(noise, self.rate, steps, self.release, each), delta)
        if self.accountant == "rdp" or loose > 2 * LOOSE_IS_ENOUGH:
            return loose
        exact = replacement_epsilon(noise, self.rate, steps, delta, self.release)
        return loose if exact is None else min(loose, exact)

    def permitted(self, steps: int) -> Permitted:
        """Return the maximum success of an attack on one unit after a number of steps.

        At a rate of 1 it is exact for either accountant. Otherwise it follows from the accountant's whole
        curve of epsilon over delta, which is tighter than a single pair.
        """
        if steps == 0:
            return of_gaussian(self.release)
        if self.noise < NO_NOISE:
            return of_gaussian(math.inf)
        if self.rate >= 1:
            return of_gaussian(self._mu(steps))
        return of_points(*self._points(steps))

    def limit(self, fpr: NDArray[np.float64], steps: int) -> tuple[NDArray[np.float64], str]:
        """Return the maximum true positive rates (n,) at false positive rates (n,), and their basis.

        The curve whose area and points `permitted` states: noise above `NO_NOISE`, or no step.
        """
        if self.rate >= 1 or steps == 0:
            return gaussian_limit(fpr, self._mu(steps)), "gaussian"
        points, by = self._points(steps)
        return tpr_limit(fpr, points), by

    def _mu(self, steps: int) -> float:
        """Return mu of release and steps that each use all units: squares add up (Dong, Roth, Su 2022)."""
        return math.hypot(self.release, math.sqrt(steps) / self._counted)

    def _points(self, steps: int) -> tuple[list[tuple[float, float]], str]:
        """Return valid pairs (epsilon, delta) after a number of steps, and the accountant that gave them."""
        points = list(_rdp_curve(self._counted, self.rate, steps, self.release))
        tight = self._tight(steps) if self.accountant == "prv" else None
        return (points, "rdp") if tight is None else ([*points, *tight.points], "prv")

    def _tight(self, steps: int) -> Composed | None:
        """Return the result of `prv`; None if it would be uninformative or slow."""
        if _rdp_epsilon(self._counted, self.rate, steps, self.delta, self.release) > LOOSE_IS_ENOUGH:
            return None
        return _prv(self._counted, self.rate, steps, self.delta, self.release)

    @property
    def _counted(self) -> float:
        """Noise used in accounting, capped at `MOST_NOISE`: the square of a larger value may overflow."""
        return min(self.noise, MOST_NOISE)

    def steps_within(self, epsilon: float, limit: int) -> int:
        """Return the largest number of steps, up to `most`, that spend at most epsilon."""
        if self.spent(limit) <= epsilon:
            return limit
        within, beyond = 0, limit
        while beyond - within > 1:
            middle = (within + beyond) // 2
            if self.spent(middle) <= epsilon:
                within = middle
            else:
                beyond = middle
        return within


@lru_cache(maxsize=4096)
def _renyi(noise: float, rate: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return Renyi orders, and the divergence of one step at each."""
    with _own_logging():
        from opacus.accountants import RDPAccountant
        from opacus.accountants.analysis.rdp import compute_rdp
    orders = RDPAccountant.DEFAULT_ALPHAS
    with _quiet():
        divergences = compute_rdp(q=rate, noise_multiplier=noise, steps=1, orders=orders)
    return np.array(orders, dtype=np.float64), np.array(divergences, dtype=np.float64)


def _composed(
    noise: float, rate: float, steps: int, release: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return Renyi orders, and the divergence of all steps and a Gaussian release of mu `release` at each."""
    orders, divergences = _renyi(noise, rate)
    return orders, divergences * steps + orders * release**2 / 2


def _rdp_epsilon(noise: float, rate: float, steps: int, delta: float, release: float = 0.0) -> float:
    orders, divergences = _composed(noise, rate, steps, release)
    with _own_logging():
        from opacus.accountants.analysis.rdp import get_privacy_spent
    with _quiet():
        epsilon, _ = get_privacy_spent(orders=orders, rdp=divergences, delta=delta)
    return max(float(epsilon), 0.0)  # a large delta may leave nothing to spend


def _rdp_curve(noise: float, rate: float, steps: int, release: float) -> tuple[tuple[float, float], ...]:
    """Return pairs (epsilon, delta) that are valid for all steps and the release."""
    epsilons = np.linspace(0, min(_rdp_epsilon(noise, rate, steps, 1e-9, release), 1e6), CURVE)
    deltas = _rdp_deltas(noise, rate, steps, release, epsilons)
    return tuple(zip(epsilons.tolist(), deltas.tolist(), strict=True))


def _rdp_deltas(
    noise: float, rate: float, steps: int, release: float, epsilons: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return delta (n,) at each epsilon: the conversion of `_rdp_epsilon`, solved for delta at each order."""
    orders, divergences = _composed(noise, rate, steps, release)
    with np.errstate(over="ignore", invalid="ignore"):
        logs = (orders - 1) * (divergences - epsilons[:, None] + np.log1p(-1 / orders)) - np.log(orders)
        deltas: NDArray[np.float64] = np.exp(np.minimum(np.nanmin(logs, axis=1), 0.0))
    return deltas


@lru_cache(maxsize=256)
def _prv(noise: float, rate: float, steps: int, delta: float, release: float) -> Composed | None:
    """Return the PRV accountant's result; None if its grid would be too large or numerically fails."""
    error = _grid_error(noise, rate, steps, delta, release)
    if error is None:
        return None
    with _own_logging():
        from opacus.accountants import PRVAccountant
    books = PRVAccountant()
    books.history = [(noise, rate, steps), *([(1 / release, 1.0, 1)] if release else [])]
    slack = delta / 1000
    try:
        with _quiet():
            losses = books._get_dprv(eps_error=error, delta_error=slack)
            epsilon = losses.compute_epsilon(delta, slack, error)[2]
            return Composed(max(float(epsilon), 0.0), _curve(losses, error, slack))
    except (ValueError, RuntimeError, FloatingPointError):  # of its own numerics: the looser bound holds
        return None


def _grid_error(noise: float, rate: float, steps: int, delta: float, release: float = 0.0) -> float | None:
    """Return the epsilon error at which the grid is small enough, None if that is too large.

    The grid reaches from -L to L, where L is about the epsilon at a thousandth of delta, in steps of the
    error over sqrt(steps log(12 / slack) / 2); its size is known before it is built.
    """
    slack = delta / 1000
    steps += release > 0
    reach = 3 + max(
        _rdp_epsilon(noise, rate, steps, slack / 4, release),
        _rdp_epsilon(noise, rate, 1, slack / (8 * steps), release),
    )
    if not math.isfinite(reach):
        return None
    smallest = 2 * reach * math.sqrt(steps * math.log(12 / slack) / 2) / MOST_POINTS
    return max(smallest, LEAST_ERROR) if smallest <= MOST_ERROR else None


def _curve(losses: Any, error: float, slack: float) -> tuple[tuple[float, float], ...]:
    """Return valid pairs (epsilon, delta) of discrete privacy losses with their errors.

    delta(epsilon) = E[max(0, 1 - exp(epsilon - loss))]; the true one at epsilon + error is up to slack more.
    """
    above = losses.domain.ts >= 0
    values, masses = losses.domain.ts[above], losses.pmf[above]
    tail = np.flip(np.flip(masses).cumsum())
    weighted = np.flip(np.flip(masses * np.exp(-values)).cumsum())
    last = max(int(np.searchsorted(-tail, -slack)), 1)  # beyond it the slack is all that is left
    chosen = np.unique(np.linspace(0, min(last, len(values) - 1), CURVE).astype(int))
    deltas = np.clip(tail[chosen] - np.exp(values[chosen]) * weighted[chosen] + slack, 0.0, 1.0)
    return tuple(zip((values[chosen] + error).tolist(), deltas.tolist(), strict=True))


def share_of_mu(epsilon: float, *, delta: float, share: float) -> float:
    """Return mu of a Gaussian release whose square is a share of that of the largest mu within epsilon."""
    low, high = 0.0, 1.0
    while gaussian_epsilon(high, delta) <= epsilon:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if gaussian_epsilon(middle, delta) <= epsilon else (low, middle)
    return low * math.sqrt(share)


def noise_for(
    epsilon: float, *, delta: float, rate: float, steps: int, accountant: Accountant, release: float = 0.0
) -> float:
    """Return the noise multiplier that spends epsilon in the given steps, or up to 0.01 and 1 % less.

    A Gaussian release of mu `release` is spent beside them. Raises InputError if no noise is sufficient.
    """

    def spent(noise: float, by: Accountant = accountant, before: float = release) -> float:
        return Mechanism(noise, rate, delta, by, before).spent(steps)

    def loosely(noise: float) -> float:
        return spent(noise, "rdp")

    enough = _sufficient_noise(epsilon, loosely)  # faster, so that the slow one has less to search
    if enough is not None:
        enough = _smallest_noise(epsilon, enough, loosely)
    elif accountant == "prv" and spent(MOST_NOISE) <= epsilon:  # a large release is within its bound alone
        enough = _sufficient_noise(epsilon, spent)
    if enough is None:
        least = spent(MOST_NOISE)
        if release and spent(MOST_NOISE, before=0.0) <= epsilon:
            raise InputError(
                f"least_squares takes too much of epsilon {epsilon:g}: by {accountant}, its release alone "
                f"spends {least:.3g} at delta {delta:.3g}; choose a smaller share"
                + (", or accountant prv" if accountant == "rdp" else "")
            )
        raise InputError(
            f"epsilon {epsilon:g} cannot be reached with delta {delta:.3g}, {steps} steps and sampling "
            f"rate {rate:.3g}; choose a larger epsilon, or train fewer steps"
        )
    return enough if accountant == "rdp" else _smallest_noise(epsilon, enough, spent)


def _sufficient_noise(epsilon: float, spent: Callable[[float], float]) -> float | None:
    """Return a power of 2, at least 1, that spends at most epsilon; None if none up to `MOST_NOISE` does."""
    enough = 1.0
    while spent(enough) > epsilon:
        enough *= 2
        if enough > MOST_NOISE:
            return None
    return enough


def _smallest_noise(epsilon: float, enough: float, spent: Callable[[float], float]) -> float:
    """Return the smallest noise, within tolerance, that spends at most epsilon.

    `enough` is a sufficient noise.
    """
    tolerance = min(0.01, epsilon / 100)
    reached, lacking = spent(enough), enough * 0.8
    while lacking > LEAST_NOISE and (lower := spent(lacking)) <= epsilon:
        enough, reached, lacking = lacking, lower, lacking * 0.8
    while epsilon - reached > tolerance and enough / lacking > 1 + SAME:
        middle = (enough * lacking) ** 0.5  # noise spans six orders of magnitude: bisect its logarithm
        between = spent(middle)
        if between <= epsilon:
            enough, reached = middle, between
        else:
            lacking = middle
    return enough


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress an accountant's numerical warnings."""
    with warnings.catch_warnings():
        for remark in _REMARKS:
            warnings.filterwarnings("ignore", message=remark)
        yield


@contextmanager
def _own_logging() -> Iterator[None]:
    """Import without Opacus' handler on the global log."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
