"""Several signals of a patient as one number, by a discriminant of the other patients."""

import numpy as np

from seg_mia.membership.fleet.arrays import Inside, Numbers, Values, check_counts, check_fleet
from seg_mia.membership.fleet.gaussian import residuals, side_means


def weighed(signals: Numbers, inside: Inside) -> Values:
    """Return each network's weighed signals of each patient, (networks, patients).

    w . phi with w = S^-1 d, Fisher's discriminant (1936, Annals of Eugenics 7:179) of networks with and
    without a patient: S is the covariance within patients and sides, d the mean over patients of the
    difference of the sides' means, raised by its standard error, since signals are higher for members. The
    patient itself is left out of both: where it does not leak its scores are exchangeable between networks,
    so that p-values of their ranks are exact.

    Args:
        signals: standardised, higher for members, (networks, patients, signals).
        inside: bool (networks, patients).

    Raises:
        InputError: incompatible shapes, values that are not finite, a patient without a network on a side.
    """
    values = check_fleet(signals, inside)
    check_counts(inside, least_in=1, least_out=1)
    patients = inside.shape[1]
    strayed = residuals(values, inside) + residuals(values, ~inside)
    squares = np.einsum("kps,kpt->pst", strayed, strayed)
    differences = side_means(values, inside) - side_means(values, ~inside)
    others = max(1, patients - 1)
    mean = (differences.sum(axis=0) - differences) / others
    variance = ((differences**2).sum(axis=0) - differences**2) / others - mean**2
    direction = mean + np.sqrt(np.maximum(variance, 0) / others)
    covariance = squares.sum(axis=0) - squares
    weights = (np.linalg.pinv(covariance, hermitian=True) @ direction[..., None])[..., 0]
    return np.asarray(np.einsum("kps,ps->kp", values, weights), dtype=np.float64)
