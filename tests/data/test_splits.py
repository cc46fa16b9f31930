import hashlib
import random
import string
from collections.abc import Mapping
from itertools import chain, combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seg_mia.data.fingerprint import fingerprint, hashed
from seg_mia.data.images.reading import list_files, pairs
from seg_mia.data.source import Image, Mask, Source
from seg_mia.data.splits import Split, divide, hold_out, victim_shadow_split
from seg_mia.errors import InputError

sizes = st.lists(st.integers(1, 6), min_size=1, max_size=12)
seeds = st.integers(0, 2**64)


def grouped(counts: list[int]) -> tuple[list[str], list[str]]:
    """Ids and groups of a data set with so many samples in each group."""
    ids = [f"{string.ascii_lowercase[g]}{i}" for g, count in enumerate(counts) for i in range(count)]
    return ids, [name[0] for name in ids]


def totals(counts: list[int]) -> set[int]:
    return {sum(some) for r in range(len(counts) + 1) for some in combinations(counts, r)}


def parts(half: Split) -> tuple[tuple[int, ...], ...]:
    return half.members, half.nonmembers, half.reference


@settings(max_examples=60, deadline=None)
@given(counts=sizes, seed=seeds, share=st.floats(0, 1, exclude_max=True))
def test_halves_are_all_samples_in_whole_groups_as_near_as_groups_allow(
    counts: list[int], seed: int, share: float
) -> None:
    ids, groups = grouped(counts)
    victim, shadow = victim_shadow_split(ids, groups, seed=seed, shadow_share=share)
    assert sorted(victim + shadow) == list(range(len(ids)))
    assert not {groups[i] for i in victim} & {groups[i] for i in shadow}
    wanted = round(len(ids) * (1 - share))
    assert abs(len(victim) - wanted) == min(abs(total - wanted) for total in totals(counts))


@settings(max_examples=60, deadline=None)
@given(counts=sizes, seed=seeds, data=st.data())
def test_divide_is_exact_wherever_members_and_nonmembers_can_be_had(
    counts: list[int], seed: int, data: st.DataObject
) -> None:
    ids, groups = grouped(counts)
    members = data.draw(st.integers(1, len(ids)))
    nonmembers = data.draw(st.integers(0, len(ids)))
    feasible = any(members <= total <= len(ids) - nonmembers for total in totals(counts))
    if not feasible:
        with pytest.raises(InputError, match=f"{len(ids)} in {len(counts)} groups"):
            divide(range(len(ids)), ids, groups, seed=seed, members=members, nonmembers=nonmembers)
        return
    half = divide(range(len(ids)), ids, groups, seed=seed, members=members, nonmembers=nonmembers)
    assert (len(half.members), len(half.nonmembers)) == (members, nonmembers)
    seen = [{groups[i] for i in part} for part in parts(half)]
    assert len(seen[0] | seen[1] | seen[2]) == sum(map(len, seen))
    untouched = set(groups) - seen[0] - seen[1]
    assert {i for i in range(len(ids)) if groups[i] in untouched} == set(half.reference)
    assert all(part == tuple(sorted(set(part))) for part in parts(half))


@settings(max_examples=40, deadline=None)
@given(counts=sizes, seed=seeds, shuffle=st.randoms(use_true_random=False), data=st.data())
def test_the_order_of_the_samples_does_not_matter(
    counts: list[int], seed: int, shuffle: random.Random, data: st.DataObject
) -> None:
    ids, groups = grouped(counts)
    together = [data.draw(st.lists(st.sampled_from(ids), max_size=3))]
    order = list(range(len(ids)))
    shuffle.shuffle(order)
    outcomes = []
    for names, labels in ((ids, groups), ([ids[i] for i in order], [groups[i] for i in order])):
        victim, shadow = victim_shadow_split(names, labels, seed=seed, duplicates=together)
        half = divide(
            victim or shadow, names, labels, seed=seed, members=1, nonmembers=0, duplicates=together
        )
        outcomes.append([{names[i] for i in part} for part in (victim, shadow, *parts(half))])
    assert outcomes[0] == outcomes[1]


@given(seed=seeds, members=st.integers(1, 20), nonmembers=st.integers(0, 10))
@settings(max_examples=20, deadline=None)
def test_what_the_shadow_asks_for_does_not_move_the_victim(seed: int, members: int, nonmembers: int) -> None:
    ids, groups = grouped([5] * 16)

    def victim_beside(members: int, nonmembers: int) -> Split:
        victim, shadow = victim_shadow_split(ids, groups, seed=seed)
        divide(shadow, ids, groups, seed=seed, members=members, nonmembers=nonmembers)
        return divide(victim, ids, groups, seed=seed, members=11, nonmembers=12, reference=3)

    assert victim_beside(members, nonmembers) == victim_beside(1, 0)


def test_the_split_of_a_seed_never_changes() -> None:
    ids = [f"{i:02d}" for i in range(12)]
    victim, shadow = victim_shadow_split(ids, ids, seed=7)
    keys = np.random.PCG64([7, 0]).random_raw(12)
    assert victim == tuple(sorted(np.argsort(keys)[:6].tolist()))
    assert victim == (3, 4, 6, 9, 10, 11)
    half = divide(shadow, ids, ids, seed=7, members=2, nonmembers=2)
    assert parts(half) == ((1, 5), (2, 7), (0, 8))


def test_more_members_keep_those_there_were() -> None:
    ids = [str(i) for i in range(50)]
    few, many = (divide(range(50), ids, ids, seed=1, members=n, nonmembers=5).members for n in (10, 30))
    assert set(few) < set(many)


def test_seeds_differ_and_every_sample_can_be_a_member() -> None:
    ids = [str(i) for i in range(10)]
    members = [divide(range(10), ids, ids, seed=seed, members=3, nonmembers=3).members for seed in range(300)]
    counts = np.bincount(np.array(members).ravel(), minlength=10)
    assert counts.sum() == 900
    assert (abs(counts - 90) < 4 * np.sqrt(90 * 0.7)).all()


def test_the_victim_takes_all_when_the_shadow_has_no_share() -> None:
    ids, groups = grouped([3, 4])
    assert victim_shadow_split(ids, groups, seed=0, shadow_share=0) == (tuple(range(7)), ())


def test_of_two_counts_as_near_the_victim_gets_the_larger() -> None:
    ids, groups = grouped([4, 4, 4])
    for seed in range(5):
        assert [len(side) for side in victim_shadow_split(ids, groups, seed=seed)] == [8, 4]


def test_no_samples_make_empty_halves() -> None:
    assert victim_shadow_split([], [], seed=0) == ((), ())


def test_tied_samples_and_their_groups_stay_together() -> None:
    ids, groups = grouped([2, 2, 2, 2])
    for seed in range(20):
        victim, _ = victim_shadow_split(ids, groups, seed=seed, duplicates=[["a0", "c1"], ["c0", "d0"]])
        assert {ids[i] for i in victim} in ({"b0", "b1"}, set(ids) - {"b0", "b1"})


def test_a_cut_group_loses_its_rest_and_no_particular_samples() -> None:
    ids, groups = grouped([4, 4])
    kept = set[str]()
    for seed in range(30):
        half = divide(range(8), ids, groups, seed=seed, members=3, nonmembers=4)
        assert (len(half.members), len(half.nonmembers), half.reference) == (3, 4, ())
        kept.update(ids[i][1] for i in half.members)
    assert kept == {"0", "1", "2", "3"}


def test_reference_is_exact_none_or_all_that_is_left() -> None:
    ids = [str(i) for i in range(10)]
    sizes = {
        wanted: len(divide(range(10), ids, ids, seed=0, members=3, nonmembers=2, reference=wanted).reference)
        for wanted in (0, 4, None)
    }
    assert sizes == {0: 0, 4: 4, None: 5}


def test_another_shuffle_is_tried_where_the_first_leaves_too_little() -> None:
    ids, groups = grouped([3, 3, 2, 2, 2])  # six members of 2+2+2, or the rest cannot be 3 and 3
    for seed in range(10):
        half = divide(range(12), ids, groups, seed=seed, members=6, nonmembers=3, reference=3)
        assert [len(part) for part in parts(half)] == [6, 3, 3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": ["a", "b", "a"]}, "ids must be unique, got 'a' twice; rename"),
        ({"groups": ["a"]}, "each id must have a group, got 3 and 1; give"),
        ({"duplicates": [["a", "b"], ["c", "x", "y"]]}, "duplicates must name ids .*, got 'x'; correct"),
        ({"seed": -1}, "seed must be 0 or more, got -1; choose"),
        ({"shadow_share": 1.0}, "shadow_share must be at least 0 and below 1, got 1.0; "),
        ({"shadow_share": float("nan")}, "shadow_share must .*, got nan; "),
    ],
)
def test_halves_refuse(change: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"ids": ["a", "b", "c"], "groups": ["a", "b", "c"], "seed": 0}
    with pytest.raises(InputError, match=message):
        victim_shadow_split(**(arguments | change))  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"members": 0}, "members must be at least 1, .* got 0, 1 and None; change"),
        ({"nonmembers": -1}, "got 1, -1 and None"),
        ({"reference": -2}, "got 1, 1 and -2"),
        ({"indices": [0]}, r"whole groups, got part of one; take them from victim_shadow_split\(\)"),
        (
            {"members": 3, "reference": 2},
            r"3 \+ 1 \+ 2 = 6 samples are needed, 4 in 2 groups are available \(the other half has 0\); "
            r"at least 4 groups are needed, none larger than the largest \(2\): add data, lower",
        ),
        (
            {"members": 3},
            r"3 \+ 1 \+ 0 = 4 samples .*, and a group cannot be divided; at least 3 groups are needed",
        ),
    ],
)
def test_divide_refuses(change: dict[str, object], message: str) -> None:
    ids, groups = grouped([2, 2])
    arguments: dict[str, object] = {"indices": range(4), "seed": 0, "members": 1, "nonmembers": 1}
    with pytest.raises(InputError, match=message):
        divide(ids=ids, groups=groups, **(arguments | change))  # type: ignore[arg-type]  # wrong on purpose


def test_too_few_groups_say_how_many_there_are_and_how_many_it_takes() -> None:
    ids, groups = grouped([6])
    victim, shadow = victim_shadow_split(ids, groups, seed=0)  # one group cannot be shared out
    assert (len(victim), len(shadow)) == (6, 0)
    for half, have, least in ((victim, "6 in 1 groups", 2), (shadow, "0 in 0 groups", 2)):
        with pytest.raises(
            InputError, match=rf"{have} are available .*; at least {least} groups are needed"
        ) as caught:
            divide(half, ids, groups, seed=0, members=3, nonmembers=3)
        assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(InputError, match=r"12 samples are needed, 6 in 6 .*; at least 12 groups are needed"):
        divide(range(6), ids, ids, seed=0, members=7, nonmembers=5)
    enough, many = grouped([6] * 4)  # what it says suffices: 7 + 5 samples of groups of 6 are 2 + 1 groups
    with pytest.raises(InputError, match=r"6 in 1 groups .* has 3\); at least 3 groups are needed"):
        divide(range(6), enough, many, seed=0, members=7, nonmembers=5)
    found = divide(range(18), enough, many, seed=0, members=7, nonmembers=5)
    assert (len(found.members), len(found.nonmembers)) == (7, 5)


def test_hashes_are_keyed_blake2b() -> None:
    salt = bytes(range(16))
    names = ("patient1", "Müller", "not utf-8 \udcff")
    got = hashed(names, salt)
    assert got[0] == hashlib.blake2b(b"patient1", key=salt, digest_size=16).hexdigest()
    assert len(set(got)) == 3
    assert not set(got) & set(hashed(names, bytes(16)))


@pytest.mark.parametrize("salt", [b"", b"short", bytes(65)])
def test_a_salt_of_another_length_is_refused(salt: bytes) -> None:
    with pytest.raises(InputError, match=f"16 to 64 bytes, got {len(salt)}; use"):
        hashed(["a"], salt)


class Named(Source):
    """Samples that consist of an id, a group and a digest."""

    channels, classes = 1, 2

    def __init__(self, rows: list[tuple[str, str, str]], **settings: int) -> None:
        self.ids, self.groups = tuple(row[0] for row in rows), tuple(row[1] for row in rows)
        self.digests = [row[2] for row in rows]
        self.given = settings

    def digest(self, index: int) -> str:
        return self.digests[index]

    def decode(self, index: int) -> tuple[Image, Mask]:
        raise NotImplementedError

    @property
    def settings(self) -> Mapping[str, int]:
        return self.given


def test_the_fingerprint_is_of_ids_groups_and_contents_only() -> None:
    rows = [("a", "p", "1"), ("b", "q", "2")]
    same = fingerprint(Named(rows, size=1))
    assert same == fingerprint(Named(rows[::-1], size=2))
    assert len(bytes.fromhex(same)) == 32
    others = [[("x", "p", "1"), rows[1]], [("a", "x", "1"), rows[1]], [("a", "p", "x"), rows[1]], rows[:1]]
    assert len({same, *(fingerprint(Named(other)) for other in others)}) == 5


def test_kvasir_splits_exactly_with_its_duplicates_on_one_side(shared: Path) -> None:
    root = shared / "data" / "kvasir_seg"
    ids = [name for name, _, _ in pairs(list_files(root / "images"), list_files(root / "masks"))]
    assert len(ids) == 1000
    together = [
        ("cju30bmab08bi0835mvlr6e0r", "cju77k828z46w0871r0avuoo9"),
        ("cju76lsehyia10987u54vn8rb", "cju772304yw5t0818vbw8kkjf"),
        ("cju886ryxnsl50801r93jai7q", "cju8amfdtqi4x09871tygrgqe"),
        ("cju5fydrud94708507vo6oy21", "cju7avvi51iox0817ym55y6tt"),
    ]
    for seed in range(5):
        both = victim_shadow_split(ids, ids, seed=seed, duplicates=together)
        assert [len(side) for side in both] == [500, 500]
        victim, shadow = (
            divide(side, ids, ids, seed=seed, members=300, nonmembers=200, duplicates=together)
            for side in both
        )
        roles = [{ids[i] for i in part} for part in chain(parts(victim), parts(shadow))]
        assert [len(role) for role in roles] == [300, 200, 0, 300, 200, 0]
        assert len({*victim, *shadow}) == 1000  # no sample plays two parts
        assert all(sum(name in role for role in roles) == 1 for pair in together for name in pair)
        assert all(any(role.issuperset(pair) for role in roles) for pair in together)


class TestHoldOut:
    def test_whole_groups_of_both_kinds_are_kept_out(self) -> None:
        groups = [f"p{number // 4}" for number in range(80)]
        members = np.arange(80) < 48
        train, held = hold_out(members, groups, part=0.25, seed=0)
        assert sorted([*train, *held]) == list(range(80))
        assert not {groups[i] for i in train} & {groups[i] for i in held}
        assert (members[held].sum(), (~members[held]).sum()) == (12, 8)

    def test_the_seed_decides(self) -> None:
        groups = [str(number) for number in range(40)]
        members = np.arange(40) < 20
        first, again, other = (
            hold_out(members, groups, part=0.2, seed=seed)[1].tolist() for seed in (1, 1, 2)
        )
        assert first == again != other
        assert len(first) == 8

    def test_something_is_left_on_either_side(self) -> None:
        members = np.array([True] * 3 + [False] * 4)
        for part in (0.01, 0.99):
            train, held = hold_out(members, list("abcdeff"), part=part, seed=0)
            assert min(members[held].sum(), (~members)[held].sum()) >= 2
            assert min(members[train].sum(), (~members)[train].sum()) >= 1
        with pytest.raises(InputError, match="needs non-members of the shadow's .* got 4 in 1 groups"):
            hold_out(members, list("abcdddd"), part=0.2, seed=0)
