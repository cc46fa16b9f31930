"""Quantile regression where the truth is linear, and its coverage."""

import math

import numpy as np
import pytest
from scipy import stats

from seg_mia.errors import InputError
from seg_mia.membership import auc
from seg_mia.membership.fleet import quantile_scores


def world(effect: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(5000, 3))
    deviation = np.exp(0.4 * features[:, 2])
    members = np.arange(5000) < 1500
    noise = effect * members + generator.normal(size=5000)
    signals = 3 * features[:, 0] - features[:, 1] + deviation * noise
    return signals[:3000], features[:3000], signals[3000:], features[3000:], members[:3000]


def test_difficulty_and_spread_are_taken_out() -> None:
    *rest, members = world(1.0, 0)
    result = quantile_scores(*rest)
    # With the truth about mean and deviation: Phi(effect / sqrt 2).
    assert auc(result.scores, members) == pytest.approx(stats.norm.cdf(1 / math.sqrt(2)), abs=0.02)
    assert auc(rest[0], members) < 0.62
    outside = result.scores[~members]
    assert outside.mean() == pytest.approx(0, abs=0.08)
    assert outside.std() == pytest.approx(1, abs=0.08)
    assert result.explained == pytest.approx(10 / (10 + math.exp(0.32)), abs=0.02)


def test_held_out_nonmembers_are_called_as_often_as_stated() -> None:
    *rest, _ = world(0.0, 1)
    for coverage in quantile_scores(*rest).coverage:
        error = 4 * math.sqrt(coverage.nominal / coverage.nonmembers)
        assert coverage.achieved == pytest.approx(coverage.nominal, abs=error)
        assert coverage.nonmembers == 2000


def test_refuses() -> None:
    signals, features, public, public_features, _ = world(0.0, 2)
    with pytest.raises(InputError, match="at least 200 known non-members, got 100"):
        quantile_scores(signals, features, public[:100], public_features[:100])
    with pytest.raises(InputError, match="same number of features, got 2 and 3"):
        quantile_scores(signals, features[:, :2], public, public_features)
    with pytest.raises(InputError, match="a row of features for each"):
        quantile_scores(signals, features[:9], public, public_features)
    with pytest.raises(InputError, match="ridge must be above 0"):
        quantile_scores(signals, features, public, public_features, ridge=0)
