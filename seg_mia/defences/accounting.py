"""How much privacy DP-SGD has spent, by Opacus' accountants; the only file that imports Opacus."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from seg_mia.errors import InputError

Accountant = Literal["prv", "rdp"]

# What an accountant says of its own numerics, on the safe side each time.
_REMARKS = ("Optimal order is the", "invalid value", "overflow", "divide by zero")


@dataclass(frozen=True)
class Mechanism:
    """The Gaussian mechanism on Poisson batches, the same at each step.

    Attributes:
        noise: standard deviation of the noise as a multiple of the clip; 0 gives no privacy.
        rate: the chance of each unit to be in a batch.
        delta: of (epsilon, delta).
        accountant: `prv` (Gopi, Lee, Wutschitz 2021, arXiv:2106.02848), whose upper bound is taken, or `rdp`
            (Mironov 2017, arXiv:1702.07476), looser and faster.
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
        with _own_logging():
            from opacus.accountants import create_accountant
        accountant = create_accountant(mechanism=self.accountant)
        accountant.history = [(self.noise, self.rate, steps)]
        with warnings.catch_warnings():
            for remark in _REMARKS:
                warnings.filterwarnings("ignore", message=remark)
            return float(accountant.get_epsilon(delta=self.delta))

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


def noise_for(epsilon: float, *, delta: float, rate: float, steps: int, accountant: Accountant) -> float:
    """Return the noise multiplier with which so many steps spend epsilon, or up to 0.01 and 1 % less.

    Raises InputError when no noise is enough.
    """
    with _own_logging():
        from opacus.accountants.utils import get_noise_multiplier
    try:
        with warnings.catch_warnings():
            for remark in _REMARKS:
                warnings.filterwarnings("ignore", message=remark)
            found = get_noise_multiplier(
                target_epsilon=epsilon,
                target_delta=delta,
                sample_rate=rate,
                steps=steps,
                accountant=accountant,
                epsilon_tolerance=min(0.01, epsilon / 100),
            )
    except (ValueError, RuntimeError, OverflowError) as error:
        raise InputError(
            f"epsilon {epsilon:g} is out of reach with delta {delta:.3g}, {steps} steps and sampling rate "
            f"{rate:.3g} under the {accountant} accountant ({error}); ask for more epsilon, or train fewer "
            "steps"
        ) from None
    return float(found)


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
