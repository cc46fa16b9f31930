"""The Bayesian density against an integral over its parameters, and its prior in a world drawn from it."""

import numpy as np
import pytest
from scipy import stats

from seg_mia.errors import InputError
from seg_mia.membership.fleet.posterior import Prior, fitted_prior, predictive


def test_the_predictive_is_the_integral_over_mean_and_variance() -> None:
    prior = Prior(mean=0.5, pull=0.8, shape=2.5, scale=1.2)
    signals = np.array([[1.0], [2.5], [9.0]])
    side = np.array([[True], [True], [False]])

    mu, s2 = np.meshgrid(np.linspace(-25, 27, 1500), np.geomspace(0.01, 2000, 1500))
    # Sums over a grid; ds2 = s2 d(log s2).
    weights = s2 * stats.invgamma.pdf(s2, 2.5, scale=1.2) * stats.norm.pdf(mu, 0.5, np.sqrt(s2 / 0.8))
    for value in (1.0, 2.5):
        weights *= stats.norm.pdf(value, mu, np.sqrt(s2))
    for at in (2.0, -1.0, 6.0):
        density = float((weights * stats.norm.pdf(at, mu, np.sqrt(s2))).sum() / weights.sum())
        found = predictive(signals, side, prior).logpdf(np.array([at]))
        assert np.exp(found[0]) == pytest.approx(density, rel=1e-3)


def test_the_prior_is_found_again() -> None:
    generator = np.random.default_rng(0)
    variances = 1.5 / generator.gamma(4.0, 1.0, 20000)
    means = generator.normal(0.7, np.sqrt(variances / 0.3))
    signals = generator.normal(means, np.sqrt(variances), (6, 20000))
    prior = fitted_prior(signals, np.ones(signals.shape, dtype=bool))
    assert prior.mean == pytest.approx(0.7, abs=0.05)
    assert prior.pull == pytest.approx(0.3, rel=0.1)
    assert prior.shape == pytest.approx(4, rel=0.15)
    assert prior.scale == pytest.approx(1.5, rel=0.2)


def test_samples_of_one_variance_share_it() -> None:
    generator = np.random.default_rng(1)
    signals = generator.normal(generator.normal(0, 3, 2000), 2.0, (4, 2000))
    prior = fitted_prior(signals, np.ones(signals.shape, dtype=bool))
    assert prior.shape > 50
    assert prior.scale / (prior.shape - 1) == pytest.approx(4, rel=0.05)


def test_tails_stay_apart() -> None:
    side, signals = np.ones((4, 3), dtype=bool), np.array([[0.0, 1, 2], [1, 2, 3], [0.5, 1.5, 2], [0, 1, 3]])
    density = predictive(signals, side, Prior(1.0, 1.0, 50.0, 10.0))
    for sign in (-1, 1):
        logs = density.logcdf(sign * np.array([5.0, 6.0, 7.0]) * 4 + 1)
        assert np.isfinite(logs).all()
        assert len(np.unique(logs)) == 3
    low = np.array([-1.0, 0.2, 1.0])
    np.testing.assert_allclose(np.exp(density.logcdf(low)) + density.upper(low), 1)


def test_equal_signals_have_no_density() -> None:
    with pytest.raises(InputError, match="of different signals"):
        fitted_prior(np.ones((4, 3)), np.ones((4, 3), dtype=bool))
