"""From a source of samples to loaders of members, non-members and reference."""

import copy
import os
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from seg_mia.config.spec import parameters
from seg_mia.data.augment import Augmentation, Augmenter
from seg_mia.data.cache import Cached, default_folder, open_cache
from seg_mia.data.checks import examine, log_notes
from seg_mia.data.duplicates import Positions, equal_files, join_duplicates, near_duplicates
from seg_mia.data.progress import DecodingBar
from seg_mia.data.sample_facts import SampleFacts, sample_facts
from seg_mia.data.samples import Batch, Batches, EpochSampler, Samples
from seg_mia.data.source import Note, Source
from seg_mia.data.split_settings import Role, SplitSettings
from seg_mia.data.splits import Split
from seg_mia.data.strata import foreground_strata
from seg_mia.errors import InputError

Subset = Literal["nonmembers", "members", "reference", "all"]
VIEW = ("subset", "limit")
"""Settings that choose which of the samples a run reads; modules that differ in them alone share samples."""


class SegmentationData(LightningDataModule):
    """Images and masks of one data set, split into two halves of members, non-members and reference.

    Args:
        members: samples that the network trains on.
        nonmembers: held-out samples of the same half: validation, and what membership is measured against.
        reference: samples kept for defences; all that is left of the half if not given.
        role: whose half of the split this run uses.
        shadow: number of the shadow, from 0, where many are trained: each is trained on a random half of the
            members and non-members of its pool, whole patients, and each sample is in half of the shadows
            (of 2j and 2j + 1 in exactly one). Not given for the one shadow that trains on all its members.
        shadow_pool: the half of the split whose members and non-members such shadows share: the shadow's,
            or the victim's, for attacks that allow shadows to be trained on judged samples.
        split_seed: decides the split, with the samples' ids and groups and nothing else.
        shadow_share: the share of samples in the shadow's half.
        subset: what validate, test and predict read.
        limit: read at most so many samples of the subset, of as many patients as there can be.
        batch_size: images in a batch.
        workers: processes that load; 0 loads in the main one, which is fastest for small cached images.
        augment: random changes in training: none, flips, or flips with small shifts, scalings, rotations and
            contrast changes.
        cache: folder for decoded samples; $SEG_MIA_CACHE or the user's cache folder if not given.
        duplicates: lists of ids that show the same thing and stay on one side of the split.
        near_duplicates: a `prepare.json` that `prepare` wrote for this data: the pairs of near duplicates in
            it stay on one side, too.
        duplicate_positions: what a checkpoint keeps of these two: positions among the sorted ids; not to
            be written by hand.
        stratify: share out evenly over so many bins of the foreground's share, so that members and
            non-members are alike in it; not at all if not given.

    Attributes:
        batches: what draws the training's batches, where a defence has set it.
        facts: on every sample, after `setup`.
        notes: what is to be known of this half's samples, after `setup`.
        untrained: members that the teacher of what is trained has not seen, as indices.
    """

    source: Source
    splits: Split
    cached: Cached
    facts: SampleFacts
    notes: tuple[Note, ...] = ()
    untrained: tuple[int, ...] = ()
    _opened: "SegmentationData | None" = None

    def __init__(
        self,
        *,
        members: int,
        nonmembers: int,
        reference: int | None = None,
        role: Role = "victim",
        shadow: int | None = None,
        shadow_pool: Role = "shadow",
        split_seed: int = 0,
        shadow_share: float = 0.5,
        subset: Subset = "nonmembers",
        limit: int | None = None,
        batch_size: int = 8,
        workers: int = 0,
        augment: Augmentation = "none",
        cache: str | None = None,
        duplicates: list[list[str]] | None = None,
        near_duplicates: str | None = None,
        duplicate_positions: list[list[int]] | None = None,
        stratify: int | None = None,
    ) -> None:
        super().__init__()
        self._check_counts(batch_size, limit, workers)
        if stratify is not None and stratify < 2:
            raise InputError(f"stratify must be 2 bins or more, got {stratify}; leave it out for none")
        self.members, self.nonmembers, self.reference = members, nonmembers, reference
        self.shadow, self.shadow_pool = shadow, shadow_pool
        self.role, self.split_seed, self.shadow_share = role, split_seed, shadow_share
        self._split_settings()  # refuses what does not go together before any sample is read
        self.subset, self.limit = subset, limit
        self.batch_size, self.workers, self.augment = batch_size, workers, augment
        self.cache = cache
        self.duplicates, self.near_duplicates = duplicates or [], near_duplicates
        self.duplicate_positions: Positions | None = duplicate_positions
        self.stratify = stratify
        self._ready = False
        self._taught: tuple[NDArray[np.int64], Mapping[int, NDArray[np.uint8]]] | None = None
        self.batches: Batches | None = None
        self._begin = 0

    def viewed(self, settings: Mapping[str, Any], *, subset: Subset, limit: int | None) -> Self:
        """Return a module that reads another part of this one's samples, which are opened once for both.

        Args:
            settings: what it was built from, for checkpoints.
            subset: as in the constructor.
            limit: as in the constructor.

        Raises:
            InputError: a limit below 1.
        """
        self._check_counts(self.batch_size, limit, self.workers)
        view = copy.copy(self)
        view._opened, view.subset, view.limit = self, subset, limit
        view.__dict__.pop("_hparams", None)  # the copy's own, not this one's
        view.save_hyperparameters(dict(settings), logger=False)
        return view

    @staticmethod
    def _check_counts(batch_size: int, limit: int | None, workers: int) -> None:
        if batch_size < 1 or workers < 0 or (limit is not None and limit < 1):
            raise InputError(
                f"batch_size and limit must be at least 1 and workers at least 0, got {batch_size}, {limit}, "
                f"{workers}"
            )

    @abstractmethod
    def read_source(self) -> Source:
        """Return the samples; raise InputError when they are not there or not what they should be."""

    def known_duplicates(self) -> list[list[str]]:
        """Return lists of ids that are the data set's known duplicates and must stay on one side."""
        return []

    def duplicate_groups(self) -> list[list[str]]:
        """Return every list of ids that no split parts whatever their groups, once the samples are open."""
        names = sorted(self.source.ids)
        listed = [[names[position] for position in group] for group in self.duplicate_positions or ()]
        return [*self.known_duplicates(), *listed, *equal_files(self.source)]

    @property
    def fingerprint(self) -> str:
        """A digest of all ids and contents, after `setup`."""
        return self.cached.fingerprint

    def state_dict(self) -> dict[str, int]:
        """Return the epoch to go on with: loaders are asked ahead, before Lightning says which it is."""
        if self.trainer is None:
            return {"epoch": 0}
        progress: Any = self.trainer.fit_loop.epoch_progress.current
        return {"epoch": progress.processed}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
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
        self.splits = self._split()
        self.notes = tuple(examine(self.source, self.facts, self.splits, self.role, parameters(type(self))))
        log_notes(self.notes, self.role, str(self.cached.folder))
        if self.augment != "none" and self.cached.images.shape[1:3] != self.cached.masks.shape[1:3]:
            raise InputError(
                "augmentation moves image and mask together, but images and masks differ in size: "
                f"{self.cached.images.shape[1:3]} and {self.cached.masks.shape[1:3]}; use --data.augment none"
            )
        self._ready = True

    def _split(self) -> Split:
        strata = foreground_strata(self.cached.masks, self.stratify) if self.stratify else None
        return self._split_settings().split(self.source, self.duplicate_groups(), strata)

    def _split_settings(self) -> SplitSettings:
        return SplitSettings(
            role=self.role,
            shadow=self.shadow,
            shadow_pool=self.shadow_pool,
            seed=self.split_seed,
            shadow_share=self.shadow_share,
            members=self.members,
            nonmembers=self.nonmembers,
            reference=self.reference,
        )

    def _open(self) -> None:
        if self._opened is not None:
            self._share(self._opened)
        elif not hasattr(self, "cached"):
            self._read()

    def _share(self, opened: "SegmentationData") -> None:
        opened._open()
        self.source, self.facts, self.cached = opened.source, opened.facts, opened.cached
        self.duplicate_positions = opened.duplicate_positions
        self._store_positions()

    def _read(self) -> None:
        self.source = self.read_source()
        folder = Path(self.cache) if self.cache else default_folder()
        with DecodingBar() as bar:
            cached = open_cache(self.source, folder, progress=bar)
        with DecodingBar("looking at every sample") as bar:
            self.facts = sample_facts(cached, self.source, bar)
        self._join_duplicates(cached.fingerprint)
        self.cached = cached

    def _join_duplicates(self, fingerprint: str) -> None:
        """Join all lists of duplicates; checkpoints keep them as positions, which name nobody."""
        ids, file = self.source.ids, self.near_duplicates
        near = near_duplicates(Path(file), ids, fingerprint) if file else []
        self.duplicate_positions = join_duplicates(
            ids, duplicates=self.duplicates, near=near, duplicate_positions=self.duplicate_positions or ()
        )
        self._store_positions()

    def _store_positions(self) -> None:
        """Keep duplicates for checkpoints as positions alone, which name nobody."""
        for name in ("duplicates", "near_duplicates"):
            self.hparams.pop(name, None)
        if self.duplicate_positions is not None or "duplicate_positions" in self.hparams:
            self.hparams["duplicate_positions"] = self.duplicate_positions

    def indices(self, subset: Subset) -> NDArray[np.int64]:
        """Return the data-set indices of a part of this role's half, ascending."""
        parts = {
            "members": self.splits.members,
            "nonmembers": self.splits.nonmembers,
            "reference": self.splits.reference,
            "all": (*self.splits.members, *self.splits.nonmembers, *self.splits.reference),
        }
        return np.array(sorted(parts[subset]), dtype=np.int64)

    def scored(self, subset: Subset) -> NDArray[np.int64]:
        """Return those of `indices` that have a labelled pixel; others can be neither measured nor learnt."""
        chosen = self.indices(subset)
        return chosen[self.facts.labelled[chosen]]

    def attacked(self) -> NDArray[np.int64]:
        """Return the data-set indices that test reads, ascending: those that have a labelled pixel."""
        chosen = self.limited(self.scored(self.subset))
        if not len(chosen):
            self.evaluated()
            raise InputError(f"none of the {self.subset} has a labelled pixel; choose another --data.subset")
        return chosen

    def evaluated(self) -> NDArray[np.int64]:
        """Return the data-set indices that validate and predict read, ascending."""
        chosen = self.limited(self.indices(self.subset))
        if not len(chosen):
            raise InputError(f"there are no {self.subset} in this split; {self._remedy()}")
        return chosen

    def limited(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return at most `limit` of some data-set indices, ascending, of as many groups as there can be.

        Groups take turns in the order of their first sample, each giving its samples in an order drawn once
        by a fixed seed: the first slices of a volume all show its one end.
        """
        if self.limit is None or len(indices) <= self.limit:
            return indices
        turns: dict[str, list[int]] = {}
        for index in indices.tolist():
            turns.setdefault(self.source.groups[index], []).append(index)
        for samples in turns.values():
            np.random.default_rng(0).shuffle(samples)
        dealt = [
            samples[turn]
            for turn in range(max(map(len, turns.values())))
            for samples in turns.values()
            if turn < len(samples)
        ]
        return np.array(sorted(dealt[: self.limit]), dtype=np.int64)

    def _remedy(self) -> str:
        """Return what to do where nothing is to be evaluated; a trained network's split cannot be changed."""
        if self.trainer is not None and self.trainer.state.fn == "fit":
            return f"a training is validated on them: raise --data.{self.subset}"
        return "choose another --data.subset"

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
        """The attacked samples in a fixed order."""
        return self._loader(self.dataset(self.attacked()), shuffle=False)

    def predict_dataloader(self) -> DataLoader[Batch]:
        """The evaluated subset in a fixed order."""
        return self.val_dataloader()

    def _loader(self, dataset: Samples, *, shuffle: bool) -> DataLoader[Batch]:
        rank, ranks = self._ranks()
        sampler = EpochSampler(len(dataset), shuffle=shuffle, seed=run_seed(), rank=rank, ranks=ranks)
        # Lightning makes the loader before it tells a resumed run's epoch to the sampler.
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
