"""Image panels in TensorBoard while a network trains."""

from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from numpy.typing import NDArray

from seg_mia.callbacks.folder import run_folder
from seg_mia.data.base import SegmentationData
from seg_mia.data.samples import Batch
from seg_mia.metrics.overlap import foreground_dice
from seg_mia.results.files import write_bytes
from seg_mia.results.orthogonal import OrthogonalSlices
from seg_mia.results.pictures import Tile, draw, overlay, picture, png


class Panels(Callback):
    """Show the first images of the evaluated subset: image, ground truth, prediction.

    Args:
        count: number of images.
        every: epochs between two panels; the last planned epoch is always shown.
    """

    def __init__(self, count: int = 4, every: int = 5) -> None:
        self.count, self.every = count, every
        self.rows: list[list[Tile]] = []
        self.names: list[str] = []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,  # noqa: ARG002
        outputs: Any,
        batch: Batch,
        batch_idx: int,  # noqa: ARG002
        dataloader_idx: int = 0,  # noqa: ARG002
    ) -> None:
        """Keep the first images."""
        if not self._due(trainer):
            return
        data: SegmentationData = trainer.datamodule  # type: ignore[attr-defined]
        dice = foreground_dice(outputs["prediction"], batch.mask, data.source.classes)
        for row in range(min(len(batch.index), self.count - len(self.rows))):
            index = int(batch.index[row])
            shown = OrthogonalSlices(batch.mask[row], data.source.spacing(index))
            image, mask = shown(batch.image[row]), shown(batch.mask[row])
            self.names.append(data.source.ids[index])
            self.rows.append(
                [
                    Tile(picture(image)),
                    Tile(overlay(image, mask)),
                    Tile(
                        overlay(image, shown(outputs["prediction"][row])),
                        "not labelled" if dice[row].isnan() else f"Dice {dice[row]:.2f}",
                    ),
                ]
            )

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Send the sheet to TensorBoard; `validate` writes it as a file too."""
        if self.rows and trainer.is_global_zero:
            sheet = draw(["image", "truth", "prediction"], self.rows, self.names)
            show(trainer, "val/panel", sheet, trainer.current_epoch)
            if trainer.state.fn == "validate":
                write_bytes(run_folder(trainer) / "panel.png", png(sheet))
        self.rows, self.names = [], []

    def _due(self, trainer: Trainer) -> bool:
        last = trainer.max_epochs is not None and trainer.current_epoch + 1 >= trainer.max_epochs
        return not trainer.sanity_checking and (
            trainer.state.fn == "validate" or last or trainer.current_epoch % self.every == 0
        )


def show(trainer: Trainer, tag: str, pixels: NDArray[np.uint8], step: int) -> None:
    """Add an image (H, W, 3) to every TensorBoard logger of the run."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(tag, pixels, step, dataformats="HWC")
