"""Data module base class: loaders of members, non-members and reference samples."""

import copy
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from seg_mia.config.spec import parameters
from seg_mia.data.altered import with_altered
from seg_mia.data.augment import Augmentation
from seg_mia.data.cache import Cached, default_folder, open_cache
from seg_mia.data.checks import check_counts, examine, log_notes
from seg_mia.data.duplicates import Positions, equal_files, join_duplicates, near_duplicates
from seg_mia.data.patches import check_fit, check_patch
from seg_mia.data.progress import DecodingBar
from seg_mia.data.sample_facts import SampleFacts, sample_facts
from seg_mia.data.samples import Batch, Batches, EpochSampler, Samples, loader_of, run_seed, spread
from seg_mia.data.source import Image, Note, Source
from seg_mia.data.split_settings import Role, SplitSettings
from seg_mia.data.splits import Split
from seg_mia.data.stated_parts import MixedPatients, Stated, check_mixed, moved_patients, read_parts
from seg_mia.data.strata import foreground_strata
from seg_mia.data.training_set import TrainingSet, check_unevaluated, training_changes
from seg_mia.errors import InputError

Subset = Literal["nonmembers", "members", "reference", "all"]

LARGEST_QUERY = 64
"""Images per batch outside of training, at most."""
VIEW = ("subset", "limit")
"""Settings that select the evaluated samples; modules that differ only in them share decoded samples."""


class SegmentationData(LightningDataModule):
    """Images and masks of one data set, split into victim and shadow halves of members and non-members.

    Args:
        members: number of training samples; null for all of a stated part.
        nonmembers: number of held-out samples of the same half, for validation and as non-members of attacks;
            null for all of a stated part.
        reference: number of samples reserved for defences; the rest of the half if not given.
        parts: a stated split: a CSV file below the data's root with the columns `part` and `case` or
            `patient` or both, or a mapping of parts to text files, or `{nnunet: splits_final.json, fold: 0}`
            (`seg_mia.data.stated_parts.read_parts`). Parts are train, test, reference; shadow, or
            shadow_train and shadow_test. Drawn at random if not given.
        mixed_patients: treatment of patients in several stated parts: an error, or reference.
        role: half of the split used by this run: victim or shadow.
        shadow: number of the shadow model, from 0, among several: each trains on a random half (whole
            patients) of the members and non-members of its pool, and each sample is in half of the shadows
            (in exactly one of 2j and 2j + 1). Not given for a single shadow trained on all its members.
        shadow_pool: half whose members and non-members such shadow models share: the shadow's, or the
            victim's for attacks that allow shadow models to train on evaluated samples.
        split_seed: seed of the split, which depends only on it and on the samples' ids and groups.
        shadow_share: fraction of samples in the shadow's half.
        subset: samples read by validate, test and predict.
        limit: maximum number of samples of the subset, drawn from as many patients as possible.
        batch_size: images per batch; at most 64 of them in evaluation and attacks, which need more memory.
        workers: loader processes; 0 loads in the main process, fastest for small cached images.
        augment: training augmentation: none, flips, or flips with small shifts, scalings, rotations and
            contrast changes; of volumes, none or flips.
        patch: lengths of the patches to train on, [H, W], or [D, H, W] of volumes; whole samples if not
            given. Evaluation and attacks always see whole samples.
        patch_foreground: share of patches centred on a foreground pixel.
        cache: folder for decoded samples; $SEG_MIA_CACHE or the user's cache folder if not given.
        duplicates: lists of ids with the same content, which stay on one side of the split.
        near_duplicates: `prepare.json`, written by `prepare` for this data; its pairs stay together, too.
        duplicate_positions: the two settings above as stored in a checkpoint (positions among the sorted
            ids); not to be set by hand.
        stratify: number of bins of the foreground fraction for a stratified split, in which members and
            non-members have similar fractions; no stratification if not given.
        altered: fraction of the patients with an altered, exposed sample (`seg_mia.data.altered`).

    Attributes:
        batches: sampler of training batches, if set by a defence.
        facts: statistics of every sample, after `setup`.
        notes: remarks on the samples of this half, after `setup`.
        untrained: members not seen by the teacher of the trained network, as indices.
        withheld: samples that test does not read, as indices: an attack was fitted to them.
    """

    source: Source
    splits: Split
    cached: Cached
    facts: SampleFacts
    notes: tuple[Note, ...] = ()
    batches: Batches | None = None
    untrained: tuple[int, ...] = ()
    withheld: tuple[int, ...] = ()
    _opened: "SegmentationData | None" = None

    def __init__(
        self,
        *,
        members: int | None,
        nonmembers: int | None,
        reference: int | None = None,
        parts: Stated | None = None,
        mixed_patients: MixedPatients = "refuse",
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
        patch: list[int] | None = None,
        patch_foreground: float = 0.33,
        cache: str | None = None,
        duplicates: list[list[str]] | None = None,
        near_duplicates: str | None = None,
        duplicate_positions: list[list[int]] | None = None,
        stratify: int | None = None,
        altered: float = 0.0,
    ) -> None:
        super().__init__()
        check_counts(batch_size=batch_size, limit=limit, workers=workers, stratify=stratify)
        check_mixed(parts, mixed_patients)
        check_patch(patch, patch_foreground)
        self.members, self.nonmembers, self.reference = members, nonmembers, reference
        self.parts, self.mixed_patients = parts, mixed_patients
        self.shadow, self.shadow_pool = shadow, shadow_pool
        self.role, self.split_seed, self.shadow_share = role, split_seed, shadow_share
        self._split_settings()  # rejects incompatible settings before any sample is read
        self.subset, self.limit = subset, limit
        self.batch_size, self.workers, self.augment, self.cache = batch_size, workers, augment, cache
        self.duplicates, self.near_duplicates = duplicates or [], near_duplicates
        self.duplicate_positions: Positions | None = duplicate_positions
        self.stratify, self.altered = stratify, altered
        self.patch, self.patch_foreground = patch, patch_foreground
        self._ready, self._begin = False, 0
        self._taught: TrainingSet | None = None

    def viewed(self, settings: Mapping[str, Any], *, subset: Subset, limit: int | None) -> Self:
        """Return a module for another subset that shares the opened samples.

        Args:
            settings: its constructor arguments, for checkpoints.
            subset: as in the constructor.
            limit: as in the constructor.

        Raises:
            InputError: a limit below 1.
        """
        check_counts(batch_size=self.batch_size, limit=limit, workers=self.workers)
        view = copy.copy(self)
        view._opened, view.subset, view.limit = self, subset, limit
        view.__dict__.pop("_hparams", None)  # the copy's own, not this one's
        view.save_hyperparameters(dict(settings), logger=False)
        return view

    @abstractmethod
    def read_source(self) -> Source:
        """Return the samples; raise InputError if they are missing or invalid."""

    def find(self) -> Path:
        """Return the folder of the data; raise InputError if it is missing, or the data has none."""
        raise InputError(
            f"parts are read below a folder, which {type(self).__name__} has not; leave them out"
        )

    def known_duplicates(self) -> list[list[str]]:
        """Return the known duplicates of the data set as lists of ids, which must stay on one side."""
        return []

    def duplicate_groups(self) -> list[list[str]]:
        """Return all lists of ids kept together by every split regardless of groups, after opening."""
        names = sorted(self.source.ids)
        listed = [[names[position] for position in group] for group in self.duplicate_positions or ()]
        return [*self.known_duplicates(), *listed, *equal_files(self.source)]

    @property
    def fingerprint(self) -> str:
        """Digest of all ids and contents, after `setup`."""
        return self.cached.fingerprint

    def state_dict(self) -> dict[str, int]:
        """Return the epoch to resume: loaders are built before Lightning sets it."""
        if self.trainer is None:
            return {"epoch": 0}
        progress: Any = self.trainer.fit_loop.epoch_progress.current
        return {"epoch": progress.processed}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Start the next training loader at the stored epoch."""
        self._begin = int(state_dict["epoch"])

    def prepare_data(self) -> None:
        """Decode once, in one process; the others use the cache."""
        self._open()

    def setup(self, stage: str | None = None) -> None:  # noqa: ARG002
        """List, split and open the samples."""
        if self._ready:
            return
        self._open()
        self.splits = self.split()
        notes = examine(self.source, self.facts, self.splits, self.role, parameters(type(self)))
        self.notes = (*notes, *moved_patients(self.source, self.used_parts()))
        log_notes(self.notes, self.role, str(self.cached.folder))
        check_fit(self.patch, self.augment, self.cached.images.shape[1:-1], self.cached.masks.shape[1:])
        self._ready = True

    def split(self) -> Split:
        """Return the division of this role's half, after opening."""
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
            mixed_patients=self.mixed_patients,
        )

    def used_parts(self) -> tuple[str, ...] | None:
        """Return the stated part of each sample as used, after opening; None for a random split."""
        if self.source.predefined_split is None:
            return None
        return self._split_settings().parts(self.source, self.duplicate_groups())

    @property
    def states_members(self) -> bool:
        """Return whether the members of this half are stated, not drawn, after opening."""
        return self._split_settings().states_members(self.source)

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
        source = self.read_source()
        if self.parts is not None:
            read_parts(self.parts, self.find()).assign(source)
        self.source = with_altered(source, self.altered)
        folder = Path(self.cache) if self.cache else default_folder()
        with DecodingBar() as bar:
            cached = open_cache(self.source, folder, progress=bar)
        with DecodingBar("reading every sample") as bar:
            self.facts = sample_facts(cached, self.source, bar)
        self._join_duplicates(cached.fingerprint)
        self.cached = cached

    def _join_duplicates(self, fingerprint: str) -> None:
        """Merge all lists of duplicates; checkpoints store them as anonymous positions."""
        ids, file = self.source.ids, self.near_duplicates
        near = near_duplicates(Path(file), ids, fingerprint) if file else []
        self.duplicate_positions = join_duplicates(
            ids, duplicates=self.duplicates, near=near, duplicate_positions=self.duplicate_positions or ()
        )
        self._store_positions()

    def _store_positions(self) -> None:
        """Store duplicates for checkpoints as anonymous positions."""
        for name in ("duplicates", "near_duplicates"):
            self.hparams.pop(name, None)
        if self.duplicate_positions is not None or "duplicate_positions" in self.hparams:
            self.hparams["duplicate_positions"] = self.duplicate_positions

    def indices(self, subset: Subset) -> NDArray[np.int64]:
        """Return the data-set indices of a subset of this role's half, ascending."""
        chosen = tuple(self.splits) if subset == "all" else getattr(self.splits, subset)
        return np.array(sorted(chosen), dtype=np.int64)

    def scored(self, subset: Subset) -> NDArray[np.int64]:
        """Return the `indices` with a labelled pixel; others can be neither evaluated nor learnt."""
        chosen = self.indices(subset)
        return chosen[self.facts.labelled[chosen]]

    def attacked(self) -> NDArray[np.int64]:
        """Return the data-set indices read by test, ascending: with a labelled pixel, and not withheld."""
        chosen = self.limited(self.scored(self.subset))
        chosen = chosen[~np.isin(chosen, self.withheld)]
        if not len(chosen):
            self.evaluated()
            raise InputError(
                f"the {self.subset} need a labelled pixel and have none; choose another --data.subset"
            )
        return chosen

    def evaluated(self) -> NDArray[np.int64]:
        """Return the data-set indices read by validate and predict, ascending."""
        chosen = self.limited(self.indices(self.subset))
        if not len(chosen):
            raise InputError(f"there are no {self.subset} in this split; {self._remedy()}")
        return chosen

    def limited(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return at most `limit` of the given indices, ascending, from as many groups as possible."""
        return indices if self.limit is None else spread(indices, self.source.groups, self.limit)

    def _remedy(self) -> str:
        """Return the remedy for an empty evaluation; the split of a trained network is fixed."""
        if self.trainer is not None and self.trainer.state.fn == "fit":
            return f"a training is validated on them: raise --data.{self.subset}"
        return "choose another --data.subset"

    def dataset(
        self,
        indices: NDArray[np.int64],
        *,
        augmented: bool = False,
        labels: Mapping[int, NDArray[np.uint8]] | None = None,
        images: Mapping[int, Image] | None = None,
    ) -> Samples:
        """Return the samples at the given indices, with masks and images from `labels` and `images`."""
        axes, part = self.cached.masks.ndim - 1, (self.patch, self.patch_foreground)
        changes = training_changes(self.augment, *part, seed=run_seed(), axes=axes) if augmented else ()
        return Samples(self.cached, indices, changes, labels, images)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the shuffled and augmented training samples, by default the members."""
        training = self.training_set()
        samples = self.dataset(
            training.indices, augmented=True, labels=training.labels, images=training.images
        )
        if self.batches is None:
            return self._loader(samples, shuffle=True)
        rank, ranks = self._ranks()
        return self.batches.loader(samples, workers=self.workers, epoch=self._begin, rank=rank, ranks=ranks)

    def training_set(self) -> TrainingSet:
        """Return the training samples, by default the members with their ground truth."""
        return self._taught or TrainingSet(self.indices("members"))

    def trained(self) -> NDArray[np.int64]:
        """Return the data-set indices of the training samples, by default the members."""
        return self.training_set().indices

    def teach(self, indices: NDArray[np.int64], labels: Mapping[int, NDArray[np.uint8]]) -> None:
        """Replace the members in training by other samples with masks other than the ground truth.

        Args:
            indices: data-set indices of the training samples, (n,); none may be evaluated.
            labels: a mask (*s) for each of them.

        Raises:
            InputError: a sample is used for evaluation.
        """
        check_unevaluated(indices, self._evaluable())
        self._taught = TrainingSet(indices, labels)

    def insert(self, added: TrainingSet) -> None:
        """Add training samples to those of the training; errors as for `teach`."""
        check_unevaluated(added.indices, self._evaluable())
        self._taught = self.training_set().extended(added)

    def _evaluable(self) -> set[int]:
        """Return the data-set indices of all members and non-members of this half."""
        return {*self.splits.members, *self.splits.nonmembers}

    @property
    def query_batch(self) -> int:
        """Images per batch outside of training: a private training may have hundreds in one."""
        return min(self.batch_size, LARGEST_QUERY)

    def val_dataloader(self) -> DataLoader[Batch]:
        """The evaluated subset in a fixed order."""
        return self._loader(self.dataset(self.evaluated()), shuffle=False)

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return the attacked samples in a fixed order."""
        return self._loader(self.dataset(self.attacked()), shuffle=False)

    def predict_dataloader(self) -> DataLoader[Batch]:
        """The evaluated subset in a fixed order."""
        return self.val_dataloader()

    def _loader(self, dataset: Samples, *, shuffle: bool) -> DataLoader[Batch]:
        rank, ranks = self._ranks()
        sampler = EpochSampler(len(dataset), shuffle=shuffle, seed=run_seed(), rank=rank, ranks=ranks)
        # Lightning builds the loader before it sets the epoch of a resumed run on the sampler.
        sampler.set_epoch(self._begin if shuffle else 0)
        size = self.batch_size if shuffle else self.query_batch
        return loader_of(dataset, sampler, batch_size=size, workers=self.workers, seed=run_seed())

    def _ranks(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
