"""Who is in which of many shadows."""

import string
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seg_mia.callbacks.card import check_data, split_of
from seg_mia.data.sets.folder import Folder
from seg_mia.data.splits import Split, divide, shadow_split
from seg_mia.errors import InputError

sizes = st.lists(st.integers(1, 5), min_size=4, max_size=16)
seeds = st.integers(0, 2**64)


def pool_of(counts: list[int], seed: int) -> tuple[list[str], list[str], Split]:
    """Ids, groups, and half of the samples as members and the others as non-members, as groups allow."""
    ids = [f"{string.ascii_lowercase[g]}{i}" for g, count in enumerate(counts) for i in range(count)]
    groups = [name[0] for name in ids]
    middle = len(counts) // 2
    members, others = sum(counts[:middle]), sum(counts[middle:-1])
    try:
        return (
            ids,
            groups,
            divide(range(len(ids)), ids, groups, seed=seed, members=members, nonmembers=others),
        )
    except InputError:
        return ids, groups, divide(range(len(ids)), ids, groups, seed=seed, members=1, nonmembers=1)


@settings(max_examples=60, deadline=None)
@given(counts=sizes, seed=seeds, pairs=st.integers(1, 4))
def test_each_group_is_in_half_of_the_shadows_and_in_one_of_each_pair(
    counts: list[int], seed: int, pairs: int
) -> None:
    ids, groups, pool = pool_of(counts, seed)
    shared = {*pool.members, *pool.nonmembers}
    fleet = [shadow_split(pool, ids, groups, shadow=k, seed=seed) for k in range(2 * pairs)]
    for one, other in zip(fleet[::2], fleet[1::2], strict=True):
        assert (one.members, one.nonmembers) == (other.nonmembers, other.members)
    for half in fleet:
        assert {*half.members, *half.nonmembers} == shared
        assert not set(half.members) & set(half.nonmembers)
        assert not {groups[i] for i in half.members} & {groups[i] for i in half.nonmembers}
        assert half.members
        assert half.nonmembers
        assert half.reference == pool.reference
    times = np.bincount(list(chain.from_iterable(half.members for half in fleet)), minlength=len(ids))
    assert {times[i] for i in shared} == {pairs}


def test_single_samples_are_shared_out_evenly_among_the_pools_members_and_others() -> None:
    ids = [f"{i:03}" for i in range(60)]
    pool = Split(tuple(range(40)), tuple(range(40, 60)))
    for shadow in range(8):
        half = shadow_split(pool, ids, ids, shadow=shadow, seed=3)
        assert len(half.members) == 30
        # Of independent samples 20 of 40 members and 10 of 20 others, by less than one more or fewer.
        assert abs(sum(i < 40 for i in half.members) - 20) <= 1
    strata = [i % 2 for i in range(60)]
    half = shadow_split(pool, ids, ids, shadow=0, seed=3, strata=strata)
    assert abs(sum(strata[i] for i in half.members) - 15) <= 2


def test_pairs_differ_and_seeds_decide() -> None:
    ids = [f"{i:03}" for i in range(40)]
    pool = Split(tuple(range(20)), tuple(range(20, 40)))
    first = [shadow_split(pool, ids, ids, shadow=k, seed=0) for k in range(6)]
    assert first == [shadow_split(pool, ids, ids, shadow=k, seed=0) for k in range(6)]
    assert len({half.members for half in first}) == 6
    assert shadow_split(pool, ids, ids, shadow=0, seed=1) != first[0]
    overlap = len({*first[0].members} & {*first[2].members})
    assert 4 <= overlap <= 16  # hypergeometric, 10 of 20 expected, standard deviation 1.6


@settings(max_examples=30, deadline=None)
@given(counts=sizes, seed=seeds, shuffle=st.randoms(use_true_random=False))
def test_the_order_of_the_samples_does_not_matter(counts: list[int], seed: int, shuffle: object) -> None:
    ids, groups, pool = pool_of(counts, seed)
    order = list(range(len(ids)))
    shuffle.shuffle(order)  # type: ignore[attr-defined]
    position = {old: new for new, old in enumerate(order)}
    moved = Split(*(tuple(sorted(position[i] for i in part)) for part in (pool.members, pool.nonmembers)))
    half = shadow_split(pool, ids, groups, shadow=2, seed=seed)
    other = shadow_split(moved, [ids[i] for i in order], [groups[i] for i in order], shadow=2, seed=seed)
    assert {ids[order[i]] for i in other.members} == {ids[i] for i in half.members}


def test_refusals() -> None:
    ids, pool = ["a", "b", "c"], Split((0, 1), (2,))
    with pytest.raises(InputError, match="numbered from 0, got -1"):
        shadow_split(pool, ids, ids, shadow=-1, seed=0)
    with pytest.raises(InputError, match="at least 2 groups to draw from, got 1"):
        shadow_split(pool, ids, ["p", "p", "p"], shadow=0, seed=0)


def data(root: Path, **options: object) -> Folder:
    given = {"root": str(root), "threshold": 127, "members": 6, "nonmembers": 4} | options
    module = Folder(**given)  # type: ignore[arg-type]
    module.setup()
    return module


def names(half: Split) -> set[int]:
    return {*half.members, *half.nonmembers}


def test_shadows_share_the_half_that_is_named(folder: Callable[..., Path]) -> None:
    root = folder(count=24)
    victim, shadow = data(root), data(root, role="shadow")
    for pool, half in (("shadow", shadow), ("victim", victim)):
        fleet = [data(root, role="shadow", shadow=k, shadow_pool=pool) for k in range(2)]
        assert names(fleet[0].splits) == names(fleet[1].splits) == names(half.splits)
        assert fleet[0].splits.members == fleet[1].splits.nonmembers
        assert len(fleet[0].splits.members) == 5
        assert fleet[0].splits.reference == half.splits.reference


def test_a_card_tells_a_shadow_from_another(folder: Callable[..., Path]) -> None:
    root, salt = folder(count=24), bytes(16)
    fleet = [data(root, role="shadow", shadow=k) for k in range(2)]
    cards = [split_of(shadow, salt) for shadow in fleet]
    assert [(card["shadow"], card["pool"]) for card in cards] == [(0, "shadow"), (1, "shadow")]
    assert "shadow" not in split_of(data(root, role="shadow"), salt)
    assert check_data(fleet[0], fingerprint=None, split=cards[0], role="shadow")
    with pytest.raises(InputError, match="leave out .* shadow, shadow_pool"):
        check_data(fleet[1], fingerprint=None, split=cards[0], role="shadow")


def test_numbers_are_for_shadows(folder: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="got victim; add --data.role shadow"):
        data(folder(), shadow=0)
    with pytest.raises(InputError, match="shadow_pool needs a numbered shadow"):
        data(folder(), role="shadow", shadow_pool="victim")
