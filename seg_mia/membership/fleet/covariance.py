"""Covariances of signals within samples, shrunk to their diagonal."""

import numpy as np

from seg_mia.errors import InputError
from seg_mia.membership.fleet.arrays import Inside, Values
from seg_mia.membership.fleet.gaussian import residuals


def pooled_covariance(references: Values, side: Inside) -> Values:
    """Return the covariance within samples over networks of a side, (signals, signals).

    sum (phi - mean_i)(phi - mean_i)^T / sum (n_i - 1), shrunk to its diagonal by the weight that
    minimises the expected squared error (Ledoit and Wolf 2004, Journal of Multivariate Analysis 88:365; for
    this target Schäfer and Strimmer 2005, table 2, D).

    Args:
        references: (networks, n, signals).
        side: networks of the side, bool (networks, n).

    Raises:
        InputError: fewer residuals than signals, or a signal that is constant over networks.
    """
    several = side & (side.sum(axis=0) > 1)
    freedom = int(np.maximum(side.sum(axis=0) - 1, 0).sum())
    return shrunk_covariance(residuals(references, side)[several], freedom)


def shrunk_covariance(strayed: Values, freedom: int) -> Values:
    """Return the covariance of residuals, shrunk to its diagonal as in `pooled_covariance`.

    Args:
        strayed: residuals about the means of their samples, (m, signals).
        freedom: degrees of freedom, 2 or more.

    Raises:
        InputError: fewer degrees of freedom, or a constant signal.
    """
    if freedom < 2:
        raise InputError(
            f"a covariance needs samples inside, or outside, 2 or more networks, got {freedom} degrees of "
            "freedom; train more networks"
        )
    covariance = strayed.T @ strayed / freedom
    if (np.diag(covariance) <= 0).any():
        raise InputError(
            "each signal must differ between networks, got one that is equal for all of them; leave it out"
        )
    # In units of each signal's deviation, so that a signal's scale does not choose the weight.
    deviation = np.sqrt(np.diag(covariance))
    scaled = strayed / deviation
    off = ~np.eye(len(covariance), dtype=np.bool_)
    correlation = covariance / np.outer(deviation, deviation)
    fourth = (scaled**2).T @ scaled**2 / freedom
    noise = float((fourth - correlation**2)[off].sum() / freedom)
    size = float((correlation**2)[off].sum())
    weight = min(1.0, max(0.0, noise / size)) if size > 0 else 0.0
    shrunk = np.where(off, (1 - weight) * covariance, covariance)
    # Signals that repeat each other leave a direction without variance.
    return np.asarray(shrunk + 1e-9 * np.diag(np.diag(covariance)), dtype=np.float64)
