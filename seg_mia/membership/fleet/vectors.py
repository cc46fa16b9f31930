"""Likelihood ratios of several signals, a vector or a coarse map."""

from typing import Any, Literal, assert_never

import numpy as np
from numpy.typing import NDArray

from seg_mia.errors import InputError
from seg_mia.membership.fleet.arrays import Inside, Numbers, Values, check_counts, check_target
from seg_mia.membership.fleet.covariance import pooled_covariance, shrunk_covariance
from seg_mia.membership.fleet.gaussian import Centre, Variance, lira_online, residuals, side_means
from seg_mia.membership.fleet.joint_vector import vector_moments, vector_predictives

Density = Literal["separate", "joint", "pooled"]


def lira_vector(
    target: Numbers,
    references: Numbers,
    inside: Inside,
    *,
    density: Density = "separate",
    variance: Variance = "bayesian",
    centre: Centre = "mean",
) -> Values:
    """Return the log likelihood ratio of a vector of signals, (n,): LiRA with several signals.

    Args:
        target: signals of the target network, (n, signals).
        references: (networks, n, signals).
        inside: bool (networks, n).
        density: `separate`, the sum of `lira_online` over the signals, as if they were independent: each has
            its own variance for each sample, which on real networks is worth more than the correlation
            (docs/results.md). `joint`, the predictive multivariate t of
            `seg_mia.membership.fleet.joint_vector`, which shrinks means and effects to their distribution
            over samples. `pooled`, log N(phi; mu_in, S_in) - log N(phi; mu_out, S_out), where the means are
            each sample's and the covariances those within samples, pooled over all samples
            (`pooled_covariance`).
        variance: as in `lira_online`, of `separate` alone.
        centre: likewise.

    Raises:
        InputError: incompatible shapes, signals that are not finite, a sample without a network on either
            side, too few networks.
    """
    target, references = check_target(_vector(target), references, inside)
    check_counts(inside, least_in=1, least_out=1)
    match density:
        case "separate":
            ratios = [
                lira_online(
                    target[:, number], references[:, :, number], inside, variance=variance, centre=centre
                )
                for number in range(target.shape[1])
            ]
            return np.asarray(np.sum(ratios, axis=0), dtype=np.float64)
        case "joint":
            nonmember, member = vector_predictives(vector_moments(references, inside))
            return member.logpdf(target) - nonmember.logpdf(target)
        case "pooled":
            log_in = _log_density(target, references, inside)
            return log_in - _log_density(target, references, ~inside)
        case _:
            assert_never(density)


def dense_lira(target: Numbers, references: Numbers, inside: Inside) -> Values:
    """Return a matched filter's score of a map of signals, (n,); experimental.

    w . (phi - (mu_in + mu_out) / 2) with w = S^-1 d, the direction that separates members, where S is the
    covariance within samples of both sides and d = mu_in - mu_out, shrunk to its mean over all samples:
    d' = d_mean + c / (c + k) (d - d_mean) with 1 / c = 1 / n_in + 1 / n_out. k is the variance within
    samples over that between the samples' differences, both as means over the cells, after subtraction of the
    part of the latter explained by the former. Without precedent: compare it with `lira_online` on references
    first.

    Args:
        target: signals of cells, such as `pooled_cells` of margins, (n, cells).
        references: (networks, n, cells).
        inside: bool (networks, n).

    Raises:
        InputError: errors of `lira_vector`.
    """
    target, references = check_target(_vector(target), references, inside)
    check_counts(inside, least_in=1, least_out=1)
    mean_in, mean_out = side_means(references, inside), side_means(references, ~inside)
    strayed = np.concatenate(
        [residuals(references, side)[side & (side.sum(axis=0) > 1)] for side in (inside, ~inside)]
    )
    freedom = sum(int(np.maximum(side.sum(axis=0) - 1, 0).sum()) for side in (inside, ~inside))
    covariance = shrunk_covariance(strayed, freedom)
    difference = _drawn_together(mean_in - mean_out, inside, float(np.diag(covariance).mean()))
    weights = np.linalg.solve(covariance, difference.T).T
    return np.asarray((weights * (target - (mean_in + mean_out) / 2)).sum(axis=1), dtype=np.float64)


def pooled_cells(
    maps: NDArray[np.floating[Any]], valid: NDArray[np.bool_] | None = None, *, cells: int = 8
) -> Values:
    """Return means of maps over a grid of `cells` x `cells`, (n, cells^2), row by row.

    Args:
        maps: one number per pixel, such as margins, (n, h, w).
        valid: valid pixels, bool (n, h, w); all if not given. A cell without any takes the map's mean.
        cells: size of the grid, 1 up to the shorter side.

    Raises:
        InputError: maps that are not (n, h, w), another shape of `valid`, a grid finer than the map, a map
            without a valid pixel.
    """
    counted = np.ones(maps.shape, dtype=np.bool_) if valid is None else valid
    if maps.ndim != 3 or counted.shape != maps.shape or not 1 <= cells <= min(maps.shape[1:]):
        raise InputError(
            f"maps must be (n, h, w) with sides of at least {cells}, and valid of the same shape, got "
            f"{maps.shape} and {counted.shape}; give maps of one channel, or fewer cells"
        )
    empty = int((~counted.any(axis=(1, 2))).sum())
    if empty:
        raise InputError(
            f"each map needs a valid pixel, {empty} of {len(maps)} have none; leave these samples out"
        )
    values: Values = np.where(counted, maps, 0.0).astype(np.float64)
    sums, counts = (cell_sums(array, cells) for array in (values, counted.astype(np.float64)))
    overall = sums.sum(axis=1, keepdims=True) / counts.sum(axis=1, keepdims=True)
    return np.where(counts > 0, sums / np.maximum(counts, 1), overall)


def cell_sums(maps: Values, cells: int) -> Values:
    """Return sums over a grid of `cells` along each axis, a pixel for shorter ones, (n, grid), row by row.

    Args:
        maps: one number per pixel, (n, *S).
        cells: cells along an axis, 1 or more.
    """
    for axis in range(1, maps.ndim):
        count = min(cells, maps.shape[axis])
        starts = np.arange(count) * maps.shape[axis] // count
        maps = np.add.reduceat(maps, starts, axis=axis)
    return maps.reshape(len(maps), -1)


def _log_density(target: Values, references: Values, side: Inside) -> Values:
    """Return the log density of each sample's vector up to a constant shared by both sides, (n,)."""
    covariance = pooled_covariance(references, side)
    strayed = target - side_means(references, side)
    squared = (strayed * np.linalg.solve(covariance, strayed.T).T).sum(axis=1)
    return np.asarray(-(squared + np.linalg.slogdet(covariance)[1]) / 2, dtype=np.float64)


def _drawn_together(difference: Values, inside: Inside, within: float) -> Values:
    """Return each sample's difference (n, cells) shrunk to the mean of all, as in `dense_lira`."""
    worth = 1 / (1 / inside.sum(axis=0) + 1 / (~inside).sum(axis=0))
    if len(difference) < 2:
        return difference
    spread = float(difference.var(axis=0, ddof=1).mean()) - within * float((1 / worth).mean())
    middle = difference.mean(axis=0)
    if spread <= 0:
        return np.broadcast_to(middle, difference.shape)
    weight = worth / (worth + within / spread)
    return np.asarray(middle + weight[:, None] * (difference - middle), dtype=np.float64)


def _vector(target: Numbers) -> Numbers:
    if target.ndim != 2:
        raise InputError(
            f"this attack takes several signals, (n, signals), got {target.shape}; for one use lira_online"
        )
    return target
