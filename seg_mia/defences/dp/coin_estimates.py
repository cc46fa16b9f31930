"""Estimates of canaries' coins from the noisy sums of a private training.

With the members' part taken away, the noisy sum of step t is sum_i b_i s_it g_it + Normal(0, s^2 I), with the
coin b_i of canary i, its clipped gradient g_it, and s_it = 1 if it was drawn in this step. An auditor knows
the gradients, the noisy sum and the noise's variance, neither coins nor draws. Both estimates need only the
products K = (g_i . g_j) and the projections y = (g_i . sum) of each step.
"""

from abc import ABC, abstractmethod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class CoinEstimate(ABC):
    """Scores of canaries, higher for inserted ones, added up over steps."""

    @abstractmethod
    def add(self, products: Tensor, projections: Tensor, variance: float) -> None:
        """Add one step.

        Args:
            products: of the canaries' clipped gradients with each other, float64 (n, n).
            projections: products of the gradients with the noisy sum without members, float64 (n,).
            variance: of the noise in each entry of the sum, above 0.
        """

    @abstractmethod
    def scores(self) -> NDArray[np.float64]:
        """Return the scores of all steps so far, (n,)."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """Return the sums so far, for a checkpoint."""


class AllUnits(CoinEstimate):
    """The best linear estimate of all coins where each step has all units: s_it = 1.

    (sum_t K / s^2 + 4 I)^-1 sum_t (y - K 1 / 2) / s^2; a fair coin has mean 1/2 and variance 1/4.
    """

    def __init__(self, count: int) -> None:
        self.normal = torch.zeros(count, count, dtype=torch.float64)
        self.right = torch.zeros(count, dtype=torch.float64)

    def add(self, products: Tensor, projections: Tensor, variance: float) -> None:
        """Add one step to the normal equations."""
        self.normal = self.normal + products / variance
        self.right = self.right + (projections - products.sum(1) / 2) / variance

    def scores(self) -> NDArray[np.float64]:
        """Return the estimated coins, minus 1/2."""
        prior = 4 * torch.eye(len(self.right), dtype=torch.float64)
        estimate: NDArray[np.float64] = torch.linalg.solve(self.normal + prior, self.right).numpy()
        return estimate

    def state(self) -> dict[str, Tensor]:
        """Return both sides of the normal equations."""
        return {"normal": self.normal, "right": self.right}


class SampledUnits(CoinEstimate):
    """The sum over steps of each canary's log-likelihood ratio where units are drawn at a rate below 1.

    Args:
        count: number of canaries.
        rate: probability of each unit to be in a step, in (0, 1).
    """

    def __init__(self, count: int, rate: float) -> None:
        self.rate = rate
        self.ratios = torch.zeros(count, dtype=torch.float64)

    def add(self, products: Tensor, projections: Tensor, variance: float) -> None:
        """Add the logarithms of one step's likelihood ratios."""
        self.ratios = self.ratios + log_ratios(products, projections, variance, self.rate)

    def scores(self) -> NDArray[np.float64]:
        """Return the sums."""
        ratios: NDArray[np.float64] = self.ratios.numpy()
        return ratios

    def state(self) -> dict[str, Tensor]:
        """Return the sums and the rate."""
        return {"ratios": self.ratios, "rate": torch.tensor(self.rate, dtype=torch.float64)}


def begun(count: int, rate: float) -> CoinEstimate:
    """Return the estimate before the first step, of `count` canaries in steps of a sampling rate."""
    return AllUnits(count) if rate >= 1 else SampledUnits(count, rate)


def restored(state: dict[str, Tensor]) -> CoinEstimate:
    """Return the estimate whose `state` is in a checkpoint."""
    if "ratios" in state:
        sampled = SampledUnits(len(state["ratios"]), float(state["rate"]))
        sampled.ratios = state["ratios"]
        return sampled
    every = AllUnits(len(state["right"]))
    every.normal, every.right = state["normal"], state["right"]
    return every


def log_ratios(products: Tensor, projections: Tensor, variance: float, rate: float) -> Tensor:
    """Return how much likelier a step's noisy sum is with each canary inserted, as logarithms (n,).

    An inserted canary adds its gradient with probability q, the rate. The others, each with probability m =
    q / 2, count as Gaussian noise of mean m g_j and covariance v g_j g_j', v = m (1 - m). With S the
    covariance of noise and others, a = g' S^-1 g and c = g' S^-1 (sum - m sum_j g_j),

        log(1 - q + q exp(c - a / 2)).

    Alone on a gradient this is the exact ratio of the subsampled Gaussian mechanism.

    Args:
        products: K, (n, n) float64.
        projections: y, (n,) float64.
        variance: of the noise, above 0.
        rate: q, in (0, 1).
    """
    mean = rate / 2
    spread = mean * (1 - mean)
    covariance = variance * torch.eye(len(projections), dtype=torch.float64) + spread * products
    # By the covariance of noise and all canaries; what a canary itself adds to it is taken out below.
    solved = torch.linalg.solve(covariance, torch.cat([products, projections[:, None]], 1))
    inner, sums = solved[:, :-1], solved[:, -1]
    own = inner.diagonal()
    left = 1 - spread * own  # Sherman and Morrison
    exponent = (sums - mean * (inner.sum(1) - own) - own / 2) / left
    return torch.logaddexp(torch.full_like(exponent, float(np.log1p(-rate))), exponent + float(np.log(rate)))
