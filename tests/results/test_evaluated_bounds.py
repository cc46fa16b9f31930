"""Which lower bounds on epsilon accompany a membership result."""

import numpy as np
import pytest

from seg_mia.membership.gaussian_threshold import gaussian_threshold_bound
from seg_mia.results.evaluation import certified_gaussian
from seg_mia.results.membership import GAUSSIAN
from seg_mia.results.privacy import DPGuarantee
from tests.report.audits import certified, guess, promise
from tests.report.test_statements import answers, private

MEMBERS = np.arange(80) < 40
SCORES = np.random.default_rng(0).normal(size=80) + 2 * MEMBERS
IMAGES = np.array([str(i) for i in range(80)])


@pytest.mark.parametrize("changes", [{"rate": 0.5}, {"noise": 0.0}, {"rate": None}])
def test_only_steps_on_all_units_with_noise_are_a_gaussian_mechanism(
    changes: dict[str, float | None],
) -> None:
    given = DPGuarantee.read(promise(8.0) | {"rate": 1.0} | changes, "test")
    assert certified_gaussian(SCORES, MEMBERS, IMAGES, given) is None
    assert certified_gaussian(SCORES, MEMBERS, IMAGES, None) is None


def test_the_bound_by_mu_is_at_the_promised_delta_over_patients() -> None:
    given = DPGuarantee.read(promise(8.0, rate=1.0, delta=1e-3), "test")
    bound = certified_gaussian(SCORES, MEMBERS, IMAGES, given)
    assert bound is not None
    expected = gaussian_threshold_bound(SCORES, MEMBERS, delta=1e-3)
    assert (bound.epsilon, bound.attainable, bound.unit) == (expected.epsilon, expected.attainable, "image")
    assert not bound.is_proof
    stricter = [row.epsilon for row in bound.stricter]
    assert stricter == sorted(stricter, reverse=True)
    patients = certified_gaussian(SCORES, MEMBERS, np.array([str(i // 2) for i in range(80)]), given)
    assert patients is not None
    assert (patients.unit, patients.members) == ("patient", 20)


def test_it_is_compared_with_the_promise_beside_the_other() -> None:
    gaussian = certified(9.0, 20.0, rule="gaussian_threshold")
    attack = guess(certified=certified(0.5, 2.0), gaussian=gaussian)
    answer = answers(private(8.0, attack=attack))["promise"]
    assert (answer.rule, answer.word) == ("P1", "Promise contradicted if samples are independent")
    assert f"mia-type2{GAUSSIAN} shows at least epsilon 9.00" in answer.why
    assert "for the 2 bounds together" in answer.why
