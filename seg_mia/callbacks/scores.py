"""Per-image Dice, IoU and loss, collected into means and tables."""

import math
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from seg_mia.callbacks.folder import run_folder
from seg_mia.data.base import SegmentationData
from seg_mia.data.samples import Batch
from seg_mia.metrics.overlap import (
    foreground_dice,
    foreground_dice_per_class,
    foreground_iou,
    foreground_names,
    pixel_accuracy,
)
from seg_mia.metrics.per_image import PerImage
from seg_mia.results.files import write_json, write_rows


def measures(output: Mapping[str, Tensor], mask: Tensor, classes: int) -> dict[str, Tensor]:
    """Return per-image metrics (N,): Dice and IoU over the foreground, Dice per class or label."""
    prediction = output["prediction"]
    values = {
        "dice": foreground_dice(prediction, mask, classes),
        "iou": foreground_iou(prediction, mask, classes),
        "pixel_accuracy": pixel_accuracy(prediction, mask, classes),
    }
    if classes > 2:
        per_class = foreground_dice_per_class(prediction, mask, classes).unbind(1)
        values |= {
            f"dice_{name}": value for name, value in zip(foreground_names(classes), per_class, strict=True)
        }
    return values


class Scores(Callback):
    """Log mean metrics of training and validation; outside training also write per-image values.

    Images without a labelled pixel have no values and are excluded from means; `undefined` is their number.
    """

    def __init__(self) -> None:
        self.train, self.val = PerImage(), PerImage()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Begin anew."""
        self.train.reset()
        self.train.to(pl_module.device)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """Log the batch loss, unless Poisson sampling drew an empty batch, and store its scores."""
        if len(outputs["losses"]):
            pl_module.log("train/loss_step", outputs["loss"].detach(), prog_bar=True)
        self.train.update(batch.index, _values(outputs, trainer))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Log the means over training samples: the members, unless modified by defences."""
        for name, value in self.train.means().items():  # asked on every rank, whatever each has seen
            if not math.isnan(value):
                pl_module.log(f"train/{name}", value, sync_dist=True)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Begin anew."""
        self.val.reset()
        self.val.to(pl_module.device)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,  # noqa: ARG002
        outputs: Any,
        batch: Batch,
        batch_idx: int,  # noqa: ARG002
        dataloader_idx: int = 0,  # noqa: ARG002
    ) -> None:
        """Keep the batch's scores."""
        self.val.update(batch.index, _values(outputs, trainer))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the means over images, and write the table outside training."""
        for name, value in self.val.means().items():
            pl_module.log(f"val/{name}", value, prog_bar=name == "dice", sync_dist=True)
        if trainer.state.fn == "validate" and trainer.is_global_zero:
            data: SegmentationData = trainer.datamodule  # type: ignore[attr-defined]
            index, values = self.val.table()
            undefined = int(values["dice"].isnan().sum())
            counts = {"images": len(index), "undefined": undefined}
            write_rows(run_folder(trainer) / "per_image.csv", data.source.ids, index, values)
            write_json(run_folder(trainer) / "summary.json", {**counts, **self.val.means()})


def _values(outputs: Mapping[str, Tensor], trainer: Trainer) -> dict[str, Tensor]:
    data: SegmentationData = trainer.datamodule  # type: ignore[attr-defined]
    return {"loss": outputs["losses"], **measures(outputs, outputs["mask"], data.source.classes)}
