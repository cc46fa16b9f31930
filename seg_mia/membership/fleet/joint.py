"""A Bayesian density of a sample's signal with and without it in the training set, both sides together.

With few networks, the difference between the means of two sides is mostly noise. Here the pair of means is
shrunk to its distribution over samples, which holds the effect of membership and its dependence on the
sample's difficulty; with one effect for all samples, both sides determine the same difficulty. Means
(mu_out, mu_in) of a sample are N(m, S), where m is linear in the sample's standard deviation; m and S are
fitted to all samples by moments (empirical Bayes). Variances of a side have inverse gamma priors (Smyth 2004,
see `seg_mia.membership.fleet.posterior`) whose scale depends on the variance of the other side. For many
networks the density is the normal one of each sample and side. Defined here, without precedent.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from seg_mia.errors import InputError
from seg_mia.membership.fleet.arrays import Inside, Values
from seg_mia.membership.fleet.posterior import Predictive, fitted_shape, moments

_LEAST_FOR_TREND = 10
_EQUAL = 1e-9
_STEEPEST = 1.5


@dataclass(frozen=True)
class VariancePrior:
    """Inverse gamma prior of a side's variance within samples.

    Attributes:
        shape: a0 > 1.
        mean: b0 / (a0 - 1), of a sample whose other side has the geometric mean variance.
        slope: of its logarithm on the logarithm of the other side's variance; 0 without regard to it.
        centre: mean of that logarithm.
    """

    shape: float
    mean: float
    slope: float = 0.0
    centre: float = 0.0


@dataclass(frozen=True)
class JointPrior:
    """Distribution of a signal's means and variances over samples; pairs are (outside, inside).

    Attributes:
        middle: means for a standard deviation of 0, (2,).
        trend: change of the means per unit of the standard deviation, (2,).
        covariance: of the means between samples of one standard deviation, (2, 2).
        alone: priors of the variances without regard to the other side.
        informed: priors given the other side's variance.
    """

    middle: Values
    trend: Values
    covariance: Values
    alone: tuple[VariancePrior, VariancePrior]
    informed: tuple[VariancePrior, VariancePrior]


@dataclass(frozen=True)
class _Side:
    """Moments of a side: number of networks, mean, and sum of squares about it, all (n,)."""

    counts: Values
    means: Values
    squares: Values

    @property
    def freedom(self) -> Values:
        return np.maximum(self.counts - 1, 0)


def fitted_joint(references: Values, inside: Inside) -> JointPrior:
    """Return the prior estimated from the signals of networks with known members, over all samples.

    Args:
        references: (networks, n).
        inside: bool (networks, n).

    Raises:
        InputError: no sample with two networks on a side, or none with both sides; no variation between
            networks.
    """
    sides = _sides(references, inside, ~inside)
    alone = _fitted(sides[0].squares, sides[0].freedom), _fitted(sides[1].squares, sides[1].freedom)
    logs = [np.log(scale / shape) for shape, scale in map(_posterior, sides, alone)]
    informed = _informed(sides[0], sides[1], logs[1]), _informed(sides[1], sides[0], logs[0])
    both = (sides[0].counts > 0) & (sides[1].counts > 0)
    if not both.any():
        raise InputError(
            "the effect of membership needs samples with networks on both sides, got none; attack offline"
        )
    variances = _variances(sides, alone, informed)[1][:, both]
    means = np.stack([side.means[both] for side in sides])
    noise = variances / np.stack([side.counts[both] for side in sides])
    deviation = _deviation(variances)
    trends = means.shape[1] >= _LEAST_FOR_TREND and np.ptp(deviation) > _EQUAL * deviation.mean()
    design = np.stack([np.ones(means.shape[1]), deviation if trends else np.zeros(means.shape[1])])
    middle, trend = np.linalg.lstsq(design.T, means.T, rcond=None)[0]
    residuals = means - middle[:, None] - trend[:, None] * deviation
    freedom = max(1, means.shape[1] - 1 - trends)
    return JointPrior(middle, trend, _covariance(residuals, noise, freedom), alone, informed)


def joint_predictive(
    references: Values, inside: Inside, prior: JointPrior, *, online: bool = True
) -> tuple[Predictive, Predictive]:
    """Return the predictive distributions of the next network without and with each sample.

    Args:
        references: (networks, n).
        inside: bool (networks, n).
        prior: of `fitted_joint`, from these or other networks of the recipe.
        online: whether signals of networks trained on a sample are used for it; otherwise its distribution
            with membership follows from the other side and the prior.
    """
    sides = _sides(references, inside if online else np.zeros_like(inside), ~inside)
    shapes, variances = _variances(sides, prior.alone, prior.informed)
    middle = prior.middle[:, None] + prior.trend[:, None] * _deviation(variances)
    # Posterior of the means: gain = S W (1 + S W)^-1 with W the precision of the observed means, 0 for none.
    precision = np.stack([side.counts for side in sides]) / variances
    spread = prior.covariance[None] * precision.T[:, None, :]
    gain = spread @ np.linalg.inv(np.eye(2) + spread)
    strayed = np.stack([side.means for side in sides]) - middle
    means = middle + np.einsum("nij,jn->in", gain, strayed)
    remaining = prior.covariance - gain @ prior.covariance
    total = variances + np.maximum(np.stack([remaining[:, side, side] for side in range(2)]), 0)
    nonmember, member = (Predictive(2 * shapes[side], means[side], np.sqrt(total[side])) for side in range(2))
    return nonmember, member


def _sides(references: Values, inside: Inside, outside: Inside) -> tuple[_Side, _Side]:
    return _Side(*moments(references, outside)), _Side(*moments(references, inside))


def _fitted(squares: Values, freedom: Values) -> VariancePrior:
    """Return the prior of variances from sums of squares and their degrees of freedom; InputError if none."""
    several = freedom > 0
    within = float(squares[several].sum() / freedom[several].sum()) if several.any() else 0.0
    if not within > 0:
        raise InputError(
            "the variance between networks needs samples with 2 or more networks on each side whose signals "
            "differ, the reference networks give none; train more, or use difficulty_calibrated"
        )
    return VariancePrior(fitted_shape(squares[several] / freedom[several], freedom[several]), within)


def _informed(side: _Side, other: _Side, logs: Values) -> VariancePrior:
    """Return the prior of a side's variance given the logarithm of the other side's estimate, (n,)."""
    usable = (side.freedom > 0) & (side.squares > 0) & (other.freedom > 0)
    if int(usable.sum()) < _LEAST_FOR_TREND or np.ptp(logs[usable]) < _EQUAL:
        return _fitted(side.squares, side.freedom)
    half, known = side.freedom[usable] / 2, logs[usable]
    observed = np.log(side.squares[usable] / (2 * half)) - special.digamma(half) + np.log(half)
    centre = float(known.mean())
    slope = float(((known - centre) * observed).sum() / ((known - centre) ** 2).sum())
    slope = min(max(slope, 0.0), _STEEPEST)
    prior = _fitted(side.squares[usable] / np.exp(slope * (known - centre)), side.freedom[usable])
    return replace(prior, slope=slope, centre=centre)


def _posterior(side: _Side, prior: VariancePrior, factor: Values | float = 1.0) -> tuple[Values, Values]:
    """Return shape and scale of the inverse gamma distribution of each sample's variance, both (n,)."""
    return prior.shape + side.freedom / 2, factor * prior.mean * (prior.shape - 1) + side.squares / 2


def _variances(
    sides: tuple[_Side, _Side],
    alone: tuple[VariancePrior, VariancePrior],
    informed: tuple[VariancePrior, VariancePrior],
) -> tuple[Values, Values]:
    """Return shapes of the variances' distributions, and the variances scale / shape, both (2, n)."""
    first = [_posterior(side, prior) for side, prior in zip(sides, alone, strict=True)]
    shapes, variances = list[Values](), list[Values]()
    for number, (side, prior) in enumerate(zip(sides, informed, strict=True)):
        shape, scale = first[1 - number]
        factor = np.exp(prior.slope * (np.log(scale / shape) - prior.centre))
        known = sides[1 - number].freedom > 0
        both = zip(_posterior(side, prior, factor), first[number], strict=True)
        shape, scale = (np.where(known, with_other, without) for with_other, without in both)
        shapes.append(shape)
        variances.append(scale / shape)
    return np.stack(shapes), np.stack(variances)


def _deviation(variances: Values) -> Values:
    """Return each sample's standard deviation, both sides together, (n,)."""
    return np.asarray(np.sqrt(variances.mean(axis=0)), dtype=np.float64)


def _covariance(left: Values, noise: Values, freedom: int) -> Values:
    """Return the covariance of pairs of means (2, n) between samples, less that of their noise.

    In terms of difficulty and effect, the mean without membership and the difference of means, whose
    variances are at least 0: the former is usually much larger than the latter.
    """
    easy, effect = left[0], left[1] - left[0]
    parts = np.array(
        [
            [(easy**2).sum() / freedom - noise[0].mean(), (easy * effect).sum() / freedom + noise[0].mean()],
            [0.0, (effect**2).sum() / freedom - noise.sum(axis=0).mean()],
        ]
    )
    first, second = max(float(parts[0, 0]), 0.0), max(float(parts[1, 1]), 0.0)
    bound = float(np.sqrt(first * second))
    shared = min(max(float(parts[0, 1]), -bound), bound)
    return np.array([[first, first + shared], [first + shared, first + 2 * shared + second]])
