"""The Bayesian density of several signals, in worlds where its parts are known."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from seg_mia.membership import auc
from seg_mia.membership.fleet import lira_online, lira_vector
from seg_mia.membership.fleet.joint_vector import vector_moments, vector_predictives
from tests.membership.fleet.worlds import members_of

COVARIANCE = np.array([[1.0, 0.6], [0.6, 1.0]])
EFFECT = np.array([1.0, 0.0])

Values = NDArray[np.float64]


def world(inside: NDArray[np.bool_], seed: int, *, varying: float = 0.0, tails: float = 1e9) -> Values:
    """Return signals (networks, n, 2): difficulty, effect, and noise with a factor for each sample."""
    generator = np.random.default_rng(seed)
    samples = inside.shape[1]
    easy = generator.normal(0, 2, (samples, 2))
    effect = EFFECT + varying * generator.normal(size=(samples, 2))
    factor = 1 / generator.gamma(tails, 1 / tails, samples)
    noise = generator.multivariate_normal(np.zeros(2), COVARIANCE, size=inside.shape)
    return np.asarray(easy + inside[..., None] * effect + np.sqrt(factor)[:, None] * noise, dtype=np.float64)


def test_the_density_is_a_multivariate_t_of_the_posterior() -> None:
    # One prior for both samples; the conjugate update of the four means written out with full matrices.
    between = np.diag([4.0, 4.0, 5.0, 5.0])
    between[0, 2] = between[2, 0] = between[1, 3] = between[3, 1] = 4.0
    generator = np.random.default_rng(0)
    inside = members_of(generator, 12, 4000)
    moments = vector_moments(world(inside, 1, varying=1.0), inside)
    outside, within = vector_predictives(moments)
    row, size = 7, 2
    precision = np.zeros((4, 4))
    for side, part in enumerate((slice(0, 2), slice(2, 4))):
        precision[part, part] = moments.counts[side, row] * np.linalg.inv(
            moments.covariances[side] * moments.factor[row]
        )
    posterior = np.linalg.inv(np.linalg.inv(between) + precision)
    prior_mean = np.concatenate([np.zeros(2), EFFECT])
    observed = moments.means[:, row].ravel()
    mean = posterior @ (precision @ observed + np.linalg.solve(between, prior_mean))
    for side, density in enumerate((outside, within)):
        part = slice(size * side, size * (side + 1))
        np.testing.assert_allclose(density.middle[row], mean[part], atol=0.06)
        scale = moments.covariances[side] * moments.factor[row] + posterior[part, part]
        np.testing.assert_allclose(density.scale[row], scale, rtol=0.05, atol=0.05)
    target = np.tile(np.array([0.3, -0.4]), (4000, 1))
    logs = [
        stats.multivariate_t.logpdf(target[row], each.middle[row], each.scale[row], each.freedom[row])
        for each in (outside, within)
    ]
    found = within.logpdf(target)[row] - outside.logpdf(target)[row]
    assert found == pytest.approx(logs[1] - logs[0])


def test_factors_of_samples_are_found() -> None:
    generator = np.random.default_rng(2)
    inside = members_of(generator, 16, 3000)
    signals = world(inside, 3, tails=3.0)
    moments, sides = vector_moments(signals, inside), (inside, ~inside)
    spread = [
        np.concatenate([signals[side[:, i], i] - signals[side[:, i], i].mean(axis=0) for side in sides]).var()
        for i in range(3000)
    ]
    assert np.corrcoef(np.log(moments.factor), np.log(spread))[0, 1] > 0.9
    assert float(moments.shape[0]) == pytest.approx(3.0 + 14, rel=0.35)


@pytest.mark.parametrize(("varying", "tails"), [(0.0, 1e9), (0.0, 2.0), (1.0, 1e9)])
def test_with_few_networks_it_is_better_than_means_and_a_covariance(varying: float, tails: float) -> None:
    generator = np.random.default_rng(4)
    areas = list[tuple[float, float, float]]()
    for seed in range(6):
        inside = members_of(generator, 6, 600)
        signals = world(inside, seed, varying=varying, tails=tails)
        target, others, members = signals[0], signals[2:], inside[2:]
        attacks = (
            lira_vector(target, others, members, density="joint"),
            lira_vector(target, others, members, density="pooled"),
            lira_online(target[:, 0], others[:, :, 0], members),
        )
        areas.append(tuple(auc(scores, inside[0]) for scores in attacks))  # type: ignore[arg-type]  # three
    bayesian, pooled, alone = np.mean(areas, axis=0)
    assert bayesian > pooled + 0.01
    assert bayesian > alone + 0.01


def test_without_an_effect_there_is_no_leak() -> None:
    generator = np.random.default_rng(5)
    areas = list[float]()
    for seed in range(30):
        inside = members_of(generator, 8, 200)
        noise = world(np.zeros_like(inside), seed, tails=3.0)
        areas.append(auc(lira_vector(noise[0], noise[2:], inside[2:], density="joint"), inside[0]))
    assert np.mean(areas) == pytest.approx(0.5, abs=3 * 0.041 / np.sqrt(30))
