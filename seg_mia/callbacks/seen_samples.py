"""Record of members used in training; a limit on steps may exclude some."""

import logging
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from seg_mia.data.base import SegmentationData
from seg_mia.data.samples import Batch
from seg_mia.errors import InputError

log = logging.getLogger(__name__)

UNSEEN = "unseen"
"""Where a card's split lists the members that were never trained on, by their places among the sorted ids."""


class SeenSamples(Callback):
    """Record of samples used in training steps, over all ranks and resumed runs.

    Attributes:
        seen: bool (n,) over the data set; None before training.
    """

    def __init__(self) -> None:
        self.seen: Tensor | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start an empty record, unless restored from a checkpoint."""
        data: SegmentationData = trainer.datamodule  # type: ignore[attr-defined]
        if self.seen is None:
            self.seen = torch.zeros(len(data.source), dtype=torch.bool)
        self.seen = self.seen.to(pl_module.device)

    def on_train_batch_end(
        self,
        trainer: Trainer,  # noqa: ARG002
        pl_module: LightningModule,  # noqa: ARG002
        outputs: Any,  # noqa: ARG002
        batch: Batch,
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """Record the samples of the batch."""
        assert self.seen is not None
        self.seen[batch.index] = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Merge the records of all ranks before checkpoints are written."""
        assert self.seen is not None
        self.seen = trainer.strategy.reduce(self.seen.long(), reduce_op="sum") > 0

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Log the number of unused members."""
        data: SegmentationData = trainer.datamodule  # type: ignore[attr-defined]
        missing = self.unseen(data)
        if missing and trainer.is_global_zero:
            log.warning(
                "%d of %d members were never trained on, because training ended early (--trainer.max_steps, "
                "max_time, limit_train_batches): they count neither as members nor as non-members",
                len(missing),
                len(data.splits.members),
            )

    def unseen(self, data: SegmentationData) -> list[int] | None:
        """Return the places among the sorted ids of members that no step was given; None without a training.

        Where Poisson sampling draws the batches everyone who may be drawn is a member, as its promise has it;
        where others than the members are taught, those are that their teacher has not seen.
        """
        if self.seen is None:
            return None
        missing = set(data.untrained)
        if data.batches is None:
            taught = set(data.trained().tolist())
            missing |= {i for i in data.splits.members if i in taught and not self.seen[i]}
        positions = {name: position for position, name in enumerate(sorted(data.source.ids))}
        return sorted(positions[data.source.ids[i]] for i in missing)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the record."""
        return {} if self.seen is None else {"seen": self.seen.cpu()}

    def load_state_dict(self, state_dict: dict[str, Tensor]) -> None:
        """Restore the record."""
        self.seen = state_dict.get("seen")


def unseen_members(split: Mapping[str, object], data: SegmentationData) -> tuple[int, ...]:
    """Return the members listed as unused in checkpoint metadata, as data-set indices.

    Raises:
        InputError: positions that are not members of this data.
    """
    stored = split.get(UNSEEN) or []
    positions: list[Any] = stored if isinstance(stored, list) else [stored]
    ids = data.source.ids
    order = sorted(range(len(ids)), key=ids.__getitem__)
    try:
        unseen = tuple(order[position] for position in positions if position >= 0)
    except (IndexError, TypeError):
        unseen = ()
    if len(unseen) != len(positions) or not set(unseen) <= set(data.splits.members):
        raise InputError(
            "samples never trained on, as listed in the checkpoint's card, must be members of this data, got "
            "others; set --data.root to the original, unchanged files, or train again"
        )
    return unseen
