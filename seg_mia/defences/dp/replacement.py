"""Privacy loss of Gaussian steps on Poisson batches if one unit is replaced by another.

Replacing a unit is removing one and adding another, whose clipped gradients may point in opposite directions.
With all units in each step mu doubles. With sampling, the worst pair of outcomes of a step is

    P = (1 - q) N(0, s^2) + q N(1, s^2),  Q = (1 - q) N(0, s^2) + q N(-1, s^2)

for a rate q and a noise s in units of the clip (Lebeda, Regehr, Kamath, Steinke 2024, arXiv:2405.20769;
Schuchardt et al. 2024, arXiv:2403.04867). Its privacy losses are put on a grid from above, composed by
Fourier transforms, and solved for epsilon.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft, optimize, special

Values = NDArray[np.float64]

POINTS = 2**18
"""Cells of the grid of the composed loss: about half a second per call."""

ROUGH = 2**12
"""Cells of one step's losses in the first pass, which finds the range of the composed loss."""

FURTHEST = 500.0
"""Largest range of the losses: beyond it there is no meaningful privacy."""

LARGEST = 2.0**20
"""Largest epsilon of one unit that is tried for a group."""

LEAST_DELTA = 1e-9
"""Smallest delta that is well above the rounding errors of the transforms."""


class _Losses(NamedTuple):
    """Privacy losses of one kind of step on the grid: `first` is the number of the first cell."""

    first: int
    masses: Values
    times: int


@lru_cache(maxsize=256)
def replacement_epsilon(
    noise: float, rate: float, steps: int, delta: float, release: float = 0.0
) -> float | None:
    """Return an upper bound of epsilon under replacing one unit, exact but for its grid, or None.

    Args:
        noise: standard deviation of the noise as a multiple of the clip, above 0.
        rate: probability of each unit to be in a batch, in (0, 1].
        steps: number of steps, at least 1.
        delta: in (0, 1).
        release: mu, under adding or removing one unit, of a Gaussian release composed with the steps.

    Returns:
        epsilon; None if the range of losses is too large, or delta too small.
    """
    slack = delta / 1000
    kinds = [(noise, rate, steps), *([(1 / release, 1.0, 1)] if release else [])]
    furthest = max(_loss(1 + _reach(times, slack) * s, s, q) for s, q, times in kinds)
    if delta < LEAST_DELTA or not furthest <= FURTHEST:
        return None
    rough = [_losses(*kind, furthest / ROUGH, slack) for kind in kinds]
    (low, _), (high, rate_of_tail) = (_end(rough, furthest / ROUGH, slack, sign) for sign in (-1, 1))
    if low + high > 2 * FURTHEST:
        return None
    width = 1.02 * (low + high) / POINTS
    fine = [_losses(*kind, width, slack) for kind in kinds]
    high = _chernoff(fine, width, slack, rate_of_tail)
    # What is left of the grid reaches the losses below; these wrap to its upper end, which is safe.
    cells = np.arange(POINTS) - (POINTS - 1 - math.ceil(high / width))
    masses = _composed(fine)[cells % POINTS]
    lost = slack + sum(part.times * max(0.0, 1 - float(part.masses.sum())) for part in fine)
    return _epsilon(np.asarray(cells * width, dtype=np.float64), np.maximum(masses, 0.0), delta - lost)


def group_epsilon(delta_of: Callable[[Values], Values], delta: float) -> float:
    """Return epsilon under replacing one unit from the curve under adding or removing one, an upper bound.

    If one such change is (e, d)-private, two of them are (2 e, d (1 + exp e))-private (Dwork and Roth 2014,
    theorem 2.2). The smallest e is searched for at which this is at most delta.

    Args:
        delta_of: valid deltas (n,) at epsilons (n,) under adding or removing one.
        delta: under replacing, in (0, 1).

    Returns:
        2 e, infinite if no e up to `LARGEST` is sufficient.
    """

    def fits(epsilons: Values) -> NDArray[np.bool_]:
        with np.errstate(divide="ignore"):
            logs = np.log(delta_of(epsilons)) + np.logaddexp(0.0, epsilons)
        return np.asarray(logs <= math.log(delta))

    ends = np.append(0.0, 2.0 ** np.arange(-6, 1 + math.log2(LARGEST)))
    enough = fits(ends)
    if not enough.any():
        return math.inf
    grid = ends
    for _ in range(4):  # each pass narrows the search to one cell of the previous grid
        first = int(np.argmax(enough))
        grid = np.linspace(grid[max(first - 1, 0)], grid[first], 129)
        enough = fits(grid)
    return 2 * float(grid[np.argmax(enough)])


def _reach(times: int, slack: float) -> float:
    """Return how many standard deviations hold all noise of all steps but with probability slack / 2."""
    return -float(special.ndtri(slack / (2 * times)))


def _loss(x: float, noise: float, rate: float) -> float:
    """Return the loss log P(x) / Q(x) of an outcome."""
    up, down = ((sign * x - 0.5) / noise**2 for sign in (1, -1))
    with np.errstate(divide="ignore"):
        kept, drawn = np.log1p(-rate), np.log(rate)
    return float(np.logaddexp(kept, drawn + up) - np.logaddexp(kept, drawn + down))


def _outcome(losses: Values, noise: float, rate: float) -> Values:
    """Return the outcomes x (n,) at which the loss has given values, the inverse of `_loss`.

    With y = exp(x / s^2) the loss is a quadratic equation in y, with A = q / (1 - q) exp(-1 / (2 s^2)):
    A y^2 + (1 - e^loss) y - e^loss A = 0, so that log y = loss / 2 + asinh(sinh(loss / 2) / A).
    """
    if rate >= 1:
        return noise**2 * losses / 2
    half = losses / 2
    log_a = math.log(rate) - math.log1p(-rate) - 1 / (2 * noise**2)
    # asinh(z) of z = sinh(half) / A, without overflow of either.
    with np.errstate(divide="ignore"):
        log_z = np.abs(half) + np.log(-np.expm1(-2 * np.abs(half)) / 2) - log_a
    large = np.maximum(log_z, 0.0)
    arsinh = large + np.log(np.exp(log_z - large) + np.hypot(np.exp(log_z - large), np.exp(-large)))
    return np.asarray(noise**2 * (half + np.sign(half) * arsinh), dtype=np.float64)


def _between(edges: Values, noise: float, rate: float) -> Values:
    """Return the probabilities under P between successive outcomes, (n - 1,), exact in the tails."""
    total = np.zeros(len(edges) - 1)
    for weight, mean in ((1 - rate, 0.0), (rate, 1.0)):
        z = (edges - mean) / noise
        left, right = z[:-1], z[1:]
        above = left > 0
        total += weight * np.where(
            above, special.ndtr(-left) - special.ndtr(-right), special.ndtr(right) - special.ndtr(left)
        )
    return total


def _losses(noise: float, rate: float, times: int, width: float, slack: float) -> _Losses:
    """Return the losses of one step on a grid, such that no divergence is lowered.

    Each cell's probabilities under P and Q are kept by weights of its two ends ("connect the dots",
    Doroshenko et al. 2022, arXiv:2207.04380). Losses below the grid are raised to its first cell; those above
    it are missing in the sum of masses, and count as infinite.
    """
    reach = _reach(times, slack)
    first = math.floor(_loss(-reach * noise, noise, rate) / width)
    last = math.ceil(_loss(1 + reach * noise, noise, rate) / width)
    losses = np.asarray(np.arange(first, last + 1) * width, dtype=np.float64)
    edges = _outcome(losses, noise, rate)
    p, q = _between(edges, noise, rate), _between(-edges[::-1], noise, rate)[::-1]
    with np.errstate(over="ignore", invalid="ignore"):
        lower = (q * np.exp(losses[:-1]) - p * math.exp(-width)) / -math.expm1(-width)
    lower = np.clip(np.nan_to_num(lower), 0.0, p)
    masses = np.zeros(len(losses))
    masses[:-1] += lower
    masses[1:] += p - lower
    below = (edges[0] - np.array([0.0, 1.0])) / noise
    masses[0] += (1 - rate) * special.ndtr(below[0]) + rate * special.ndtr(below[1])
    return _Losses(first, masses, times)


def _end(parts: Sequence[_Losses], width: float, slack: float, sign: int) -> tuple[float, float]:
    """Return the lowest of Chernoff's bounds of the total loss times `sign`, and its rate."""
    best = optimize.minimize_scalar(
        lambda log_rate: _chernoff(parts, width, slack, sign * math.exp(log_rate)),
        bounds=(math.log(1e-2), math.log(1e3)),
        method="bounded",
    )
    return max(float(best.fun), width), sign * math.exp(best.x)


def _chernoff(parts: Sequence[_Losses], width: float, slack: float, rate: float) -> float:
    """Return a value that the total loss, times the sign of `rate`, exceeds with probability `slack` at most.

    log E exp(rate * loss) of all steps, less log(slack), over the magnitude of the rate.
    """
    moments = sum(
        part.times
        * float(special.logsumexp(rate * width * (part.first + np.arange(len(part.masses))), b=part.masses))
        for part in parts
    )
    return (moments - math.log(slack)) / abs(rate)


def _composed(parts: Sequence[_Losses]) -> Values:
    """Return the probabilities (POINTS,) of the total loss, by cells modulo their number."""
    transform = np.ones(POINTS // 2 + 1, dtype=np.complex128)
    for part in parts:
        cells = (part.first + np.arange(len(part.masses))) % POINTS
        transform *= fft.rfft(np.bincount(cells, part.masses, POINTS)) ** part.times
    return np.asarray(fft.irfft(transform, POINTS))


def _epsilon(losses: Values, masses: Values, delta: float) -> float | None:
    """Return the smallest epsilon, at least 0, with E[max(0, 1 - exp(epsilon - loss))] at most delta."""
    if delta <= 0:
        return None
    above = losses > 0
    values, masses = losses[above], masses[above]
    tail = np.flip(np.flip(masses).cumsum())
    weighted = np.flip(np.flip(masses * np.exp(-values)).cumsum())
    if tail[0] - weighted[0] <= delta:
        return 0.0
    lower = np.flatnonzero(tail - np.exp(values) * weighted <= delta)
    if not len(lower):
        return None
    first = int(lower[0])
    # Between two cells delta is linear in exp(epsilon).
    return float(np.log((tail[first] - delta) / weighted[first]))
