"""What the networks of a private fleet prove, from their signals."""

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
