"""Measures and pictures of a test's images, collected batch by batch."""

from abc import abstractmethod
from collections.abc import Collection
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from seg_mia.data.base import SegmentationData
from seg_mia.data.samples import Batch
from seg_mia.metrics.per_image import PerImage
from seg_mia.results.orthogonal import OrthogonalSlices
from seg_mia.results.perturbation import AttackedData
from seg_mia.results.pictures import Tile


class ImageResults(Callback):
    """Collect a test's results on each image, and the first images as rows of pictures.

    Args:
        images: number of images shown.

    Attributes:
        measures: measures of each image.
        rows: pictures of the shown images.
        names: ids of the shown images.
    """

    def __init__(self, images: int) -> None:
        self.images, self.measures = images, PerImage()
        self.rows: list[list[Tile]] = []
        self.names: list[str] = []

    @abstractmethod
    def collect(self, output: Any, batch: Batch, ids: list[str], trainer: Trainer) -> None:
        """Add the results of a batch.

        Args:
            output: of the task's test step.
            batch: the images.
            ids: of the images.
            trainer: the test's trainer.
        """

    @abstractmethod
    def tiles(self, output: Any, batch: Batch, row: int, shown: OrthogonalSlices) -> list[Tile]:
        """Return the pictures of one of a batch's images, of volumes by the slices that are shown."""

    def show_first(self, output: Any, batch: Batch, candidates: Collection[int], trainer: Trainer) -> None:
        """Add pictures of a batch's candidates, as far as images are still to be shown."""
        data: SegmentationData = trainer.datamodule  # type: ignore[attr-defined]
        for row in list(candidates)[: self.images - len(self.rows)]:
            index = int(batch.index[row])
            shown = OrthogonalSlices(batch.mask[row], data.source.spacing(index))
            self.names.append(data.source.ids[index])
            self.rows.append(self.tiles(output, batch, row, shown))

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Collect results on the victim's device."""
        self.measures.to(pl_module.device)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,  # noqa: ARG002
        outputs: Any,
        batch: Batch,
        batch_idx: int,  # noqa: ARG002
        dataloader_idx: int = 0,  # noqa: ARG002
    ) -> None:
        """Store metrics and the first images."""
        data: SegmentationData = trainer.datamodule  # type: ignore[attr-defined]
        self.collect(outputs, batch, [data.source.ids[int(index)] for index in batch.index], trainer)


def attacked_data(data: SegmentationData) -> AttackedData:
    """Return the data of a test, for its summary."""
    return AttackedData(fingerprint=data.fingerprint, subset=data.subset, role=data.role)


def undefined_count(data: SegmentationData) -> int:
    """Return the number of a subset's samples without a labelled pixel, which are not evaluated."""
    return len(data.indices(data.subset)) - len(data.scored(data.subset))
