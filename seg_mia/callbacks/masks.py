"""Predicted masks as files."""

from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer

from seg_mia.callbacks.folder import run_folder
from seg_mia.data.base import SegmentationData
from seg_mia.data.samples import Batch
from seg_mia.results.files import file_name, write_bytes
from seg_mia.results.pictures import png


class MaskWriter(Callback):
    """Write `masks/ID.png`: 0 and 255 for a binary victim, class ids for several classes.

    Of labels that may overlap, masks are sets: bit k, of value 2^k, is 1 where the pixel has label k, counted
    from 0; a single label is 0 and 255.
    Masks of volumes are `masks/ID.npy`, (D, H, W) uint8, on the grid of the samples.
    """

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,  # noqa: ARG002
        outputs: Any,
        batch: Batch,
        batch_idx: int,  # noqa: ARG002
        dataloader_idx: int = 0,  # noqa: ARG002
    ) -> None:
        """Write one batch."""
        data: SegmentationData = trainer.datamodule  # type: ignore[attr-defined]
        folder = run_folder(trainer) / "masks"
        folder.mkdir(parents=True, exist_ok=True)
        white = 255 if data.source.classes == 2 else 1
        for index, mask in zip(batch.index.tolist(), outputs["prediction"].cpu().numpy(), strict=True):
            name = file_name(data.source.ids[index])
            values = (mask * white).astype(np.uint8)
            if values.ndim == 2:
                write_bytes(folder / f"{name}.png", png(values))
            else:
                np.save(folder / f"{name}.npy", values)
