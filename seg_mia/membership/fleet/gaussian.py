"""The likelihood ratio attack on one signal, between networks with and without the sample.

Signals are higher for members (see `seg_mia.membership.fleet.arrays`), and so are scores.
"""

from dataclasses import replace
from typing import Literal, assert_never, get_args

import numpy as np
from scipy import stats

from seg_mia.errors import InputError
from seg_mia.membership.fleet.arrays import (
    NORMAL_MAD,
    Inside,
    Numbers,
    Values,
    check_counts,
    check_target,
    one_signal,
)
from seg_mia.membership.fleet.joint import JointPrior, fitted_joint, joint_predictive
from seg_mia.membership.fleet.posterior import fitted_prior, predictive

Variance = Literal["bayesian", "per_sample", "fixed", "robust"]
Centre = Literal["mean", "median"]
_TINY = 1e-30  # of the published code: the deviation of equal signals


def lira_online(
    target: Numbers,
    references: Numbers,
    inside: Inside,
    *,
    variance: Variance = "bayesian",
    centre: Centre = "mean",
) -> Values:
    """Return the log likelihood ratio of "trained on it" against "not trained on it", (n,).

    log N(phi; mu_in, s_in) - log N(phi; mu_out, s_out) (Carlini et al. 2022, "Membership inference attacks
    from first principles", equation 3 and algorithm 1).

    Args:
        target: signals of the target network, (n,).
        references: signals of each reference network for the same samples, (networks, n).
        inside: training sets of the references, bool (networks, n).
        variance: `per_sample`, each sample's own, without the correction for degrees of freedom, as
            published; `fixed`, one for all samples, pooled within samples, on each side; `robust`, the same
            by the median absolute deviation of the residuals; `bayesian`, the predictive Student t of
            `seg_mia.membership.fleet.joint`, which also shrinks the difference of the means, approaches the
            first for many networks and works with few.
        centre: `median` is the published code's; ignored for `bayesian`.

    Raises:
        InputError: incompatible shapes, signals that are not finite, too few networks on a side.
    """
    target, references = check_target(one_signal(target), references, inside)
    _check_sides(inside, variance, online=True)
    if variance == "bayesian":
        nonmember, member = joint_predictive(references, inside, fitted_joint(references, inside))
        return member.logpdf(target) - nonmember.logpdf(target)
    log_in = _log_density(target, references, inside, variance, centre)
    return log_in - _log_density(target, references, ~inside, variance, centre)


def lira_offline(
    target: Numbers,
    references: Numbers,
    inside: Inside,
    *,
    variance: Variance = "bayesian",
    centre: Centre = "mean",
    effect: JointPrior | None = None,
) -> Values:
    """Return log Pr[a network without the sample has a lower signal], (n,), in (-inf, 0].

    The logarithm of the score of Carlini et al. 2022, equation 4; it has the same order and does not round to
    1. With `effect` it is the log ratio of the density shifted by the effect expected for the sample's
    difficulty to the density itself, any number: better where the effect depends on the difficulty or the
    variance differs much between samples, worse where effects of equal difficulty differ.

    Args:
        target: signals of the target network, (n,).
        references: signals of each reference network, (networks, n); those trained on a sample are not used
            for it.
        inside: bool (networks, n).
        variance: as in `lira_online`.
        centre: as in `lira_online`.
        effect: `fitted_joint` of networks with known members, such as the references on all their samples;
            only with `bayesian`.

    Raises:
        InputError: errors of `lira_online`, only for the side without the sample; an effect with another
            variance than `bayesian`.
    """
    target, references = check_target(one_signal(target), references, inside)
    _check_sides(inside, variance, online=False)
    if effect is not None:
        if variance != "bayesian":
            raise InputError(f"an effect goes with variance bayesian, got {variance!r}; leave one out")
        nonmember, member = joint_predictive(references, inside, effect, online=False)
        return replace(nonmember, middle=member.middle).logpdf(target) - nonmember.logpdf(target)
    if variance == "bayesian":
        return predictive(references, ~inside, fitted_prior(references, ~inside)).logcdf(target)
    middle, deviation = _normal(references, ~inside, variance, centre)
    return np.asarray(stats.norm.logcdf((target - middle) / deviation), dtype=np.float64)


def difficulty_calibrated(target: Numbers, references: Numbers, inside: Inside) -> Values:
    """Return the signal minus its mean under networks without the sample, (n,).

    Difficulty calibration (Watson et al., ICLR 2022, equation 4), the counterpart of
    `seg_mia.membership.calibrated` for losses.

    Args:
        target: (n,).
        references: (networks, n).
        inside: bool (networks, n).

    Raises:
        InputError: incompatible shapes, signals that are not finite, a sample without such a network.
    """
    target, references = check_target(one_signal(target), references, inside)
    check_counts(inside, least_out=1)
    return target - side_means(references, ~inside)


def rank_among_out(target: Numbers, references: Numbers, inside: Inside) -> Values:
    """Return the fraction of networks without the sample with a lower signal, ties half, (n,), in [0, 1].

    The quantile of "Attack R" (Ye et al., CCS 2022, "Enhanced membership inference attacks", section 4.4).

    Args:
        target: (n,).
        references: (networks, n).
        inside: bool (networks, n).

    Raises:
        InputError: incompatible shapes, signals that are not finite, a sample without such a network.
    """
    target, references = check_target(one_signal(target), references, inside)
    check_counts(inside, least_out=1)
    below = (references < target) + 0.5 * (references == target)
    return side_means(below.astype(np.float64), ~inside)


def side_means(references: Values, side: Inside) -> Values:
    """Return each sample's mean over the networks of a side, (n, ...); the side must not be empty."""
    where = _like(side, references)
    sums = np.where(where, references, 0.0).sum(axis=0)
    return np.asarray(sums / _like(side.sum(axis=0), references[0]), dtype=np.float64)


def residuals(references: Values, side: Inside) -> Values:
    """Return signals minus their sample's mean on a side, 0 for networks of the other, same shape."""
    return np.where(_like(side, references), references - side_means(references, side), 0.0)


def pooled_variance(references: Values, side: Inside, *, robust: bool = False) -> float:
    """Return the variance within samples, sum (phi - mean_i)^2 / sum (n_i - 1), over networks of a side.

    Args:
        references: (networks, n).
        side: networks of the side, bool (networks, n).
        robust: use 1.4826 times the median absolute residual instead; residuals of a sample of n_i networks
            are multiplied by sqrt(n_i / (n_i - 1)) to correct their bias.

    Raises:
        InputError: no sample with two networks on that side.
    """
    counts = side.sum(axis=0)
    freedom = int(np.maximum(counts - 1, 0).sum())
    if not freedom:
        raise InputError(
            "the variance between networks needs a sample inside, or outside, 2 or more of them, got none "
            f"with {len(side)} reference networks; train more, or use difficulty_calibrated"
        )
    strayed = residuals(references, side)
    if not robust:
        return float((strayed**2).sum() / freedom)
    scaled = strayed * np.sqrt(counts / np.maximum(counts - 1, 1))
    deviation = NORMAL_MAD * float(np.median(np.abs(scaled[side & (counts > 1)])))
    return deviation**2


def _log_density(
    target: Values, references: Values, side: Inside, variance: Variance, centre: Centre
) -> Values:
    middle, deviation = _normal(references, side, variance, centre)
    return np.asarray(stats.norm.logpdf(target, middle, deviation), dtype=np.float64)


def _normal(
    references: Values, side: Inside, variance: Variance, centre: Centre
) -> tuple[Values, Values | float]:
    """Return centre (n,) and standard deviation of a side, one for all samples or (n,)."""
    middle = side_means(references, side)
    match variance:
        case "per_sample":
            squares = (residuals(references, side) ** 2).sum(axis=0)
            deviation: Values | float = np.sqrt(squares / side.sum(axis=0)) + _TINY
        case "fixed" | "robust":
            deviation = np.sqrt(pooled_variance(references, side, robust=variance == "robust")) + _TINY
        case "bayesian":
            raise TypeError("bayesian has no normal density; use its predictive distribution")
        case _:
            assert_never(variance)
    if centre == "median":
        middle = np.nanmedian(np.where(side, references, np.nan), axis=0)
    return middle, deviation


def _check_sides(inside: Inside, variance: Variance, *, online: bool) -> None:
    if variance not in get_args(Variance):
        raise InputError(f"variance must be one of {', '.join(get_args(Variance))}, got {variance!r}")
    minimum = 2 if variance == "per_sample" else 1
    check_counts(inside, least_in=minimum if online else 0, least_out=minimum)


def _like(values: Numbers | Inside, like: Values) -> Values:
    """Return values with trailing axes of length 1, as many as `like` has in addition."""
    return values.reshape(values.shape + (1,) * (like.ndim - values.ndim))  # type: ignore[return-value]
