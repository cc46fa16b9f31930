from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from seg_mia.data.fingerprint import fingerprint
from seg_mia.data.phantom.anatomy import render
from seg_mia.data.sets.phantom import LIVER, ORGANS, Phantom, PhantomSource
from seg_mia.data.split_settings import Role
from seg_mia.errors import InputError

ROLES: tuple[Role, ...] = ("victim", "shadow")


def source(**changes: Any) -> PhantomSource:
    settings: dict[str, Any] = {"patients": 2, "slices": 2, "size": 32, "task": "liver", "seed": 0}
    return PhantomSource(**(settings | changes))


def small(**changes: Any) -> Phantom:
    settings = {"patients": 12, "slices": 3, "size": 32, "members": 6, "nonmembers": 6}
    return Phantom(**(settings | changes))


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Splits are made of names; drawing all bodies for them takes long."""

    def blank(*_: object, size: int, **__: object) -> tuple[Any, Any]:
        labels = np.zeros((size, size), np.uint8)
        labels[size // 2 :] = LIVER
        return (labels > 0).astype(np.float32), labels

    monkeypatch.setattr("seg_mia.data.sets.phantom.render", blank)


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("seed", range(4))
def test_a_patients_slices_stay_on_one_side(seed: int) -> None:
    parts: list[set[str]] = []
    for role in ROLES:
        data = small(split_seed=seed, role=role)
        data.setup()
        splits = data.splits
        parts += [
            {data.source.groups[i] for i in part}
            for part in (splits.members, splits.nonmembers, splits.reference)
        ]
        assert (len(splits.members), len(splits.nonmembers)) == (6, 6)
    assert sum(map(len, parts)) == len(set.union(*parts)) == 12


def test_names_tell_patient_and_slice() -> None:
    made = source(patients=2, slices=3)
    assert made.ids[2:4] == ("patient00000_slice02", "patient00001_slice00")
    assert made.groups == ("patient00000",) * 3 + ("patient00001",) * 3
    assert len(set(made.ids)) == len(made) == 6


def labels_of(made: PhantomSource, index: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The organs of a slice, drawn without the source."""
    patient, number = divmod(index, made.slices)
    shift = np.random.default_rng([made.seed, patient, 1]).uniform()
    return render(patient, 0.08 + 0.64 * (number + shift) / made.slices, number, size=32, seed=made.seed)[1]


def test_the_liver_task_is_liver_and_nothing_else() -> None:
    made = source(slices=3)
    assert (made.classes, made.channels) == (2, 1)
    for index in range(len(made)):
        image, mask = made.decode(index)
        assert image.dtype == np.uint8
        assert image.shape == (32, 32, 1)
        assert np.array_equal(mask, labels_of(made, index) == LIVER)
    assert any(made.decode(index)[1].any() for index in range(len(made)))


def test_the_organs_task_numbers_five_organs() -> None:
    made, seen = source(slices=4, task="organs"), set[int]()
    assert made.classes == 6
    for index in range(len(made)):
        mask, labels = made.decode(index)[1], labels_of(made, index)
        for organ, number in ORGANS.items():
            assert np.array_equal(mask == number, labels == organ)
        seen |= set(np.unique(mask).tolist())
    assert seen == set(range(6))


def digests(made: PhantomSource) -> Sequence[str]:
    return [made.digest(index) for index in range(len(made))]


def test_a_digest_is_of_the_seeds() -> None:
    first = digests(source())
    assert digests(source()) == first
    assert len(set(first)) == 4
    assert set(digests(source(seed=1))).isdisjoint(first)
    assert set(digests(source(slices=4))).isdisjoint(first)  # the levels move with the number of slices
    assert digests(source(size=64, task="organs")) == first
    assert list(digests(source(patients=3)))[:4] == first


def test_the_fingerprint_knows_the_bodies_and_not_how_they_are_shown() -> None:
    whole = fingerprint(source())
    assert fingerprint(source(size=64)) == whole
    assert fingerprint(source(task="organs")) == whole
    others = [fingerprint(source(**change)) for change in ({"seed": 1}, {"patients": 3}, {"slices": 3})]
    assert len({whole, *others}) == 4


def test_another_seed_draws_other_bodies_and_another_size_the_same() -> None:
    image, mask = source().decode(0)
    again, _ = source().decode(0)
    assert np.array_equal(image, again)
    assert not np.array_equal(image, source(seed=1).decode(0)[0])
    large = source(size=64).decode(0)[1]
    assert large.shape == (64, 64)
    half = large.reshape(32, 2, 32, 2).mean((1, 3)) > 0.5
    assert (half == mask).mean() > 0.97


@pytest.mark.usefixtures("undrawn")
def test_a_cache_is_not_mistaken_for_another() -> None:
    caches = [small(), small(size=40), small(task="organs"), small(phantom_seed=1)]
    for data in caches:
        data.setup()
    assert len({data.cached.folder for data in caches}) == 4
    prints = [data.fingerprint for data in caches]
    assert prints[0] == prints[1] == prints[2] != prints[3]


@pytest.mark.usefixtures("undrawn")
def test_too_few_patients_are_refused_with_what_is_there() -> None:
    with pytest.raises(InputError, match="12 in 4 groups are available"):
        small(patients=8, members=9).setup()


@pytest.mark.parametrize("change", [{"patients": 0}, {"slices": 0}])
def test_numbers_below_one_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(InputError, match="at least 1"):
        small(**change)
