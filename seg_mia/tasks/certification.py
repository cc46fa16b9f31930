"""Certification of a victim's predictions by randomised smoothing."""

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from seg_mia.attacks.certify import Certificate, Certification
from seg_mia.callbacks.outputs import CertificateOutput
from seg_mia.data.base import SegmentationData
from seg_mia.data.samples import Batch
from seg_mia.errors import InputError
from seg_mia.metrics.certificates import (
    abstained,
    certified_correct,
    certified_dice,
    foreground_certified_dice,
    information,
)
from seg_mia.metrics.labels import IGNORE
from seg_mia.metrics.overlap import foreground_dice, foreground_names
from seg_mia.models.heads import class_count, final, predicted
from seg_mia.models.prompts import prompts_from
from seg_mia.models.smoothing import SmoothedNetwork
from seg_mia.tasks.sample_check import check_one_sample


class CertificationTest(LightningModule):
    """Certify each test image.

    Args:
        victim: victim model, from images in [0, 1] to logits.
        certification: the settings.

    Raises:
        InputError: a victim that is smoothed already.
    """

    def __init__(self, victim: nn.Module, certification: Certification) -> None:
        super().__init__()
        if isinstance(victim, SmoothedNetwork):
            raise InputError("certify adds the noise itself, got --release smoothed with it; leave it out")
        self.victim, self.certification = victim, certification
        self.classes: int | None = None

    def setup(self, stage: str) -> None:  # noqa: ARG002
        """Raise InputError if there is no image: Lightning would finish silently."""
        if self.trainer.limit_test_batches == 0:
            raise InputError(
                "certify needs images, got none from --trainer.limit_test_batches 0; leave it out"
            )

    def on_test_start(self) -> None:
        """Run one sample."""
        data: SegmentationData = self.trainer.datamodule  # type: ignore[attr-defined]
        check_one_sample(self.victim, data)
        self.classes = data.source.classes

    def test_step(self, batch: Batch, batch_idx: int) -> CertificateOutput:  # noqa: ARG002
        """Certify one batch."""
        with torch.autocast(self.device.type, enabled=False):
            certificate = self.certification.run(self.victim, batch.image, batch.mask)
            with torch.no_grad(), prompts_from(batch.mask):
                logits = final(self.victim(batch.image))
        return {
            "certificate": certificate,
            "measures": measures(
                certificate,
                batch.mask,
                clean=predicted(logits),
                classes=class_count(logits) if self.classes is None else self.classes,
                grouped=bool(self.certification.settings["groups"]),
            ),
        }


def measures(
    certificate: Certificate, mask: Tensor, *, clean: Tensor, classes: int, grouped: bool
) -> dict[str, Tensor]:
    """Return a certificate's measures of each image, (N,).

    Args:
        certificate: of N images.
        mask: true masks (N, *S).
        clean: predictions without noise, (N, *S).
        classes: number of classes.
        grouped: whether groups of classes may be certified.
    """
    possible, unsure, valid = certificate.possible, abstained(certificate.possible), mask != IGNORE
    values = {
        "dice_clean": foreground_dice(clean, mask, classes),
        "dice_smoothed": foreground_dice(certificate.prediction, mask, classes),
        "dice_certified": certified_dice(possible, mask, classes),
        "certified_correct": certified_correct(possible, mask),
        "abstained": _share(unsure, valid),
        "abstained_foreground": _share(unsure, valid & (mask > 0)),
    }
    if classes > 2:
        per_class = foreground_certified_dice(possible, mask, classes).unbind(1)
        names = foreground_names(classes)
        values |= {f"dice_certified_{name}": dice for name, dice in zip(names, per_class, strict=True)}
    if grouped:
        values["information"] = information(possible, mask)
    return values


def _share(chosen: Tensor, among: Tensor) -> Tensor:
    """Return the share of some pixels, (N,); NaN where there are none."""
    return (chosen & among).flatten(1).sum(1).double() / among.flatten(1).sum(1)
