"""How much privacy DP-SGD has spent, by Opacus' accountants; the only file that imports Opacus."""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Literal

from seg_mia.errors import InputError

Accountant = Literal["prv", "rdp"]

# What an accountant says of its own numerics, on the safe side each time.
_REMARKS = ("Optimal order is the", "invalid value", "overflow", "divide by zero")


MOST_NOISE = 1e4
"""A noise multiplier beyond which nothing is learnt."""

LEAST_NOISE = 0.01
"""A noise multiplier below which there is none to speak of."""

SAME = 1e-4
"""Noise multipliers whose ratio is nearer to 1 are the same."""

LOOSE_IS_ENOUGH = 200.0
"""The epsilon above which `prv`, slow there, is left out: nothing is private."""


@dataclass(frozen=True)
class Mechanism:
    """The Gaussian mechanism on Poisson batches, the same at each step.

    Attributes:
        noise: standard deviation of the noise as a multiple of the clip; 0 gives no privacy.
        rate: the chance of each unit to be in a batch.
        delta: of (epsilon, delta).
        accountant: `prv` (Gopi, Lee, Wutschitz 2021, arXiv:2106.02848), whose upper bound is taken, or `rdp`
            (Mironov 2017, arXiv:1702.07476), looser and faster. Both bounds hold, so `prv` never gives more
            than `rdp`.
    """

    noise: float
    rate: float
    delta: float
    accountant: Accountant

    def spent(self, steps: int) -> float:
        """Return epsilon after so many steps."""
        if steps == 0:
            return 0.0
        if self.noise == 0:
            return float("inf")
        loose = _opacus("rdp", self.noise, self.rate, steps, self.delta)
        if self.accountant == "rdp" or loose > LOOSE_IS_ENOUGH:
            return loose
        return min(loose, _opacus("prv", self.noise, self.rate, steps, self.delta))

    def steps_within(self, epsilon: float, most: int) -> int:
        """Return the greatest number of steps, at most `most`, that spend no more than epsilon."""
        if self.spent(most) <= epsilon:
            return most
        within, beyond = 0, most
        while beyond - within > 1:
            middle = (within + beyond) // 2
            if self.spent(middle) <= epsilon:
                within = middle
            else:
                beyond = middle
        return within


@cache
def _opacus(accountant: Accountant, noise: float, rate: float, steps: int, delta: float) -> float:
    with _own_logging():
        from opacus.accountants import create_accountant

    books = create_accountant(mechanism=accountant)
    books.history = [(noise, rate, steps)]
    with warnings.catch_warnings():
        for remark in _REMARKS:
            warnings.filterwarnings("ignore", message=remark)
        return max(float(books.get_epsilon(delta=delta)), 0.0)  # a large delta may leave nothing to spend


def noise_for(epsilon: float, *, delta: float, rate: float, steps: int, accountant: Accountant) -> float:
    """Return the noise multiplier with which so many steps spend epsilon, or up to 0.01 and 1 % less.

    Raises InputError when no noise is enough.
    """

    def spent(noise: float, by: Accountant = accountant) -> float:
        return Mechanism(noise, rate, delta, by).spent(steps)

    enough = 1.0
    while spent(enough, "rdp") > epsilon:  # looser and faster, so that the slow one has less to search
        enough *= 2
        if enough > MOST_NOISE:
            raise InputError(
                f"epsilon {epsilon:g} is out of reach with delta {delta:.3g}, {steps} steps and sampling "
                f"rate {rate:.3g}; ask for more epsilon, or train fewer steps"
            )
    enough = _least(epsilon, enough, lambda noise: spent(noise, "rdp"))
    return enough if accountant == "rdp" else _least(epsilon, enough, spent)


def _least(epsilon: float, enough: float, spent: Callable[[float], float]) -> float:
    """Return a noise with which `spent` is at most epsilon, but hardly less; `enough` is such a noise."""
    tolerance = min(0.01, epsilon / 100)
    reached, lacking = spent(enough), enough * 0.8
    while lacking > LEAST_NOISE and (lower := spent(lacking)) <= epsilon:
        enough, reached, lacking = lacking, lower, lacking * 0.8
    while epsilon - reached > tolerance and enough / lacking > 1 + SAME:
        middle = (enough * lacking) ** 0.5
        between = spent(middle)
        if between <= epsilon:
            enough, reached = middle, between
        else:
            lacking = middle
    return enough


@contextmanager
def _own_logging() -> Iterator[None]:
    """Import without Opacus' handler on everybody's log."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
