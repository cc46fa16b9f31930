"""Subgroups of patients, worked out by hand."""

import numpy as np
import pytest

from seg_mia.errors import InputError
from seg_mia.membership.fleet import difficulty_calibrated, recipe_audit
from seg_mia.membership.fleet.columns import patient_labels
from tests.membership.fleet.worlds import members_of, signals_of


def test_names_are_kept_and_samples_of_a_patient_may_differ() -> None:
    groups = ["b", "a", "b", "c", "c", "d"]
    labels = ["north", "south ", "north", "north", "south", " "]
    assert patient_labels("site", labels, groups).tolist() == ["south", "north", "several", "missing"]


def test_a_few_numbers_are_names_and_many_are_thirds() -> None:
    groups = np.array([f"p{number}" for number in range(9)])
    grades = [str(number % 3) for number in range(9)]
    assert patient_labels("grade", grades, groups).tolist() == grades
    ages = ["90", "10", "20", "30", "40", "50", "60", "70", "80"]
    assert patient_labels("age", ages, groups).tolist() == [
        "upper third, 70 to 90",
        *["lower third, 10 to 30"] * 3,
        *["middle third, 40 to 60"] * 3,
        *["upper third, 70 to 90"] * 2,
    ]
    # Sizes of a patient's samples are averaged; the last patient has none.
    sizes = ["1", "3", "4", "5", "6", "7", "8", "9", ""]
    names = ["a", "a", "b", "c", "d", "e", "f", "g", "h"]
    found = patient_labels("size", sizes, names).tolist()
    assert found[0] == "lower third, 2 to 5"
    assert found[-1] == "missing"
    assert patient_labels("code", [*ages[:8], "nan"], groups).tolist() == [*ages[:8], "nan"]


def test_an_exposed_subgroup_is_found() -> None:
    generator = np.random.default_rng(0)
    inside = members_of(generator, 16, 90)
    signals = signals_of(generator, inside, effect=0.0) + 2.0 * inside * (np.arange(90) < 30)
    sites = ["small" if number < 30 else "large" for number in range(90)]
    names = [f"p{number:02}" for number in range(90)]
    audit = recipe_audit(
        signals, inside, names, difficulty_calibrated, columns={"site": sites}, resamples=5, permutations=5
    )
    large, small = audit.subgroups["site"]
    assert (large.value, large.patients, small.value, small.patients) == ("large", 60, "small", 30)
    # The AUC of two unit normals 2 apart is 0.92; noise is 1 and 30 patients are averaged.
    assert small.auc == pytest.approx(0.92, abs=0.04)
    assert large.auc == pytest.approx(0.5, abs=0.05)
    assert small.difference.low > 0.3
    assert large.difference.high < -0.3


def test_a_value_for_each_sample_is_needed() -> None:
    with pytest.raises(InputError, match="column 'site' must have a value for each sample, got 1 for 2"):
        patient_labels("site", ["a"], ["p", "q"])
