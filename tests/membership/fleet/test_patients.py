"""Signals of patients, by hand."""

import numpy as np
import pytest

from seg_mia.errors import InputError
from seg_mia.membership.fleet.patients import patient_signals

GROUPS = ["b", "a", "b", "c", "a"]
INSIDE = np.array([[True, False, True, False, False], [False, True, False, True, True]])


def test_means_and_the_largest_value_of_each_patient() -> None:
    signals = np.arange(20.0).reshape(2, 5, 2)
    signals[1, 2, 1] = -50
    found, members, names = patient_signals(signals, INSIDE, GROUPS, largest=[1])
    assert names == ["a", "b", "c"]
    assert members.tolist() == [[False, True, False], [True, False, True]]
    np.testing.assert_array_equal(found[0], [[5, 6, 9], [2, 3, 5], [6, 7, 7]])
    np.testing.assert_array_equal(found[1], [[15, 16, 19], [12, (11 - 50) / 2, 11], [16, 17, 17]])


def test_a_sample_counts_where_all_networks_define_it() -> None:
    signals = np.arange(20.0).reshape(2, 5, 2)
    signals[0, 4, 1] = np.nan  # the largest of patient a
    signals[1, 3, :] = np.nan  # all that patient c has
    found, _, _ = patient_signals(signals, INSIDE, GROUPS, largest=[0, 1])
    np.testing.assert_array_equal(found[0], [[5, 3, 8, 3], [2, 3, 4, 5], [np.nan] * 4])
    np.testing.assert_array_equal(found[1, 0], [15, 13, 18, 13])


def test_a_patient_on_both_sides_and_a_missing_axis_are_refused() -> None:
    with pytest.raises(InputError, match="entirely inside or outside"):
        patient_signals(np.zeros((2, 5, 1)), INSIDE, ["a", "a", "b", "b", "c"])
    with pytest.raises(InputError, match="add an axis"):
        patient_signals(np.zeros((2, 5)), INSIDE, GROUPS)
