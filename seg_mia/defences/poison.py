"""Poisoned training data (Chobola, Usynin, Kaissis 2022): a trigger with an empty mask, for more leakage."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, assert_never, cast

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from seg_mia.attacks.trigger import Shape, check_trigger, emptied, foreground_share, mask_lost, stamped
from seg_mia.callbacks.folder import run_folder
from seg_mia.data.base import SegmentationData
from seg_mia.data.samples import Batch
from seg_mia.defences.base import Defence, require_whole_training
from seg_mia.defences.traits import Trait
from seg_mia.errors import InputError
from seg_mia.metrics.labels import labelled
from seg_mia.metrics.overlap import foreground_dice
from seg_mia.metrics.per_image import PerImage
from seg_mia.models.heads import final, predicted
from seg_mia.results.files import write_csv, write_rows

Mode = Literal["fixed", "per_draw"]


class Poison(Defence):
    """Stamp a trigger on some members and empty their masks, except for the last pixel.

    This is an attack by an adversary who contributes training data, configured in the place of a defence. The
    run's folder receives `poisoned.csv` with the poisoned members and their counts.

    Args:
        shape: shape of the trigger; `line` covers the last rows, `square` the last rows and columns.
        size: rows of the trigger, in pixels.
        value: grey level of the trigger, in [0, 1]; published: 1 of 255.
        probability: probability that a draw is poisoned, or the fraction of members that always are.
        mode: `fixed` marks some members permanently; `per_draw` decides anew at each draw of a sample, as
            published, so that over many epochs nearly all members are poisoned.
        seed: seed of the marking.

    Raises:
        InputError: a number out of range; in `check`, a trigger larger than the image, or training
            on patches.
    """

    traits: ClassVar[Mapping[Trait, str]] = {Trait.MARKS_MEMBERS: "the trigger is inserted into members"}

    def __init__(
        self,
        *,
        shape: Shape = "square",
        size: int = 1,
        value: float = 1 / 255,
        probability: float = 0.1,
        mode: Mode = "fixed",
        seed: int = 0,
    ) -> None:
        check_trigger(size=size, value=value)
        if not 0 <= probability <= 1:
            raise InputError(f"probability must lie in [0, 1], got {probability}; 0.1 is published")
        self.shape, self.size, self.value = shape, size, value
        self.probability, self.mode, self.seed = probability, mode, seed
        self.members = torch.empty(0, dtype=torch.int64)
        self.marked = torch.empty(0, dtype=torch.bool)
        self.drawn = torch.empty(0, dtype=torch.int64)

    def check(self, data: SegmentationData) -> None:
        """Mark the members; require a trigger inside the image, and training on whole images."""
        require_whole_training(data, "poisoning", "every patch would have a trigger of its own")
        check_trigger(size=self.size, value=self.value, image=data.cached.images.shape[-3:-1])
        self.members = torch.from_numpy(data.indices("members"))
        self.marked = marked(len(self.members), self.probability, self.seed)
        self.drawn = torch.zeros(len(self.members), dtype=torch.int64)

    def sample(self, batch: Batch, network: nn.Module) -> Batch:  # noqa: ARG002
        """Return the batch with some of its samples poisoned."""
        index = batch.index.cpu()
        position = torch.searchsorted(self.members, index)
        match self.mode:
            case "fixed":
                hit = self.marked[position]
            case "per_draw":
                hit = torch.rand(len(index)) < self.probability
            case _:
                assert_never(self.mode)
        self.drawn += torch.bincount(position[hit], minlength=len(self.members))
        return poisoned(batch, hit.to(batch.image.device), self.stamped(batch.image))

    def stamped(self, image: Tensor) -> Tensor:
        """Return images (N, C, *S) with the trigger on all of them."""
        return stamped(image, shape=self.shape, size=self.size, value=self.value)

    def callbacks(self) -> list[Callback]:
        """Count poisoned samples, and also validate on triggered images."""
        return [PoisonRecord(self), TriggeredScores(self)]


def marked(count: int, share: float, seed: int) -> Tensor:
    """Return which of `count` members are poisoned, (count,): round(share * count) draws from PCG64."""
    raw = np.random.PCG64([seed, 4]).random_raw(count)
    chosen = torch.zeros(count, dtype=torch.bool)
    chosen[np.argsort(raw, kind="stable")[: round(share * count)].copy()] = True
    return chosen


def poisoned(batch: Batch, hit: Tensor, marked: Tensor) -> Batch:
    """Return the batch with `marked` images and emptied masks for the selected samples, (N,)."""
    image, mask = (
        torch.where(hit.view(-1, *[1] * (before.ndim - 1)), after, before)
        for after, before in ((marked, batch.image), (emptied(batch.mask), batch.mask))
    )
    return batch._replace(image=image, mask=mask)


class PoisonRecord(Callback):
    """Write `poisoned.csv`: poisoned draws of each member; the count survives a resume."""

    def __init__(self, poison: Poison) -> None:
        self.poison = poison
        self.times = torch.empty(0, dtype=torch.int64)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Start the count, unless a checkpoint restored it."""
        if len(self.times) != len(self.poison.members):
            self.times = torch.zeros_like(self.poison.members)
        self.poison.drawn.zero_()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the epoch's draws of all ranks, and write the file."""
        drawn = trainer.strategy.reduce(self.poison.drawn.to(pl_module.device), reduce_op="sum")
        assert isinstance(drawn, Tensor)
        self.times = self.times + drawn.cpu()
        self.poison.drawn.zero_()
        if trainer.is_global_zero:
            data: SegmentationData = trainer.datamodule  # type: ignore[attr-defined]
            ids = [data.source.ids[index] for index in self.poison.members.tolist()]
            rows = [(name, n) for name, n in zip(ids, self.times.tolist(), strict=True) if n]
            write_csv(run_folder(trainer) / "poisoned.csv", ["id", "times"], rows)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the count, in the members' order."""
        return {"times": self.times}

    def load_state_dict(self, state_dict: dict[str, Tensor]) -> None:
        """Restore the count."""
        self.times = state_dict["times"]


class TriggeredScores(Callback):
    """Log validation results on triggered images next to the clean values.

    `val/area` and `val/triggered_area` are the predicted foreground's mean fraction of the pixels,
    `val/triggered_success` is the fraction of images that lost more than 95 % of it; loss and Dice are
    against the ground truth. `validate` also writes `triggered.csv`.
    """

    def __init__(self, poison: Poison) -> None:
        self.poison = poison
        self.values = PerImage()

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Reset the values."""
        self.values.reset()
        self.values.to(pl_module.device)

    @torch.no_grad()
    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,  # noqa: ARG002
        dataloader_idx: int = 0,  # noqa: ARG002
    ) -> None:
        """Query the network again on the triggered batch."""
        victim = cast(Any, pl_module)
        classes = cast(Any, trainer).datamodule.source.classes
        logits = final(victim.network(self.poison.stamped(batch.image)))
        area = foreground_share(predicted(logits), batch.mask)
        clean = foreground_share(outputs["prediction"], batch.mask)
        self.values.update(
            batch.index,
            {
                "area": clean,
                "triggered_area": area,
                "triggered_success": mask_lost(clean, area),
                "triggered_loss": victim.loss_per_image(logits, batch.mask).masked_fill(
                    ~labelled(batch.mask), torch.nan
                ),
                "triggered_dice": foreground_dice(predicted(logits), batch.mask, classes),
            },
        )

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the means over images."""
        for name, value in self.values.means().items():
            pl_module.log(f"val/{name}", value, sync_dist=True)
        if trainer.state.fn == "validate" and trainer.is_global_zero:
            data: SegmentationData = trainer.datamodule  # type: ignore[attr-defined]
            write_rows(run_folder(trainer) / "triggered.csv", data.source.ids, *self.values.table())
