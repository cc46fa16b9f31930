"""Halves of the attacked patients: one to fit an attack to, the other to evaluate it on."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from seg_mia.errors import InputError


def patient_halves(
    indices: NDArray[np.int64], groups: Sequence[str], seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the samples to fit to and those to evaluate on, ascending; no patient is in both.

    Patients are drawn one by one into the half with fewer samples, so both have nearly as many.

    Args:
        indices: data-set indices.
        groups: patient of each sample of the data set.
        seed: of the draw.

    Raises:
        InputError: samples of fewer than two patients.
    """
    patients = dict[str, list[int]]()
    for index in indices.tolist():
        patients.setdefault(groups[index], []).append(index)
    if len(patients) < 2:
        raise InputError(
            f"an attack that is fitted needs images of two patients, got {len(patients)}; attack more images "
            "(--data.limit, --data.subset)"
        )
    names = list(patients)
    sides: tuple[list[int], list[int]] = ([], [])
    for number in np.random.default_rng(seed).permutation(len(names)).tolist():
        min(sides, key=len).extend(patients[names[number]])
    fitted, evaluated = (np.array(sorted(side), dtype=np.int64) for side in sides)
    return fitted, evaluated
