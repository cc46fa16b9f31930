"""A baseline without the victim: at chance for a fair split, above it where statistics tell members."""

import numpy as np
import pytest

from seg_mia.errors import InputError
from seg_mia.membership.blind import blind_scores
from seg_mia.membership.roc import auc


def test_a_fair_split_is_at_chance() -> None:
    areas = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        members = np.arange(60) < 30
        features = rng.normal(size=(60, 8))
        areas.append(auc(blind_scores(features, members, np.arange(60).astype(str), repeats=2), members))
    assert 0.4 < np.mean(areas) < 0.51  # held-out scores lie a little below chance, never above


def test_statistics_that_tell_members_are_found() -> None:
    rng = np.random.default_rng(0)
    members = np.arange(80) < 40
    features = rng.normal(size=(80, 5))
    features[:, 2] += 2 * members  # d' = 2: the best AUC is Phi(sqrt 2) = 0.921
    area = auc(blind_scores(features, members, np.arange(80).astype(str)), members)
    assert 0.85 < area < 0.98


def test_what_tells_patients_apart_does_not_tell_members() -> None:
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(20), 5)
    members = patients < 10
    features = rng.normal(size=(20, 6))[patients] + 0.01 * rng.normal(size=(100, 6))
    assert auc(blind_scores(features, members, patients.astype(str)), members) < 0.65


def test_scores_do_not_depend_on_scale_or_constant_features() -> None:
    rng = np.random.default_rng(1)
    members, groups = np.arange(30) % 2 == 0, np.arange(30).astype(str)
    features = rng.normal(size=(30, 3))
    changed = np.column_stack([1000 * features + 5, np.full(30, 7.0)])
    np.testing.assert_allclose(
        blind_scores(changed, members, groups), blind_scores(features, members, groups), atol=1e-9
    )


def test_what_is_refused() -> None:
    features, members = np.zeros((4, 1)), np.array([True, True, False, False])
    with pytest.raises(InputError, match="2 groups of members and of non-members, got 1 and 2"):
        blind_scores(features, members, ["a", "a", "b", "c"])
    with pytest.raises(InputError, match="finite"):
        blind_scores(features * np.nan, members, ["a", "b", "c", "d"])
    with pytest.raises(InputError, match="one row for each"):
        blind_scores(features[:3], members, ["a", "b", "c", "d"])
