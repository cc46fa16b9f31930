"""Cached samples and their sampling order."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from seg_mia.data.cache import Cached
from seg_mia.data.source import Image, Mask


class Batch(NamedTuple):
    """Images (N, C, *S) in [0, 1], class indices (N, *s), and indices (N,) in the data set."""

    image: Tensor
    mask: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody asks of a batch


class Change(Protocol):
    """Change of a training sample: augmentation, or the draw of a patch."""

    def __call__(self, image: Image, mask: Mask, *, epoch: int, index: int) -> tuple[Image, Mask]:
        """Return the changed image (*S, C) and mask (*S)."""


class Samples(Dataset[Batch]):
    """Cached samples, indexed together with the epoch, which determines augmentation and patch."""

    def __init__(
        self,
        cached: Cached,
        indices: NDArray[np.int64],
        changes: Sequence[Change] = (),
        labels: Mapping[int, NDArray[np.uint8]] | None = None,
        images: Mapping[int, Image] | None = None,
    ) -> None:
        self.cached = cached
        self.labels, self.images = labels or {}, images or {}
        self.indices = indices
        self.changes = tuple(changes)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, draw: tuple[int, int]) -> Batch:
        """Return the sample at (epoch, position)."""
        epoch, position = draw
        index = int(self.indices[position])
        image: Image
        image, mask = self._image(index), self._mask(index)  # views of the file: only patches are read
        for change in self.changes:
            image, mask = change(image, mask, epoch=epoch, index=index)
        classes = torch.from_numpy(mask.astype(np.int64, order="C"))
        return Batch(torch.from_numpy(channels_first(image)), classes, torch.tensor(index))

    def _image(self, index: int) -> Image:
        return self.images[index] if index in self.images else self.cached.images[index]

    def _mask(self, index: int) -> NDArray[np.uint8]:
        return self.labels[index] if index in self.labels else self.cached.masks[index]


def channels_first(image: Image) -> NDArray[np.float32]:
    """Return an image (*S, C), uint8 or float32 in [0, 1], as float32 in [0, 1], (C, *S).

    The result is the only array of the image's size that is made.
    """
    scale = np.float32(255 if image.dtype == np.uint8 else 1)
    values = np.empty((image.shape[-1], *image.shape[:-1]), np.float32)
    for channel, plane in enumerate(values):
        np.divide(image[..., channel], scale, out=plane)
    return values


def stacked(samples: Sequence[Batch]) -> Batch:
    """Return samples as one batch; a single sample is not copied, as large images come one by one."""
    if len(samples) == 1:
        return Batch(*(part.unsqueeze(0) for part in samples[0]))
    return Batch(*(torch.stack(parts) for parts in zip(*samples, strict=True)))


class EpochSampler(Sampler[tuple[int, int]]):
    """Positions with their epoch, in an order that seed and epoch decide; each rank gets every n-th.

    In training every rank draws equally often, by starting over; in evaluation no sample is drawn twice, but
    where there are more ranks than samples: a rank with nothing to do would keep the others waiting forever.
    """

    def __init__(self, count: int, *, shuffle: bool, seed: int, rank: int = 0, ranks: int = 1) -> None:
        self.count, self.shuffle, self.seed, self.rank, self.ranks = count, shuffle, seed, rank, ranks
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def _order(self) -> NDArray[np.int64]:
        if not self.shuffle:
            return np.arange(self.count)[self.rank % max(self.count, 1) :: self.ranks]
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.count)
        # Equal counts on all ranks: one that ends early would leave the others waiting in a reduction.
        even = -(-self.count // self.ranks) * self.ranks
        return np.resize(order, even)[self.rank :: self.ranks]

    def __len__(self) -> int:
        return len(self._order())

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter([(self.epoch, int(position)) for position in self._order()])


def loader_of(
    samples: Samples, sampler: EpochSampler, *, batch_size: int, workers: int, seed: int
) -> DataLoader[Batch]:
    """Return a loader of samples in the order of a sampler."""
    return DataLoader(
        samples,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        collate_fn=stacked,
        generator=torch.Generator().manual_seed(seed),
    )


def spread(indices: NDArray[np.int64], groups: Sequence[str], limit: int) -> NDArray[np.int64]:
    """Return at most `limit` indices, ascending, from as many groups as possible.

    Groups alternate in the order of their first sample; samples of a group follow an order drawn with a fixed
    seed, as the first slices of a volume all show one end of it.

    Args:
        indices: ascending.
        groups: group of each sample of the data set.
        limit: at least 1.
    """
    if len(indices) <= limit:
        return indices
    turns: dict[str, list[int]] = {}
    for index in indices.tolist():
        turns.setdefault(groups[index], []).append(index)
    for samples in turns.values():
        np.random.default_rng(0).shuffle(samples)
    dealt = [
        samples[turn]
        for turn in range(max(map(len, turns.values())))
        for samples in turns.values()
        if turn < len(samples)
    ]
    return np.array(sorted(dealt[:limit]), dtype=np.int64)


class Batches(ABC):
    """Custom batch composition in training, instead of a shuffled epoch.

    Attributes:
        repeats: augmentation changes a sample in the same ways in every batch.
    """

    repeats: bool = False

    @abstractmethod
    def loader(
        self, samples: Samples, *, workers: int, epoch: int, rank: int, ranks: int
    ) -> DataLoader[Batch]:
        """Return the training loader of one of several ranks, which begins with an epoch."""


def run_seed() -> int:
    """Return the seed of seed_everything: order and augmentation belong to the run, not to the split."""
    return int(os.environ.get("PL_GLOBAL_SEED", "0"))
