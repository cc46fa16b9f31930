"""Panels and export of texture auto-encoders during training."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from seg_mia.callbacks.folder import run_folder
from seg_mia.callbacks.panels import show
from seg_mia.data.base import SegmentationData
from seg_mia.data.samples import Batch
from seg_mia.metrics.similarity import ssim
from seg_mia.models.style_autoencoder import EXPORT, TextureAutoEncoders, save_texture
from seg_mia.results.files import write_bytes
from seg_mia.results.pictures import Tile, draw, picture, png


class TexturePanels(Callback):
    """Show the first held-out images and their reconstructions at each level.

    Args:
        count: number of images.
        every: least epochs between two panels; the last planned one is always shown.
    """

    def __init__(self, count: int = 4, every: int = 5) -> None:
        self.count, self.every = count, every
        self.next = 0

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,  # noqa: ARG002
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,  # noqa: ARG002
    ) -> None:
        """Draw the first batch's images."""
        last = trainer.max_epochs is not None and trainer.current_epoch + 1 >= trainer.max_epochs
        due = last or trainer.current_epoch >= self.next
        if batch_idx or trainer.sanity_checking or not trainer.is_global_zero or not due:
            return
        self.next = trainer.current_epoch + self.every
        data: SegmentationData = trainer.datamodule  # type: ignore[attr-defined]
        images = batch.image[: self.count]
        rows = [[Tile(picture(image))] for image in images]
        for reconstructed in outputs.values():
            reconstructions = reconstructed[: self.count].clamp(0, 1)
            likeness = ssim(reconstructions, images.expand_as(reconstructions))
            for row, image in enumerate(reconstructions):
                rows[row].append(Tile(picture(image), f"SSIM {likeness[row]:.2f}"))
        names = [data.source.ids[int(index)] for index in batch.index[: self.count]]
        sheet = draw(["image", *(f"level {level}" for level in outputs)], rows, names)
        show(trainer, "val/reconstructions", sheet, trainer.current_epoch)
        write_bytes(run_folder(trainer) / "reconstructions.png", png(sheet))


class TextureExport(Callback):
    """Write the pairs in the published layout when training ends, to `texture/` in the run's folder."""

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the ten files."""
        network = pl_module.network
        assert isinstance(network, TextureAutoEncoders)
        if trainer.is_global_zero:
            with torch.no_grad():
                save_texture(network, run_folder(trainer) / EXPORT)
