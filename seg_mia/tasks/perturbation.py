"""Running one attack on one victim."""

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from seg_mia.attacks.base import Perturbation
from seg_mia.callbacks.outputs import AttackOutput
from seg_mia.data.base import Batch, SegmentationData
from seg_mia.metrics.distance import l2_norm, linf_norm, rounded
from seg_mia.metrics.overlap import foreground_dice, foreground_iou, mean_iou, pixel_accuracy
from seg_mia.metrics.structure import ssim
from seg_mia.models.heads import class_count, final, predicted
from seg_mia.tasks.segmentation import try_one
from seg_mia.tasks.targets import TargetMasks


class PerturbationTest(LightningModule):
    """Perturb each image of the test loader and measure what the victim then predicts.

    Args:
        victim: the attacked network, images in [0, 1] to logits.
        attack: the attack.
    """

    def __init__(self, victim: nn.Module, attack: Perturbation) -> None:
        super().__init__()
        self.victim = victim
        self.attack = attack

    def on_test_start(self) -> None:
        """Choose the targets among the tested samples' masks."""
        data: SegmentationData = self.trainer.datamodule  # type: ignore[attr-defined]
        try_one(self.victim, data)
        self.targets = TargetMasks(self.attack, data)

    def test_step(self, batch: Batch, batch_idx: int) -> AttackOutput:  # noqa: ARG002
        """Attack one batch; measure in full precision whatever precision the attack ran in."""
        target = self.targets(batch)
        adversarial = self.attack(self.victim, batch.image, target)
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            clean, after, coarse = (
                final(self.victim(images))
                for images in (batch.image, adversarial.images, rounded(adversarial.images))
            )
        classes = class_count(clean)
        before, then = predicted(clean), predicted(after)
        measures = {
            **against_truth(batch.mask, clean=before, prediction=then, classes=classes),
            **against_target(
                target, clean=before, prediction=then, coarse=predicted(coarse), classes=classes
            ),
            **distortion(batch.image, adversarial.images),
        }
        return {
            "target": target,
            "clean": before,
            "prediction": then,
            "adversarial": adversarial,
            "measures": measures,
        }


def against_truth(mask: Tensor, *, clean: Tensor, prediction: Tensor, classes: int) -> dict[str, Tensor]:
    """Return the victim's foreground Dice before and after."""
    return {
        "dice_clean": foreground_dice(clean, mask, classes),
        "dice_adversarial": foreground_dice(prediction, mask, classes),
    }


def against_target(
    target: Tensor, *, clean: Tensor, prediction: Tensor, coarse: Tensor, classes: int
) -> dict[str, Tensor]:
    """Return the overlap with the mask asked for: before, after, and after rounding the image to 8 bits."""
    return {
        "iou_before": foreground_iou(clean, target, classes),
        "iou": foreground_iou(prediction, target, classes),
        "iou_8bit": foreground_iou(coarse, target, classes),
        "mean_iou": mean_iou(prediction, target, classes),
        "pixel_accuracy": pixel_accuracy(prediction, target, classes),
    }


def distortion(image: Tensor, adversarial: Tensor) -> dict[str, Tensor]:
    """Return how far the image moved."""
    change = adversarial - image
    return {"l2": l2_norm(change), "linf": linf_norm(change), "ssim": ssim(adversarial, image)}
