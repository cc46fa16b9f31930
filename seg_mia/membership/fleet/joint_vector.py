"""A Bayesian density of several signals of a sample together, with and without it in the training set.

The form of `seg_mia.membership.fleet.joint` for vectors: the 2 d means (outside, inside) of a sample are
N(m, T), where m is linear in the sample's deviation; T and m are fitted to all samples by moments.
Covariances within samples are pooled on each side and scaled by a factor of the sample, which both sides and
all signals share, with an inverse gamma prior of mean 1. Defined here, without precedent.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seg_mia.membership.fleet.arrays import Inside, Values
from seg_mia.membership.fleet.covariance import pooled_covariance
from seg_mia.membership.fleet.gaussian import residuals, side_means
from seg_mia.membership.fleet.posterior import fitted_shape

_LEAST_FOR_TREND = 10
_LEAST = 1e-12


@dataclass(frozen=True)
class VectorMoments:
    """Moments of signals on both sides, outside first.

    Attributes:
        counts: networks of each side, 1 or more, (2, n).
        means: (2, n, signals).
        covariances: within samples, pooled, (2, signals, signals).
        shape: a_n of each sample's factor, (n,).
        factor: b_n / a_n, the sample's factor of the covariances, (n,).
    """

    counts: Values
    means: Values
    covariances: Values
    shape: Values
    factor: Values


@dataclass(frozen=True)
class VectorPredictive:
    """Multivariate Student t of the next network's signals for each sample.

    Attributes:
        freedom: (n,).
        middle: (n, signals).
        scale: (n, signals, signals).
    """

    freedom: Values
    middle: Values
    scale: Values

    def logpdf(self, signals: Values) -> Values:
        """Return the log density of signals (n, signals), less the terms of `freedom` alone."""
        strayed = signals - self.middle
        size = strayed.shape[1]
        solved = np.linalg.solve(self.scale, strayed[..., None])[..., 0]
        distance = np.log1p((strayed * solved).sum(axis=1) / self.freedom)
        logdet = np.linalg.slogdet(self.scale)[1]
        return np.asarray(-(logdet + (self.freedom + size) * distance) / 2, dtype=np.float64)


def vector_moments(references: Values, inside: Inside) -> VectorMoments:
    """Return moments of the signals (networks, n, signals) of networks with known members.

    Raises:
        InputError: too few networks for a covariance, a signal without variation between networks.
    """
    sides = (~inside, inside)
    covariances = np.stack([pooled_covariance(references, side) for side in sides])
    size = references.shape[2]
    squares, freedom = np.zeros(inside.shape[1]), np.zeros(inside.shape[1])
    for side, covariance in zip(sides, covariances, strict=True):
        strayed = np.where(side[..., None], residuals(references, side), 0.0)
        squares += np.einsum("kni,ij,knj->n", strayed, np.linalg.inv(covariance), strayed)
        freedom += size * np.maximum(side.sum(axis=0) - 1, 0)
    several = freedom > 0
    prior = fitted_shape(squares[several] / freedom[several], freedom[several])
    shape = prior + freedom / 2
    return VectorMoments(
        counts=np.stack([side.sum(axis=0).astype(np.float64) for side in sides]),
        means=np.stack([side_means(references, side) for side in sides]),
        covariances=covariances,
        shape=shape,
        factor=(prior - 1 + squares / 2) / shape,
    )


def vector_predictives(moments: VectorMoments) -> tuple[VectorPredictive, VectorPredictive]:
    """Return the predictive distributions of the next network without and with each sample."""
    size = moments.means.shape[2]
    middle, between = _between(moments)
    inverse = np.asarray(np.linalg.inv(moments.covariances), dtype=np.float64)
    precision = _blocks(inverse, moments.counts / moments.factor)
    spread = between @ precision
    gain = spread @ np.linalg.inv(np.eye(2 * size) + spread)
    strayed = _pairs(moments.means) - middle
    means = middle + np.einsum("nij,nj->ni", gain, strayed)
    remaining = between - gain @ between
    within = moments.factor[:, None, None] * moments.covariances[:, None]
    nonmember, member = (
        VectorPredictive(
            2 * moments.shape, means[:, part], within[side] + _symmetric(remaining[:, part, part])
        )
        for side, part in enumerate((slice(0, size), slice(size, 2 * size)))
    )
    return nonmember, member


def _between(moments: VectorMoments) -> tuple[Values, Values]:
    """Return the prior's means of each sample, (n, 2 d), and the covariance of the means between samples."""
    means, deviation = _pairs(moments.means), np.sqrt(moments.factor)
    trends = len(means) >= _LEAST_FOR_TREND and bool(np.ptp(deviation) > _LEAST)
    design = np.stack([np.ones(len(deviation)), deviation if trends else np.zeros(len(deviation))], axis=1)
    weights = np.linalg.lstsq(design, means, rcond=None)[0]
    residuals = means - design @ weights
    noise = _blocks(moments.covariances, (moments.factor / moments.counts).mean(axis=1, keepdims=True))[0]
    turned = _effects(moments.means.shape[2])
    covariance = residuals.T @ residuals / max(1, len(residuals) - 1 - trends) - noise
    back = np.linalg.inv(turned)
    return design @ weights, back @ _positive(turned @ covariance @ turned.T) @ back.T


def _effects(size: int) -> Values:
    """Return the matrix from means (outside, inside) to difficulty and effect (outside, inside - outside)."""
    return np.block([[np.eye(size), np.zeros((size, size))], [-np.eye(size), np.eye(size)]])


def _positive(covariance: Values) -> Values:
    """Return the covariance without negative variances, in units of each coordinate's deviation."""
    variances = np.diag(covariance)
    some = variances > 0
    deviation = np.sqrt(np.where(some, variances, 0))
    correlation = covariance / np.outer(*(np.where(some, deviation, 1),) * 2)
    values, vectors = np.linalg.eigh(np.where(np.outer(some, some), correlation, 0))
    clipped = (vectors * np.maximum(values, 0)) @ vectors.T
    return np.asarray(clipped * np.outer(deviation, deviation), dtype=np.float64)


def _blocks(matrices: Values, weights: Values) -> Values:
    """Return block-diagonal matrices (n, 2 d, 2 d) of two matrices (2, d, d) times weights (2, n)."""
    size = matrices.shape[1]
    blocks = np.zeros((weights.shape[1], 2 * size, 2 * size))
    for side, part in enumerate((slice(0, size), slice(size, 2 * size))):
        blocks[:, part, part] = weights[side][:, None, None] * matrices[side]
    return blocks


def _pairs(means: Values) -> Values:
    """Return means (2, n, d) as (n, 2 d)."""
    return np.concatenate(list(means), axis=1)


def _symmetric(matrices: NDArray[np.float64]) -> Values:
    return (matrices + np.swapaxes(matrices, 1, 2)) / 2
