"""Halves of patients."""

import numpy as np
import pytest

from seg_mia.data.halves import patient_halves
from seg_mia.errors import InputError


def test_no_patient_is_in_both_halves_and_they_are_nearly_equal() -> None:
    groups = [f"p{number % 7}" for number in range(40)]
    chosen = np.arange(3, 40)
    for seed in range(5):
        first, second = patient_halves(chosen, groups, seed)
        assert sorted([*first.tolist(), *second.tolist()]) == chosen.tolist()
        assert not {groups[row] for row in first} & {groups[row] for row in second}
        assert abs(len(first) - len(second)) <= 6
    assert (patient_halves(chosen, groups, 0)[0] == patient_halves(chosen, groups, 0)[0]).all()
    draws = {tuple(patient_halves(chosen, groups, seed)[0].tolist()) for seed in range(8)}
    assert len(draws) > 1


def test_one_patient_cannot_be_divided() -> None:
    with pytest.raises(InputError, match="images of two patients, got 1"):
        patient_halves(np.arange(3), ["p"] * 3, 0)
