"""Sides and parts that are alike in how much of their samples is foreground."""

from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from seg_mia.data.sets.kvasir import Kvasir
from seg_mia.data.sets.phantom import Phantom
from seg_mia.data.splits import Split, divide, victim_shadow_split
from seg_mia.data.strata import foreground_strata
from seg_mia.errors import InputError
from seg_mia.metrics.labels import IGNORE

seeds = st.integers(0, 2**64)
STRATA = st.lists(st.integers(0, 4), min_size=4, max_size=60)


def alike(part: Sequence[int], whole: Sequence[int], strata: Sequence[int], width: int = 1) -> bool:
    """Say whether a part holds each stratum of a whole in proportion, but for what the docstring grants."""
    counts = Counter(strata[i] for i in whole)
    slack = {kind: width * (1 + len(counts) * count / len(whole)) for kind, count in counts.items()}
    found = Counter(strata[i] for i in part)
    return all(
        abs(found[kind] - len(part) * count / len(whole)) < slack[kind] for kind, count in counts.items()
    )


def parts(half: Split) -> tuple[tuple[int, ...], ...]:
    return half.members, half.nonmembers, half.reference


@settings(max_examples=80, deadline=None)
@given(strata=STRATA, seed=seeds, share=st.floats(0, 0.7), data=st.data())
def test_independent_samples_are_shared_out_in_proportion(
    strata: list[int], seed: int, share: float, data: st.DataObject
) -> None:
    ids = [f"{i:02d}" for i in range(len(strata))]
    both = victim_shadow_split(ids, ids, seed=seed, shadow_share=share, strata=strata)
    assert sorted(chain(*both)) == list(range(len(ids)))
    assert len(both[0]) == round(len(ids) * (1 - share))
    assert all(alike(side, range(len(ids)), strata) for side in both)
    mine = both[0]
    members = data.draw(st.integers(1, len(mine)))
    nonmembers = data.draw(st.integers(0, len(mine) - members))
    half = divide(mine, ids, ids, seed=seed, members=members, nonmembers=nonmembers, strata=strata)
    assert (len(half.members), len(half.nonmembers)) == (members, nonmembers)
    assert sorted(half) == sorted(mine)
    assert all(alike(part, mine, strata) for part in parts(half))


@settings(max_examples=80, deadline=None)
@given(kinds=STRATA, width=st.integers(1, 5), seed=seeds, data=st.data())
def test_whole_groups_are_shared_out_in_proportion(
    kinds: list[int], width: int, seed: int, data: st.DataObject
) -> None:
    groups = [f"{group:02d}" for group in range(len(kinds)) for _ in range(width)]
    ids = [f"{group}-{i}" for i, group in enumerate(groups)]
    strata = [kinds[int(group)] for group in groups]
    wanted = [width * data.draw(st.integers(low, len(kinds) // 2)) for low in (1, 0)]
    half = divide(
        range(len(ids)), ids, groups, seed=seed, members=wanted[0], nonmembers=wanted[1], strata=strata
    )
    assert [len(half.members), len(half.nonmembers)] == wanted
    assert all(alike(part, range(len(ids)), strata, width) for part in parts(half))


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(1, 6), min_size=2, max_size=14),
    seed=seeds,
    shuffle=st.randoms(use_true_random=False),
    data=st.data(),
)
def test_groups_of_any_size_are_never_parted_and_counts_are_exact(
    counts: list[int], seed: int, shuffle: Any, data: st.DataObject
) -> None:
    groups = [f"g{group:02d}" for group, count in enumerate(counts) for _ in range(count)]
    ids = [f"{group}-{i}" for i, group in enumerate(groups)]
    strata = [data.draw(st.integers(-3, 3)) for _ in ids]
    together = [data.draw(st.lists(st.sampled_from(ids), max_size=3))]
    order = list(range(len(ids)))
    shuffle.shuffle(order)
    outcomes = []
    for way in (range(len(ids)), order):
        names, labels, kinds = [ids[i] for i in way], [groups[i] for i in way], [strata[i] for i in way]
        both = victim_shadow_split(names, labels, seed=seed, duplicates=together, strata=kinds)
        assert not {labels[i] for i in both[0]} & {labels[i] for i in both[1]}
        half = divide(
            both[0] or both[1],
            names,
            labels,
            seed=seed,
            members=1,
            nonmembers=0,
            duplicates=together,
            strata=kinds,
        )
        assert len(half.members) == 1
        seen = [{labels[i] for i in part} for part in parts(half)]
        assert len(set.union(*seen)) == sum(map(len, seen))
        outcomes.append([{names[i] for i in part} for part in (*both, *parts(half))])
    assert outcomes[0] == outcomes[1]


def test_every_sample_can_be_a_member() -> None:
    ids, strata = [str(i) for i in range(10)], [0] * 6 + [1] * 3 + [2]
    members = [
        divide(range(10), ids, ids, seed=seed, members=3, nonmembers=3, strata=strata).members
        for seed in range(400)
    ]
    counts = np.bincount(np.array(members).ravel(), minlength=10)
    assert (abs(counts - 120) < 4.5 * np.sqrt(120 * 0.7)).all()


def test_one_stratum_for_all_is_no_stratum_but_another_draw() -> None:
    ids = [str(i) for i in range(30)]
    assert victim_shadow_split(ids, ids, seed=3, strata=[5] * 30) == victim_shadow_split(ids, ids, seed=3)


def test_a_stratum_is_missing() -> None:
    for call in (victim_shadow_split, lambda *a, **k: divide([0], *a, members=1, nonmembers=0, **k)):
        with pytest.raises(InputError, match="each id must have a stratum, got 2 and 1; give"):
            call(["a", "b"], ["a", "b"], seed=0, strata=[1])


def masks(*shares: float) -> list[Any]:
    return [(np.arange(100).reshape(10, 10) < 100 * share).astype(np.uint8) for share in shares]


def test_bins_hold_equally_many_masks() -> None:
    assert foreground_strata(masks(0.1, 0.8, 0.3, 0.6), 2) == [0, 1, 0, 1]
    assert foreground_strata(masks(0.1, 0.8, 0.3, 0.6), 4) == [0, 3, 1, 2]
    assert Counter(foreground_strata(masks(*np.arange(80) / 100), 8)) == dict.fromkeys(range(8), 10)
    assert len(set(foreground_strata(masks(*[0.0] * 9, 0.5), 4)[:9])) == 1
    assert foreground_strata([], 3) == []


def test_pixels_to_ignore_do_not_count() -> None:
    seen, half = masks(0.5, 0.5)
    half[:5, :] = IGNORE
    empty = np.full((10, 10), IGNORE, np.uint8)
    half[5:, :] = 2
    assert foreground_strata([seen, half, empty], 3) == [1, 2, 0]


def test_a_data_set_is_balanced_on_request_and_only_then() -> None:
    def ready(**options: Any) -> Phantom:
        data = Phantom(patients=60, slices=1, size=32, members=15, nonmembers=15, **options)
        data.setup()
        return data

    plain, balanced = ready(), ready(stratify=5)
    assert plain.splits != balanced.splits
    assert balanced.splits == ready(stratify=5).splits
    strata = foreground_strata(balanced.cached.masks, 5)
    for part in (balanced.splits.members, balanced.splits.nonmembers):
        assert all(2 <= count <= 4 for count in Counter(strata[i] for i in part).values())
    for bins in (1, 0, -4):
        with pytest.raises(InputError, match=f"stratify must be 2 bins or more, got {bins}; leave it out"):
            ready(stratify=bins)


def test_members_and_nonmembers_of_kvasir_become_alike(shared: Path) -> None:
    def told_apart(**options: Any) -> float:
        """How well the foreground's share alone tells members: the AUC's mean distance from 0.5."""
        found = []
        for seed in range(5):
            data = Kvasir(root=str(shared / "data" / "kvasir_seg"), size=32, split_seed=seed, **options)
            data.setup()
            shares = (data.cached.masks > 0).mean((1, 2))
            truth = np.isin(np.arange(len(shares)), data.splits.members)
            chosen = [*data.splits.members, *data.splits.nonmembers]
            found.append(abs(roc_auc_score(truth[chosen], shares[chosen]) - 0.5))
        return float(np.mean(found))

    assert told_apart(stratify=10) < 0.4 * told_apart()
