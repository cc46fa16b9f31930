"""Bounds by many trainings: simulated fleets of known mu, and Clopper-Pearson by hand."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from seg_mia.errors import InputError
from seg_mia.membership.fleet.many_runs import many_runs_bound
from seg_mia.membership.tradeoff import gaussian_epsilon

DELTA = 1e-3
Fleet = tuple[NDArray[np.float64], NDArray[np.bool_]]


def fleet(generator: np.random.Generator, networks: int, mu: float, patients: int = 30) -> Fleet:
    """Return the best attack's scores on mu-Gaussian trainings, in pairs of complements."""
    inside = np.zeros((networks, patients), dtype=np.bool_)
    for first in range(0, networks, 2):
        inside[first, generator.permutation(patients)[: patients // 2]] = True
        inside[first + 1] = ~inside[first]
    return generator.normal(size=inside.shape) + mu * inside, inside


@pytest.mark.parametrize(("mu", "networks"), [(0.5, 32), (2.0, 32), (2.0, 128), (3.0, 256)])
def test_at_most_one_bound_in_twenty_exceeds_the_truth(mu: float, networks: int) -> None:
    generator = np.random.default_rng(5)
    for gaussian in (True, False):
        bounds = [
            many_runs_bound(*fleet(generator, networks, mu), delta=DELTA, gaussian=gaussian).epsilon
            for _ in range(100)
        ]
        assert np.mean(np.array(bounds) > gaussian_epsilon(mu, DELTA)) <= 0.05


def test_choosing_among_many_patients_without_a_leak_proves_nothing() -> None:
    """The patient who looks most exposed by chance is judged on networks that did not choose."""
    generator = np.random.default_rng(1)
    bounds = [many_runs_bound(*fleet(generator, 32, 0.0, 200), delta=DELTA, gaussian=True) for _ in range(60)]
    assert np.mean([bound.epsilon > 0 for bound in bounds]) <= 0.05


def test_more_networks_prove_more_and_few_have_a_low_ceiling() -> None:
    generator = np.random.default_rng(0)
    ceilings, means = list[float](), list[float]()
    for networks in (16, 64, 256):
        bounds = [
            many_runs_bound(*fleet(generator, networks, 3.0), delta=DELTA, gaussian=True) for _ in range(20)
        ]
        ceilings.append(bounds[0].attainable)
        means.append(float(np.mean([bound.epsilon for bound in bounds])))
    assert ceilings == pytest.approx([0.47, 7.76, 15.94], abs=0.01)
    assert means == sorted(means)
    assert 7 < means[2] < gaussian_epsilon(3.0, DELTA)


def test_a_perfect_fleet_by_hand() -> None:
    """32 pairs: 10 choose, 22 judge; no error of 22 has rates of 0.025^(1/22) and its complement."""
    inside = fleet(np.random.default_rng(2), 64, 0.0)[1]
    tpr = 0.025 ** (1 / 22)
    found = many_runs_bound(1.0 * inside, inside, delta=DELTA, gaussian=False)
    assert found.epsilon == found.attainable == pytest.approx(math.log((tpr - DELTA) / (1 - tpr)))
    assert (found.members, found.nonmembers, found.rule) == (22, 22, "many_runs")
    by_mu = many_runs_bound(1.0 * inside, inside, delta=DELTA, gaussian=True)
    assert by_mu.epsilon == pytest.approx(gaussian_epsilon(2 * float(stats.norm.ppf(tpr)), DELTA))
    assert by_mu.rule == "gaussian_many_runs"
    assert many_runs_bound(-1.0 * inside, inside, delta=DELTA, gaussian=True).epsilon == 0


def test_the_patient_who_leaks_is_found_among_others() -> None:
    generator = np.random.default_rng(3)
    values, inside = fleet(generator, 256, 0.0)
    values[:, 7] += 6 * inside[:, 7]
    assert many_runs_bound(values, inside, delta=DELTA, gaussian=True).epsilon > 8


@pytest.mark.parametrize(("delta", "confidence"), [(0.0, 0.95), (1e-3, 1.0)])
def test_impossible_settings_are_refused(delta: float, confidence: float) -> None:
    values, inside = fleet(np.random.default_rng(0), 8, 1.0)
    with pytest.raises(InputError, match="between 0 and 1"):
        many_runs_bound(values, inside, delta=delta, gaussian=True, confidence=confidence)
    with pytest.raises(InputError, match="networks, patients"):
        many_runs_bound(values[:, :, None], inside, delta=1e-3, gaussian=True)
