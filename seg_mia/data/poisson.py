"""Poisson sampling of privacy units into batches, as DP-SGD's accounting assumes."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Sampler, default_collate

from seg_mia.data.base import SegmentationData
from seg_mia.data.samples import Batch, Batches, Samples


@dataclass(frozen=True)
class Population:
    """Population of Poisson sampling.

    Attributes:
        units: the unit of each position of the data set, (n,), numbered from 0.
        count: how many units there are, which may be a secret: nothing else follows from it.
        rate: the chance of each unit to be in a batch.
        steps: batches in an epoch.
    """

    units: NDArray[np.int64]
    count: int
    rate: float
    steps: int


class PoissonBatches(Sampler[list[tuple[int, int]]]):
    """Batches of (draw, position), some of them empty; all that is drawn follows from key, epoch and step.

    Each rank gets every n-th of the units that were drawn, so that all ranks together see one batch. Copies
    of a sample follow one another; `draw`, on which augmentation depends, is a number of each copy.
    """

    def __init__(
        self,
        population: Population,
        *,
        key: int,
        epoch: int = 0,
        rank: int = 0,
        ranks: int = 1,
        copies: int = 1,
        repeats: bool = False,
    ) -> None:
        self.population, self.key, self.rank, self.ranks = population, key, rank, ranks
        self.copies, self.repeats = copies, repeats
        self.epoch = epoch
        self.sampler = self  # where Lightning looks for what to tell the epoch

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def drawn(self, step: int) -> NDArray[np.int64]:
        """Return the units of one batch of this epoch, over all ranks, ascending."""
        coins = np.random.default_rng([self.key, self.epoch, step]).random(self.population.count)
        return np.flatnonzero(coins < self.population.rate)

    def __len__(self) -> int:
        return self.population.steps

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """Draw all of the epoch now: loaders ask ahead, and may ask on after the next epoch was set."""
        return iter([self._batch(step) for step in range(len(self))])

    def _batch(self, step: int) -> list[tuple[int, int]]:
        units = self.drawn(step)[self.rank :: self.ranks]
        positions = np.flatnonzero(np.isin(self.population.units, units))
        first = 0 if self.repeats else self.epoch * self.copies
        draws = range(first, first + self.copies)
        return [(draw, int(position)) for position in positions for draw in draws]


class PoissonData(Batches):
    """Source of batches for `SegmentationData.train_dataloader` in private training.

    Args:
        data: data module with the training samples, after setup; its `batch_size` is in units.
        grouped: whether all samples of a group (patient, video) are one unit.
        key: secret seed of all draws.
        size: public number of units; the true number if not given.
        copies: augmented copies of each sample in a batch, one after the other.
        repeats: the copies of a sample are the same in every batch.
        draws: whether units are drawn at all; else an epoch is one empty batch.

    Attributes:
        population: sampled population; its rate and steps follow from the next two alone.
        size: the public number of units.
        expected: expected units per batch, a public number: the divisor of sums over a batch.
    """

    def __init__(
        self,
        data: SegmentationData,
        *,
        grouped: bool,
        key: int = 0,
        size: int | None = None,
        copies: int = 1,
        repeats: bool = False,
        draws: bool = True,
    ) -> None:
        self.key, self.copies, self.repeats = key, copies, repeats
        indices = data.trained()
        names = np.array([data.source.groups[i] if grouped else data.source.ids[i] for i in indices])
        unique, units = np.unique(names, return_inverse=True)
        self.size, self.expected = size or len(unique), data.batch_size
        rate, steps = min(self.expected / self.size, 1.0), max(round(self.size / self.expected), 1)
        if not draws:
            rate, steps = 0.0, 1
        self.population = Population(units.reshape(-1), len(unique), rate, steps)
        self.unit_of = torch.full((len(data.source),), -1)
        self.unit_of[torch.from_numpy(indices)] = torch.from_numpy(self.population.units)

    def copy_keys(self, index: Tensor) -> Tensor:
        """Return a number of each row's copy (N,), of the indices (N,) of a batch's rows.

        It differs from every index in the data set, and is the same whenever a copy comes again.
        """
        copy = torch.arange(len(index), device=index.device) % self.copies
        return index + len(self.unit_of) * (1 + copy)

    def loader(
        self, samples: Samples, *, workers: int, epoch: int, rank: int, ranks: int
    ) -> DataLoader[Batch]:
        """Return the loader of one rank."""
        image, mask, _ = samples[0, 0]
        nothing = Batch(
            image.new_empty(0, *image.shape), mask.new_empty(0, *mask.shape), torch.empty(0, dtype=torch.long)
        )
        batches = PoissonBatches(
            self.population,
            key=self.key,
            epoch=epoch,
            rank=rank,
            ranks=ranks,
            copies=self.copies,
            repeats=self.repeats,
        )
        return DataLoader(
            samples,
            batch_sampler=batches,
            num_workers=workers,
            pin_memory=torch.cuda.is_available(),
            collate_fn=partial(_collate, nothing=nothing),
            generator=torch.Generator(),  # an iterator must not draw from what dropout draws from
        )


def _collate(samples: list[Batch], *, nothing: Batch) -> Batch:
    if not samples:
        return nothing
    batch: Batch = default_collate(samples)
    return batch
