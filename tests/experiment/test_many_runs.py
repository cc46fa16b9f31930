"""What the networks of a private fleet prove, from their signals."""

from dataclasses import replace

import numpy as np
import pytest

from seg_mia.experiment.recipe import FleetSignals, many_runs
from seg_mia.membership.fleet.arrays import standardised
from seg_mia.membership.fleet.many_runs import many_runs_bound
from seg_mia.results.privacy import DPGuarantee
from tests.membership.fleet.test_many_runs import fleet

PRIVATE = DPGuarantee(epsilon=1.0, delta=1e-3, noise=2.0, rate=1.0)
VALUES, INSIDE = fleet(np.random.default_rng(0), 64, 3.0)


def signals(privacy: DPGuarantee | None, groups: int = 1) -> FleetSignals:
    """Return a fleet whose patients have so many samples each, all with the same signals."""
    inside = np.repeat(INSIDE, groups, axis=1)
    names = np.array([str(i) for i in range(inside.shape[1])])
    patients = np.repeat(names[: INSIDE.shape[1]], groups)
    return FleetSignals(names, patients, inside, {}, np.zeros(inside.shape), {}, privacy=privacy)


def test_each_sample_is_a_unit_or_each_patient() -> None:
    single = many_runs(VALUES, signals(PRIVATE))
    assert single is not None
    expected = many_runs_bound(standardised(VALUES), INSIDE, delta=1e-3, gaussian=True)
    assert (single.epsilon, single.attainable, single.unit) == (
        expected.epsilon,
        expected.attainable,
        "image",
    )
    assert single.rule == "gaussian_many_runs"
    assert [row.epsilon for row in single.stricter] == sorted(
        [row.epsilon for row in single.stricter], reverse=True
    )
    grouped = many_runs(np.repeat(VALUES, 2, axis=1), signals(PRIVATE, 2))
    assert grouped is not None
    assert grouped.epsilon == pytest.approx(single.epsilon)
    assert grouped.unit == "patient"


def test_sampled_steps_are_no_gaussian_mechanism_and_no_promise_has_no_bound() -> None:
    sampled = many_runs(VALUES, signals(PRIVATE.model_copy(update={"rate": 0.5})))
    assert sampled is not None
    assert sampled.rule == "many_runs"
    for privacy in (
        None,
        PRIVATE.model_copy(update={"noise": 0.0}),
        PRIVATE.model_copy(update={"delta": None}),
    ):
        assert many_runs(VALUES, signals(privacy)) is None


def test_patients_of_unequal_size_an_odd_number_or_networks_left_out_prove_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One patient of 20 samples and 40 of 3: halves by samples with it hold 18 patients, those without 23."""
    sizes = [20] + [3] * 40
    patients = np.repeat(np.array([f"{number:02}" for number in range(41)]), sizes)
    whole = np.zeros((64, 41), dtype=np.bool_)
    for pair in range(32):
        order = np.random.default_rng(pair).permutation(np.arange(1, 41))
        whole[2 * pair, 0] = True
        whole[2 * pair, order[:17]] = True
        whole[2 * pair + 1] = ~whole[2 * pair]
    inside = np.repeat(whole, sizes, axis=1)
    values = np.random.default_rng(0).normal(size=inside.shape) + 1.0 * inside
    uneven = FleetSignals(patients, patients, inside, {}, np.zeros(inside.shape), {}, privacy=PRIVATE)
    assert many_runs(values, uneven) is None
    assert "no epsilon is proved by these trainings" in caplog.text
    odd = replace(
        uneven, ids=uneven.ids[:3], groups=np.array(list("abc")), inside=np.array([[1, 1, 0], [0, 0, 1]]) > 0
    )
    assert many_runs(values[:2, :3], odd) is None
    assert many_runs(VALUES, replace(signals(PRIVATE), untrained=(3,))) is None
