"""Batches of DP-SGD: a coin of its own for every unit and step, on any number of ranks."""

from collections.abc import Mapping
from functools import cache
from itertools import product
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import binom, chi2, chisquare
from torch.utils.data import DataLoader

from seg_mia.data.base import SegmentationData
from seg_mia.data.poisson import PoissonBatches, PoissonData, Population
from seg_mia.data.samples import Batch
from seg_mia.data.source import Image, Mask, Source
from seg_mia.data.training_set import TrainingSet

UNITS, RATE, STEPS, EPOCHS = 60, 0.3, 100, 50
SURPRISE = 1e-4
"""How rare a draw of fair coins must be to be doubted."""


class Slices(Source):
    """Sample i: a grey image of value i and a mask of its parity; so many samples to a patient."""

    channels, classes = 1, 2

    def __init__(self, count: int, each: int) -> None:
        self.ids = tuple(f"s{i:03d}" for i in range(count))
        self.groups = tuple(f"p{i // each:03d}" for i in range(count))

    def digest(self, index: int) -> str:
        return f"{index:064x}"

    def decode(self, index: int) -> tuple[Image, Mask]:
        image, mask = np.full((6, 8, 1), index, np.uint8), np.full((6, 8), (index + 1) % 2, np.uint8)
        mask[0, 0] = 1
        image[-1, -1] = 255  # one grey alone would be refused
        return image, mask

    @property
    def settings(self) -> Mapping[str, bool | int | float | str | None]:
        return {"count": len(self.ids)}


class Patients(SegmentationData):
    def __init__(self, *, count: int = 240, each: int = 1, **options: Any) -> None:
        super().__init__(**({"members": 24, "nonmembers": 8, "batch_size": 6} | options))
        self.made = Slices(count, each)

    def read_source(self) -> Source:
        return self.made


def ready(**options: Any) -> Patients:
    data = Patients(**options)
    data.setup()
    return data


def singles(count: int, rate: float, steps: int = STEPS) -> Population:
    return Population(np.arange(count), count, rate, steps)


@cache
def coins(key: int = 7) -> NDArray[np.bool_]:
    """Return which units came, (EPOCHS, STEPS, UNITS)."""
    found = np.zeros((EPOCHS, STEPS, UNITS), dtype=np.bool_)
    sampler = PoissonBatches(singles(UNITS, RATE), key=key)
    for epoch, step in product(range(EPOCHS), range(STEPS)):
        sampler.set_epoch(epoch)
        found[epoch, step, sampler.drawn(step)] = True
    return found


def drawn_by(loader: DataLoader[Batch], epoch: int) -> list[list[int]]:
    """Return the indices in each batch of an epoch, which is told as Lightning tells it."""
    cast(Any, loader.batch_sampler).sampler.set_epoch(epoch)
    return [batch.index.tolist() for batch in loader]


def unsurprising(counts: NDArray[np.int64], trials: int, chance: float) -> bool:
    """Whether independent counts of so many trials each have that chance, by Pearson's statistic."""
    deviations = (counts - trials * chance) ** 2 / (trials * chance * (1 - chance))
    tail = chi2(counts.size).sf(deviations.sum())
    return bool(SURPRISE < tail < 1 - SURPRISE)


def test_every_unit_comes_as_often_as_any_other() -> None:
    flat = coins().reshape(-1, UNITS)
    assert unsurprising(flat.sum(0), len(flat), RATE)


def test_who_came_says_nothing_of_who_else_came() -> None:
    flat = coins().reshape(-1, UNITS)
    sizes = np.bincount(flat.sum(1), minlength=UNITS + 1)
    expected = binom(UNITS, RATE).pmf(np.arange(UNITS + 1)) * len(flat)
    common = expected > 20
    sizes, expected = (np.append(each[common], each[~common].sum()) for each in (sizes, expected))
    assert chisquare(sizes, expected).pvalue > SURPRISE
    pairs = flat.reshape(len(flat), UNITS // 2, 2).all(2).sum(0)
    assert unsurprising(pairs, len(flat), RATE**2)


def test_neither_steps_nor_epochs_nor_keys_know_of_each_other() -> None:
    first, other = coins(), coins(8)
    again = (
        first[:, 0::2] & first[:, 1::2],  # one step and the next
        first[0::2] & first[1::2],  # one step of two epochs
        first & other,  # one step under two keys
    )
    for both in again:
        flat = both.reshape(-1, UNITS)
        assert unsurprising(flat.sum(0), len(flat), RATE**2)


def test_all_batches_differ() -> None:
    found = np.concatenate([coins(), coins(8)]).reshape(-1, UNITS)
    assert len(np.unique(found, axis=0)) == len(found) == 2 * EPOCHS * STEPS


def test_a_key_decides_and_an_epoch_can_be_drawn_again() -> None:
    one, same = (PoissonBatches(singles(UNITS, RATE, 20), key=2**127 + 1) for _ in range(2))
    other = PoissonBatches(singles(UNITS, RATE, 20), key=2**127 + 2)
    torch.manual_seed(1)
    first = list(one)
    one.set_epoch(3)
    later = list(one)
    one.set_epoch(0)
    np.random.seed(1)  # noqa: NPY002  # the global generator is what must not matter
    assert list(one) == list(same) == first
    assert first != list(other)
    assert {epoch for batch in later for epoch, _ in batch} == {3}
    assert [[at for _, at in batch] for batch in later] != [[at for _, at in batch] for batch in first]


def test_a_rate_of_one_takes_all_each_time() -> None:
    sampler = PoissonBatches(singles(5, 1.0, 3), key=0)
    assert list(sampler) == [[(0, position) for position in range(5)]] * 3


def test_a_batch_is_every_sample_of_the_units_drawn() -> None:
    units = np.array([0, 1, 1, 2, 0, 3, 1])
    sampler = PoissonBatches(Population(units, 4, 0.5, 200), key=3)
    assert len(sampler) == 200
    seen = set()
    for step, batch in enumerate(sampler):
        drawn = sampler.drawn(step)
        seen.add(tuple(drawn.tolist()))
        assert [position for _, position in batch] == [i for i, unit in enumerate(units) if unit in drawn]
    assert len(seen) == 16  # each subset of four units, none of them with chance less than 1/16


@pytest.mark.parametrize("ranks", [2, 3, 7])
def test_the_ranks_share_one_batch_and_part_no_unit(ranks: int) -> None:
    units = np.random.default_rng(0).integers(0, 12, 40)
    population = Population(units, 12, 0.4, 60)
    alone = [[at for _, at in batch] for batch in PoissonBatches(population, key=5)]
    shares = [
        [[at for _, at in batch] for batch in PoissonBatches(population, key=5, rank=rank, ranks=ranks)]
        for rank in range(ranks)
    ]
    assert all(len(share) == len(alone) for share in shares)
    for step, whole in enumerate(alone):
        parts = [share[step] for share in shares]
        assert sorted(position for part in parts for position in part) == whole
        owners = [set(units[part]) for part in parts]
        assert sum(map(len, owners)) == len(set.union(*owners))
        assert max(map(len, owners)) - min(map(len, owners)) <= 1


@pytest.mark.parametrize(
    ("units", "batch_size", "rate", "steps"),
    [(24, 6, 0.25, 4), (24, 8, 1 / 3, 3), (10, 3, 0.3, 3), (7, 4, 4 / 7, 2), (8, 8, 1, 1), (8, 1, 1 / 8, 8)],
)
@pytest.mark.parametrize("grouped", [False, True])
def test_the_rate_is_the_batch_over_the_units_and_an_epoch_is_its_inverse(
    units: int, batch_size: int, rate: float, steps: int, grouped: bool
) -> None:
    members = 4 * units if grouped else units
    data = ready(members=members, batch_size=batch_size, each=4 if grouped else 1)
    drawn = PoissonData(data, grouped=grouped, key=0, size=units)
    population = drawn.population
    assert population.rate == pytest.approx(rate, abs=1e-15)
    assert population.steps == steps
    assert (drawn.size, drawn.expected) == (units, batch_size)
    groups = {data.source.groups[i] for i in data.indices("members")}
    assert population.count == (len(groups) if grouped else members)
    assert sorted(set(population.units.tolist())) == list(range(population.count))


@pytest.mark.parametrize(("grouped", "workers"), [(False, 0), (True, 0), (True, 1)])
def test_the_loader_gives_what_was_drawn_in_every_epoch(grouped: bool, workers: int) -> None:
    data = ready(each=3, workers=workers)
    data.batches = drawn = PoissonData(data, grouped=grouped, key=11)
    loader = data.train_dataloader()
    said = PoissonBatches(drawn.population, key=11)
    members = data.indices("members")
    for epoch in (2, 0):
        said.set_epoch(epoch)
        expected = [
            members[np.isin(drawn.population.units, said.drawn(step))].tolist() for step in range(len(said))
        ]
        assert drawn_by(loader, epoch) == expected


def test_the_training_asks_the_set_batches_for_its_loader() -> None:
    data = ready()
    data.batches = PoissonData(data, grouped=False, key=4)
    loader = data.train_dataloader()
    assert isinstance(loader.batch_sampler, PoissonBatches)
    assert len(loader) == 4
    for batch in loader:
        assert set(batch.index.tolist()) <= set(data.indices("members").tolist())
        assert (batch.image[:, 0, 0, 0] * 255).round().long().tolist() == batch.index.tolist()
    assert not isinstance(data.val_dataloader().batch_sampler, PoissonBatches)


def test_empty_batches_occur_as_often_as_they_should_and_keep_their_shape() -> None:
    data = ready(members=4, batch_size=1)
    data.batches = PoissonData(data, grouped=False, key=0)
    loader = data.train_dataloader()
    batches = [batch for epoch in range(10) for batch in _epoch(loader, epoch)]
    empty = [batch for batch in batches if not len(batch.index)]
    low, high = binom(len(batches), 0.75**4).interval(1 - SURPRISE)
    assert low <= len(empty) <= high
    assert 0 < len(empty) < len(batches) == 40
    for batch in empty:
        assert (batch.image.shape, batch.image.dtype) == ((0, 1, 6, 8), torch.float32)
        assert (batch.mask.shape, batch.mask.dtype) == ((0, 6, 8), torch.int64)
        assert (batch.index.shape, batch.index.dtype) == ((0,), torch.int64)


def _epoch(loader: DataLoader[Batch], epoch: int) -> list[Batch]:
    cast(Any, loader.batch_sampler).sampler.set_epoch(epoch)
    return list(loader)


def test_a_patients_slices_always_come_together() -> None:
    data = ready(each=3, members=18, batch_size=6)
    data.batches = PoissonData(data, grouped=True, key=1)
    loader = data.train_dataloader()
    whose = {int(i): data.source.groups[i] for i in data.indices("members")}
    seen = set()
    for epoch in range(20):
        for batch in drawn_by(loader, epoch):
            patients = {whose[index] for index in batch}
            seen |= patients
            assert batch == [index for index, patient in whose.items() if patient in patients]
    assert seen == set(whose.values())


def test_every_index_finds_its_unit_and_strangers_have_none() -> None:
    data = ready(each=3)
    for grouped in (False, True):
        drawn = PoissonData(data, grouped=grouped, key=0)
        names = data.source.groups if grouped else data.source.ids
        members = set(data.indices("members").tolist())
        known = {index: int(drawn.unit_of[index]) for index in range(len(data.source))}
        assert {index for index, unit in known.items() if unit >= 0} == members
        pairs = {(names[index], known[index]) for index in members}
        assert len(pairs) == len({name for name, _ in pairs}) == len({unit for _, unit in pairs})


@pytest.mark.parametrize("grouped", [False, True])
def test_of_a_declared_number_of_units_all_follows_and_nothing_of_the_true_one(grouped: bool) -> None:
    """Two data sets that differ by a unit must not differ in rate, steps or divisor."""
    found = []
    for units in (10, 11):
        data = ready(members=3 * units if grouped else units, batch_size=4, each=3 if grouped else 1)
        drawn = PoissonData(data, grouped=grouped, size=16)
        found.append((drawn.population.rate, drawn.population.steps, drawn.size, drawn.expected))
    assert found[0] == found[1] == (0.25, 4, 16, 4)
    assert drawn.population.count >= 11  # whose coins are tossed


def test_without_a_declared_number_the_true_one_of_units_is_taken() -> None:
    data = ready(members=12, batch_size=2, each=3)
    patients = len({data.source.groups[i] for i in data.indices("members")})
    for grouped, units in ((False, 12), (True, patients)):
        drawn = PoissonData(data, grouped=grouped)
        assert (drawn.size, drawn.population.rate) == (units, 2 / units)


def test_a_batch_of_all_and_more_has_a_rate_of_1() -> None:
    for batch_size in (16, 40):
        drawn = PoissonData(ready(members=20, batch_size=batch_size), grouped=False, size=16)
        assert (drawn.population.rate, drawn.population.steps, drawn.expected) == (1.0, 1, batch_size)


def test_what_is_inserted_is_drawn_too() -> None:
    data = ready()
    new = data.indices("reference")[:6]
    data.insert(TrainingSet(new, {int(i): np.zeros((6, 8), np.uint8) for i in new}))
    drawn = PoissonData(data, grouped=False, key=0)
    assert drawn.population.count == 30
    assert drawn.population.rate == pytest.approx(6 / 30)
    data.batches = drawn
    seen = {i for epoch in range(20) for batch in drawn_by(data.train_dataloader(), epoch) for i in batch}
    assert seen == set(data.indices("members").tolist()) | set(new.tolist())
