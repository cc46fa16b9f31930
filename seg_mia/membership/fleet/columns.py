"""Subgroups of patients by a column of the manifest."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from seg_mia.errors import InputError

SEVERAL, MISSING = "several", "missing"
"""Subgroups of patients whose samples differ, and of those without a value."""
DISTINCT = 6
"""Numbers of up to this many different values, such as a grade, are names."""
THIRDS = ("lower third", "middle third", "upper third")


def patient_labels(
    column: str, labels: Sequence[str], groups: Sequence[str] | NDArray[np.str_]
) -> NDArray[np.str_]:
    """Return the subgroup of each patient, sorted by the patient's name.

    Names are kept; a patient whose samples have different names is in `several`, one without any in
    `missing`. Numbers of more than six different values, such as ages or lesion sizes, are averaged over a
    patient's samples and divided into thirds of the patients.

    Args:
        column: name of the column, for errors.
        labels: value of each sample as text, empty if missing, (n,).
        groups: patient of each sample, (n,).

    Raises:
        InputError: a number of labels other than of samples.
    """
    if len(labels) != len(groups):
        raise InputError(
            f"column {column!r} must have a value for each sample, got {len(labels)} for {len(groups)}; "
            "leave a missing value empty"
        )
    values: dict[str, list[str]] = {str(patient): [] for patient in groups}
    for patient, label in zip(groups, labels, strict=True):
        if label.strip():
            values[str(patient)].append(label.strip())
    rows = [values[patient] for patient in sorted(values)]
    numbers = _numbers({label for row in rows for label in row})
    if numbers is None:
        return np.array([_name(row) for row in rows])
    means = np.array([np.mean([numbers[label] for label in row]) if row else np.nan for row in rows])
    return _thirds(means)


def _numbers(values: set[str]) -> dict[str, float] | None:
    """Return values as numbers; None if some are names, or if they are few."""
    if len(values) <= DISTINCT:
        return None
    try:
        numbers = {value: float(value) for value in values}
    except ValueError:
        return None
    return numbers if np.isfinite(list(numbers.values())).all() else None


def _name(row: Sequence[str]) -> str:
    names = set(row)
    if not names:
        return MISSING
    return names.pop() if len(names) == 1 else SEVERAL


def _thirds(means: NDArray[np.float64]) -> NDArray[np.str_]:
    """Return the third of each patient's mean, with the range of the third."""
    known = ~np.isnan(means)
    third = np.searchsorted(np.quantile(means[known], (1 / 3, 2 / 3)), means)
    parts = {number: means[known & (third == number)] for number in range(len(THIRDS))}
    labels = {
        number: f"{THIRDS[number]}, {part.min():.3g} to {part.max():.3g}"
        for number, part in parts.items()
        if part.size
    }
    return np.array(
        [
            labels[number] if measured else MISSING
            for number, measured in zip(third.tolist(), known.tolist(), strict=True)
        ]
    )
