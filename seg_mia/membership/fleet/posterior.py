"""A Bayesian density of each sample's signal, for few networks: shrunk mean and variance.

mu | s2 ~ N(m0, s2 / k0) and s2 ~ InvGamma(a0, b0), fitted to all samples of a side (empirical Bayes): the
distribution over samples supplements the few networks of each sample. The use of such a prior for
membership follows BaVarIA (arXiv 2603.11799); the fitting method is defined here, its shape a0 as in limma
(Smyth 2004, Statistical Applications in Genetics and Molecular Biology 3(1), article 3, section 6.2).
"""

from dataclasses import dataclass

import numpy as np
from scipy import optimize, special, stats

from seg_mia.errors import InputError
from seg_mia.membership.fleet.arrays import Inside, Values

_LEAST_SHAPE, _MOST_SHAPE = 1.05, 1e4  # the mean of the prior exists; beyond, all samples share one variance
_LEAST_PULL, _MOST_PULL = 0.01, 1e6
_LEAST_TAIL = 1e-300


@dataclass(frozen=True)
class Prior:
    """Hyperparameters of the normal-inverse-gamma prior.

    Attributes:
        mean: m0, the mean of the samples' means.
        pull: k0 > 0, weight of the mean as a number of networks.
        shape: a0 > 1, of the variance's inverse gamma.
        scale: b0 > 0, likewise; b0 / (a0 - 1) is the pooled variance within samples.
    """

    mean: float
    pull: float
    shape: float
    scale: float


@dataclass(frozen=True)
class Predictive:
    """Student's t of the next network's signal for each sample.

    Attributes:
        freedom: 2 a_n, (n,).
        middle: m_n, (n,).
        deviation: sqrt(b_n (k_n + 1) / (a_n k_n)), (n,).
    """

    freedom: Values
    middle: Values
    deviation: Values

    def logpdf(self, signals: Values) -> Values:
        """Return the log density of signals (..., n)."""
        return np.asarray(stats.t.logpdf(signals, self.freedom, self.middle, self.deviation), np.float64)

    def logcdf(self, signals: Values) -> Values:
        """Return the log probability of a lower signal, of signals (..., n)."""
        standard = (signals - self.middle) / self.deviation
        # Above the middle the logarithm of the upper tail's complement keeps apart what rounds to 1.
        tail = stats.t.sf(np.abs(standard), self.freedom)
        logs = np.where(standard > 0, np.log1p(-tail), np.log(np.maximum(tail, _LEAST_TAIL)))
        return np.asarray(logs, dtype=np.float64)

    def upper(self, signals: Values) -> Values:
        """Return the probability of a signal as high or higher, of signals (..., n)."""
        return np.asarray(stats.t.sf(signals, self.freedom, self.middle, self.deviation), dtype=np.float64)


def fitted_prior(references: Values, side: Inside) -> Prior:
    """Return the prior estimated from a side's signals, over all samples.

    k0 is the pooled variance within samples over the variance between their means, after subtraction of the
    part explained by the variance within samples; a0 matches the variance of the samples' log variances,
    after subtraction of the part explained by their degrees of freedom.

    Args:
        references: (networks, n).
        side: networks used for each sample, bool (networks, n).

    Raises:
        InputError: no sample with two networks on that side, or no variation between networks.
    """
    counts, means, squares = moments(references, side)
    several = counts > 1
    freedom = (counts[several] - 1).astype(np.float64)
    within = float(squares[several].sum() / freedom.sum()) if several.any() else 0.0
    if not within > 0:
        raise InputError(
            "the variance between networks needs a sample inside, or outside, 2 or more networks of "
            f"different signals, got none with {len(side)} reference networks; train more, or use "
            "difficulty_calibrated"
        )
    queried = counts > 0
    spread = float(means[queried].var(ddof=1)) if int(queried.sum()) > 1 else 0.0
    between = spread - within * float((1 / counts[queried]).mean())
    pull = within / between if between > 0 else _MOST_PULL
    shape = fitted_shape(squares[several] / freedom, freedom)
    return Prior(
        mean=float(means[queried].mean()),
        pull=float(np.clip(pull, _LEAST_PULL, _MOST_PULL)),
        shape=shape,
        scale=within * (shape - 1),
    )


def predictive(references: Values, side: Inside, prior: Prior) -> Predictive:
    """Return the predictive distribution of each sample's signal under the next network of a side.

    k_n = k0 + n, m_n = (k0 m0 + n x) / k_n, a_n = a0 + n / 2 and
    b_n = b0 + SS / 2 + k0 n (x - m0)^2 / (2 k_n) with the n signals of the sample, their mean x and their sum
    of squares SS about it.

    Args:
        references: (networks, n).
        side: networks used for each sample, bool (networks, n); a sample with none has the prior's
            distribution.
        prior: prior of that side.
    """
    counts, means, squares = moments(references, side)
    pull = prior.pull + counts
    middle = (prior.pull * prior.mean + counts * means) / pull
    shape = prior.shape + counts / 2
    strayed = prior.pull * counts * (means - prior.mean) ** 2 / (2 * pull)
    scale = prior.scale + squares / 2 + strayed
    return Predictive(2 * shape, middle, np.sqrt(scale * (pull + 1) / (shape * pull)))


def moments(references: Values, side: Inside) -> tuple[Values, Values, Values]:
    """Return each sample's number of networks, mean (0 for none) and sum of squares about it, all (n,)."""
    counts = side.sum(axis=0).astype(np.float64)
    means = np.where(side, references, 0.0).sum(axis=0) / np.maximum(counts, 1)
    squares = np.where(side, references - means, 0.0) ** 2
    return counts, means, squares.sum(axis=0)


def fitted_shape(variances: Values, freedom: Values) -> float:
    """Return a0, from sample variances and their degrees of freedom (Smyth 2004, section 6.2)."""
    some = variances > 0
    half = freedom[some] / 2
    if len(half) < 3:
        return _MOST_SHAPE
    logs = np.log(variances[some]) - special.digamma(half) + np.log(half)
    excess = float(logs.var(ddof=1) - special.polygamma(1, half).mean())
    if excess <= special.polygamma(1, _MOST_SHAPE):
        return _MOST_SHAPE
    if excess >= special.polygamma(1, _LEAST_SHAPE):
        return _LEAST_SHAPE
    return float(optimize.brentq(lambda a: special.polygamma(1, a) - excess, _LEAST_SHAPE, _MOST_SHAPE))
