"""What networks share and what they differ in."""

import numpy as np
import pytest

from seg_mia.data.splits import Split, shadow_split
from seg_mia.errors import InputError
from seg_mia.membership.fleet import mates, pair_folds, standardised, untrained_networks


def test_level_and_scale_are_the_median_and_the_mad() -> None:
    # Medians 3 and 30; absolute deviations 2, 1, 0, 1, 97 and ten times as much: MAD 1 and 10.
    row = np.array([1.0, 2.0, 3.0, 4.0, 100.0])
    expected = (row - 3) / 1.4826
    np.testing.assert_allclose(standardised(np.stack([row, 10 * row])), np.stack([expected, expected]))
    both = standardised(np.stack([row, -row], axis=1)[None])
    np.testing.assert_allclose(both[0], np.stack([expected, -expected], axis=1))


def test_some_samples_may_tell_the_level() -> None:
    row = np.array([[1.0, 2.0, 3.0, 50.0, 60.0]])
    level = np.array([True, True, True, False, False])
    np.testing.assert_allclose(standardised(row, level), (row - 2) / 1.4826)


def test_signals_without_spread_have_no_scale() -> None:
    with pytest.raises(InputError, match="got equal ones on half of the samples or more for network 1"):
        standardised(np.array([[1.0, 2.0, 3.0], [1.0, 1.0, 3.0]]))
    with pytest.raises(InputError, match="level must select a sample"):
        standardised(np.ones((1, 3)), np.zeros(3, dtype=bool))
    with pytest.raises(InputError, match="give a row for each network"):
        standardised(np.ones(3))


def test_a_network_that_did_not_train_is_found() -> None:
    quality = np.array([0.93, 0.94, 0.92, 0.31, 0.935, 0.90])
    assert untrained_networks(quality).tolist() == [False, False, False, True, False, False]
    with pytest.raises(InputError, match="quality must be"):
        untrained_networks(np.ones((2, 2)))


def test_networks_of_the_split_module_are_mates_and_share_a_fold() -> None:
    pool = Split(tuple(range(6)), tuple(range(6, 12)))
    ids = [f"s{number:02}" for number in range(12)]
    rows = [shadow_split(pool, ids, ids, shadow=number, seed=3).members for number in (4, 1, 5, 2, 0, 3)]
    inside = np.array([np.isin(np.arange(12), row) for row in rows])
    assert inside.sum(axis=0).tolist() == [3] * 12
    assert mates(inside).tolist() == [2, 4, 0, 5, 1, 3]
    fold = pair_folds(inside)
    assert (fold == fold[mates(inside)]).all()
    assert len(np.unique(fold)) == 3
    assert len(np.unique(pair_folds(inside, 2))) == 2
    with pytest.raises(InputError, match="the 3 pairs of networks, got 4"):
        pair_folds(inside, 4)


def test_others_have_none() -> None:
    inside = np.array([[True, False, True], [True, False, False], [True, True, False]])
    assert mates(inside).tolist() == [-1, -1, -1]
    assert sorted(pair_folds(inside).tolist()) == [0, 1, 2]


def test_networks_without_a_common_sample_have_no_mates() -> None:
    assert mates(np.zeros((4, 0), dtype=np.bool_)).tolist() == [-1] * 4
