"""From a source of samples to loaders of members, non-members and reference."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from seg_mia.data.augment import Augmentation, Augmenter
from seg_mia.data.cache import Cached, default_folder, open_cache
from seg_mia.data.progress import DecodingBar
from seg_mia.data.source import Source
from seg_mia.data.splits import Half, divide, halves
from seg_mia.errors import InputError
from seg_mia.masks import IGNORE

Role = Literal["victim", "shadow"]
Subset = Literal["nonmembers", "members", "reference", "all"]


class Batch(NamedTuple):
    """Images (N, C, H, W) in [0, 1], class indices (N, h, w), and indices (N,) in the data set."""

    image: Tensor
    mask: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody asks of a batch


class Samples(Dataset[Batch]):
    """Cached samples, asked for with the epoch, so that augmentation depends on nothing else."""

    def __init__(
        self,
        cached: Cached,
        indices: NDArray[np.int64],
        augmenter: Augmenter | None = None,
        labels: Mapping[int, NDArray[np.uint8]] | None = None,
    ) -> None:
        self.cached = cached
        self.labels = labels or {}
        self.indices = indices
        self.augmenter = augmenter

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, draw: tuple[int, int]) -> Batch:
        """Return the sample at (epoch, position)."""
        epoch, position = draw
        index = int(self.indices[position])
        image, mask = np.array(self.cached.images[index]), np.array(self._mask(index))
        if self.augmenter is not None:
            image, mask = self.augmenter(image, mask, epoch=epoch, index=index)
        scaled = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).float()
        if image.dtype == np.uint8:
            scaled = scaled / 255
        return Batch(
            scaled.contiguous(), torch.from_numpy(np.ascontiguousarray(mask)).long(), torch.tensor(index)
        )

    def _mask(self, index: int) -> NDArray[np.uint8]:
        return self.labels[index] if index in self.labels else self.cached.masks[index]


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
        even = -(-self.count // self.ranks) * self.ranks
        return np.resize(order, even)[self.rank :: self.ranks]

    def __len__(self) -> int:
        return len(self._order())

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter([(self.epoch, int(position)) for position in self._order()])


class Batches(ABC):
    """What decides which samples are trained on together, instead of a shuffled epoch."""

    @abstractmethod
    def loader(
        self, samples: Samples, *, workers: int, epoch: int, rank: int, ranks: int
    ) -> DataLoader[Batch]:
        """Return the training loader of one of several ranks, which begins with an epoch."""


class SegmentationData(LightningDataModule):
    """Images and masks of one data set, split into two halves of members, non-members and reference.

    Args:
        members: samples that the network trains on.
        nonmembers: held-out samples of the same half: validation, and what membership is measured against.
        reference: samples kept for defences; all that is left of the half if not given.
        role: whose half of the split this run uses.
        split_seed: decides the split, with the samples' ids and groups and nothing else.
        shadow_share: the share of samples in the shadow's half.
        subset: what validate, test and predict read.
        limit: read at most so many samples of the subset.
        batch_size: images in a batch.
        workers: processes that load; 0 loads in the main one, which is fastest for small cached images.
        augment: random changes in training: none, flips, or flips with small shifts, scalings, rotations and
            contrast changes.
        cache: folder for decoded samples; $SEG_MIA_CACHE or the user's cache folder if not given.

    Attributes:
        batches: what draws the training's batches, where a defence has set it.
    """

    source: Source
    splits: Half
    cached: Cached

    def __init__(
        self,
        *,
        members: int,
        nonmembers: int,
        reference: int | None = None,
        role: Role = "victim",
        split_seed: int = 0,
        shadow_share: float = 0.5,
        subset: Subset = "nonmembers",
        limit: int | None = None,
        batch_size: int = 8,
        workers: int = 0,
        augment: Augmentation = "none",
        cache: str | None = None,
    ) -> None:
        super().__init__()
        if batch_size < 1 or workers < 0 or (limit is not None and limit < 1):
            raise InputError(
                f"batch_size and limit must be at least 1 and workers at least 0, got {batch_size}, {limit}, "
                f"{workers}"
            )
        self.members, self.nonmembers, self.reference = members, nonmembers, reference
        self.role, self.split_seed, self.shadow_share = role, split_seed, shadow_share
        self.subset, self.limit = subset, limit
        self.batch_size, self.workers, self.augment = batch_size, workers, augment
        self.cache = cache
        self._ready = False
        self._taught: tuple[NDArray[np.int64], Mapping[int, NDArray[np.uint8]]] | None = None
        self.batches: Batches | None = None
        self._begin = 0

    @abstractmethod
    def read_source(self) -> Source:
        """Return the samples; raise InputError when they are not there or not what they should be."""

    def together(self) -> list[list[str]]:
        """Return lists of ids that are known duplicates and must stay on one side."""
        return []

    @property
    def fingerprint(self) -> str:
        """A digest of all ids and contents, after `setup`."""
        return self.cached.fingerprint

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch to go on with: loaders are asked ahead, before Lightning says which it is."""
        if self.trainer is None:
            return {"epoch": 0}
        progress: Any = self.trainer.fit_loop.epoch_progress.current
        return {"epoch": progress.processed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Begin the next training loader with that epoch."""
        self._begin = int(state_dict["epoch"])

    def prepare_data(self) -> None:
        """Decode once, in one process; the others find the cache."""
        self._open()

    def setup(self, stage: str | None = None) -> None:  # noqa: ARG002
        """List, split and open the samples."""
        if self._ready:
            return
        self._open()
        ids, groups = self.source.ids, self.source.groups
        together = [*self.together(), *_equal_files(self.source)]
        both = halves(ids, groups, seed=self.split_seed, shadow_share=self.shadow_share, together=together)
        half = both[0 if self.role == "victim" else 1]
        self.splits = divide(
            half,
            ids,
            groups,
            seed=self.split_seed,
            members=self.members,
            nonmembers=self.nonmembers,
            reference=self.reference,
            together=together,
        )
        self._refuse_empty()
        if self.augment != "none" and self.cached.images.shape[1:3] != self.cached.masks.shape[1:3]:
            raise InputError(
                "augmentation moves image and mask together, but images and masks differ in size: "
                f"{self.cached.images.shape[1:3]} and {self.cached.masks.shape[1:3]}; use --data.augment none"
            )
        self._ready = True

    def _open(self) -> None:
        if hasattr(self, "cached"):
            return
        self.source = self.read_source()
        folder = Path(self.cache) if self.cache else default_folder()
        with DecodingBar() as bar:
            self.cached = open_cache(self.source, folder, progress=bar)

    def _refuse_empty(self) -> None:
        masks = self.cached.masks[list(self.splits.members)]
        if not ((masks > 0) & (masks != IGNORE)).any():
            raise InputError(
                f"all {len(masks)} masks to train on are empty, a network cannot learn a foreground from "
                "them; "
                "check the mask threshold or class ids (--data.threshold, --data.classes)"
            )

    def indices(self, subset: Subset) -> NDArray[np.int64]:
        """Return the data-set indices of a part of this role's half, ascending."""
        parts = {
            "members": self.splits.members,
            "nonmembers": self.splits.nonmembers,
            "reference": self.splits.reference,
            "all": (*self.splits.members, *self.splits.nonmembers, *self.splits.reference),
        }
        return np.array(sorted(parts[subset]), dtype=np.int64)

    def evaluated(self) -> NDArray[np.int64]:
        """Return the data-set indices that validate, test and predict read, ascending."""
        chosen = self.indices(self.subset)[: self.limit]
        if not len(chosen):
            raise InputError(f"there are no {self.subset} in this split; choose another --data.subset")
        return chosen

    def dataset(
        self,
        indices: NDArray[np.int64],
        *,
        augmented: bool = False,
        labels: Mapping[int, NDArray[np.uint8]] | None = None,
    ) -> Samples:
        """Return the samples at some data-set indices, with other masks where `labels` has them."""
        augmenter = Augmenter(self.augment, run_seed()) if augmented and self.augment != "none" else None
        return Samples(self.cached, indices, augmenter, labels)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Members, shuffled and augmented, unless others are taught."""
        labels = self._taught[1] if self._taught else None
        samples = self.dataset(self.trained(), augmented=True, labels=labels)
        if self.batches is None:
            return self._loader(samples, shuffle=True)
        rank, ranks = self._ranks()
        return self.batches.loader(samples, workers=self.workers, epoch=self._begin, rank=rank, ranks=ranks)

    def trained(self) -> NDArray[np.int64]:
        """Return the data-set indices of what is trained on: the members, unless others are taught."""
        return self._taught[0] if self._taught else self.indices("members")

    def teach(self, indices: NDArray[np.int64], labels: Mapping[int, NDArray[np.uint8]]) -> None:
        """Let training see other samples than the members, with other masks than the true ones.

        Args:
            indices: data-set indices of what is trained on, (n,); none may be evaluated.
            labels: a mask (h, w) for each of them.

        Raises:
            InputError: a sample that training is judged by.
        """
        self._refuse_judged(indices)
        self._taught = indices, labels

    def insert(self, indices: NDArray[np.int64], labels: Mapping[int, NDArray[np.uint8]]) -> None:
        """Let training see more samples, with other masks than the true ones.

        Args:
            indices: data-set indices of what is trained on besides, (n,); none may be evaluated.
            labels: a mask (h, w) for each of them.

        Raises:
            InputError: a sample that training is judged by.
        """
        self._refuse_judged(indices)
        before = self._taught[1] if self._taught else {}
        self._taught = np.concatenate([self.trained(), indices]), {**before, **labels}

    def _refuse_judged(self, indices: NDArray[np.int64]) -> None:
        judged = set(self.indices("members")) | set(self.indices("nonmembers"))
        if judged & set(indices.tolist()):
            raise InputError(
                "what is taught besides members must come from the reference, got evaluated samples"
            )

    def val_dataloader(self) -> DataLoader[Batch]:
        """The evaluated subset in a fixed order."""
        return self._loader(self.dataset(self.evaluated()), shuffle=False)

    def test_dataloader(self) -> DataLoader[Batch]:
        """The evaluated subset in a fixed order."""
        return self.val_dataloader()

    def predict_dataloader(self) -> DataLoader[Batch]:
        """The evaluated subset in a fixed order."""
        return self.val_dataloader()

    def _loader(self, dataset: Samples, *, shuffle: bool) -> DataLoader[Batch]:
        rank, ranks = self._ranks()
        sampler = EpochSampler(len(dataset), shuffle=shuffle, seed=run_seed(), rank=rank, ranks=ranks)
        sampler.set_epoch(self._begin if shuffle else 0)
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.workers,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator().manual_seed(run_seed()),
        )

    def _ranks(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)


def run_seed() -> int:
    """Return what seed_everything was given: order and augmentation are a run's, not a split's."""
    return int(os.environ.get("PL_GLOBAL_SEED", "0"))


def _equal_files(source: Source) -> list[list[str]]:
    """Return the ids of samples with the same image, which no split may part, whatever their masks."""
    alike: dict[str, list[str]] = {}
    for index, name in enumerate(source.ids):
        alike.setdefault(source.image_digest(index), []).append(name)
    return [names for names in alike.values() if len(names) > 1]
