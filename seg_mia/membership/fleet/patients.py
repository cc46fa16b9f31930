"""Signals of patients from those of their samples."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from seg_mia.errors import InputError
from seg_mia.membership.fleet.arrays import Inside, Numbers, Values
from seg_mia.membership.fleet.recipe import by_patient


def patient_signals(
    signals: Numbers, inside: Inside, groups: Sequence[str] | NDArray[np.str_], *, largest: Sequence[int] = ()
) -> tuple[Values, Inside, list[str]]:
    """Return means over each patient's samples, and the largest value of some signals behind them.

    All samples of a patient are in one training: a density fitted to patients does not count them twice. A
    mean hides the one sample that was learnt by heart, which the largest value shows. A sample counts for a
    signal if all networks define it.

    Args:
        signals: higher for members, (networks, n, signals), NaN where undefined.
        inside: bool (networks, n).
        groups: patient of each sample, (n,).
        largest: numbers of the signals whose largest value is a signal, too.

    Returns:
        (networks, patients, signals + largest), NaN for a patient without a sample that counts; members and
        names, sorted.

    Raises:
        InputError: errors of `by_patient`.
    """
    if signals.ndim != 3:
        raise InputError(f"signals must be (networks, n, signals), got {signals.shape}; add an axis")
    known = np.isfinite(signals).all(axis=0)
    sums, members, names = by_patient(np.where(known, signals, 0.0), inside, groups)
    shares, _, _ = by_patient(np.broadcast_to(known.astype(np.float64), signals.shape), inside, groups)
    means = np.divide(sums, shares, out=np.full(sums.shape, np.nan), where=shares > 0)
    _, unit = np.unique(np.asarray(groups), return_inverse=True)
    order = np.argsort(unit, kind="stable")
    starts = np.searchsorted(unit[order], np.arange(len(names)))
    chosen = list(largest)
    candidates = np.where(known, signals, -np.inf)[:, order][..., chosen]
    highest = np.maximum.reduceat(candidates, starts, axis=1)
    return np.concatenate([means, np.where(np.isinf(highest), np.nan, highest)], axis=2), members, names
