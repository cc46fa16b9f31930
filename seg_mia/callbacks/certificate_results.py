"""Result files and pictures of a certification, in the victim's folder."""

from collections.abc import Mapping, Sequence

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from seg_mia.attacks.certify import Certification
from seg_mia.callbacks.folder import run_folder
from seg_mia.callbacks.image_results import ImageResults, attacked_data, undefined_count
from seg_mia.callbacks.outputs import CertificateOutput
from seg_mia.callbacks.panels import show
from seg_mia.data.base import SegmentationData
from seg_mia.data.samples import Batch
from seg_mia.metrics.certificates import needed, radius
from seg_mia.results.averages import average
from seg_mia.results.certificate import CertificateSummary
from seg_mia.results.files import write_bytes, write_json, write_rows
from seg_mia.results.orthogonal import OrthogonalSlices
from seg_mia.results.pictures import Tile, certified_overlay, draw, overlay, picture, png

TITLES = ("image", "truth", "smoothed prediction", "certified; magenta: no single class")


class CertificateResults(ImageResults):
    """Write `per_image.csv`, `summary.json` and `panel.png`, and show them in TensorBoard.

    Args:
        certification: the settings, as built.
        settings: the same as plain values, for the summary.
        attacker_knowledge: of the attackers that it holds against.
        victim: certified checkpoint, for the summary.
        images: number of images in the panel.
    """

    def __init__(
        self,
        certification: Certification,
        *,
        settings: Mapping[str, object],
        attacker_knowledge: str,
        victim: str,
        images: int = 8,
    ) -> None:
        super().__init__(images)
        self.options, self.settings = certification.settings, settings
        self.attacker_knowledge, self.victim = attacker_knowledge, victim
        self.summary: CertificateSummary | None = None

    def collect(self, output: CertificateOutput, batch: Batch, ids: list[str], trainer: Trainer) -> None:
        """Store metrics and the first images."""
        self.measures.update(batch.index, output["measures"])
        self.show_first(output, batch, range(len(ids)), trainer)

    def tiles(self, output: CertificateOutput, batch: Batch, row: int, shown: OrthogonalSlices) -> list[Tile]:
        """Return an image, its truth, the smoothed prediction and what is certified."""
        image, mask = shown(batch.image[row]), shown(batch.mask[row])
        certificate, measures = output["certificate"], output["measures"]
        possible, prediction = shown(certificate.possible[row]), shown(certificate.prediction[row])
        sure = possible.int().argmax(0)
        unsure = possible.sum(0) > 1
        return [
            Tile(picture(image)),
            Tile(overlay(image, mask)),
            Tile(overlay(image, prediction), f"Dice {measures['dice_smoothed'][row]:.2f}"),
            Tile(
                certified_overlay(image, sure, unsure),
                f"Dice at least {measures['dice_certified'][row]:.2f}, "
                f"{measures['abstained'][row]:.0%} abstained",
            ),
        ]

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write everything."""
        data: SegmentationData = trainer.datamodule  # type: ignore[attr-defined]
        index, values = self.measures.table()
        means = {f"certificate/{name}": float(value.nanmean()) for name, value in values.items()}
        pl_module.log_dict(means, sync_dist=True)
        if not trainer.is_global_zero:
            return
        folder = run_folder(trainer)
        write_rows(folder / "per_image.csv", data.source.ids, index, values)
        self.summary = self._summary(data, index.tolist(), values)
        write_json(folder / "summary.json", self.summary.plain())
        sheet = draw(TITLES, self.rows, self.names)
        write_bytes(folder / "panel.png", png(sheet, self.names))
        show(trainer, "certificate/panel", sheet, 0)

    def _summary(
        self, data: SegmentationData, index: Sequence[int], values: Mapping[str, Tensor]
    ) -> CertificateSummary:
        options = self.options
        draws, tau, alpha = (options[name] for name in ("draws", "tau", "alpha"))
        pixels = int(data.cached.masks[0].size)
        return CertificateSummary(
            attack=dict(self.settings),
            attacker_knowledge=self.attacker_knowledge,
            victim=self.victim,
            data=attacked_data(data),
            images=len(index),
            units=len({data.source.groups[i] for i in index}),
            undefined=undefined_count(data),
            sigma=options["sigma"],
            radius=radius(options["sigma"], tau),
            alpha=alpha,
            draws=draws,
            needed=needed(draws, tau, alpha, pixels),
            passes=options["first"] + draws,
            results={name: average(value) for name, value in values.items()},
        )
