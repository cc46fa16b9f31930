"""Adversarial training (Madry et al. 2018; for segmentation Croce, Singh, Hein 2024, PIR-AT)."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from seg_mia.attacks.ball import check_ball, projected
from seg_mia.attacks.base import attack_mode, usable
from seg_mia.attacks.gradients import input_gradient
from seg_mia.data.samples import Batch
from seg_mia.defences.base import Defence
from seg_mia.defences.traits import Trait
from seg_mia.losses import cross_entropy_loss
from seg_mia.metrics.shapes import per_image
from seg_mia.models.heads import final
from seg_mia.models.stitched import Stitched


class AdversarialTraining(Defence):
    """Train on images perturbed against the network as it is at that step.

    Each image is moved by signed steps within a ball in L-infinity, from itself, to raise its mean
    cross-entropy; the iterate of highest loss is trained on. The network is in evaluation mode meanwhile:
    batch normalisation uses its running statistics, which the attack does not change, dropout is off, and an
    image's perturbation does not depend on its batch. The update then runs in training mode. Images are
    perturbed after all other defences have changed the batch. Each update costs `steps` input gradients and
    one forward pass more.

    Args:
        epsilon: radius of the ball, in grey levels of [0, 1].
        step_size: length of a step.
        steps: iterations; PIR-AT: 5, or 2 for less time.

    Raises:
        InputError: a number out of range.
    """

    traits: ClassVar[Mapping[Trait, str]] = {
        Trait.ALTERS_SAMPLES: "adversarial training shows perturbed images",
        Trait.NEEDS_RANGE: "adversarial training perturbs images within [0, 1]",
    }

    def __init__(self, *, epsilon: float = 4 / 255, step_size: float = 0.01, steps: int = 2) -> None:
        check_ball(epsilon, step_size, steps, "linf")
        self.epsilon, self.step_size, self.steps = epsilon, step_size, steps
        self.losses = torch.zeros(3, dtype=torch.float64)

    def perturb(self, batch: Batch, network: nn.Module) -> Batch:
        """Return the batch with every image perturbed."""
        image, before, after = strongest(
            network, batch, epsilon=self.epsilon, step_size=self.step_size, steps=self.steps
        )
        sums = torch.stack((before.sum(), after.sum(), before.new_tensor(len(before))))
        self.losses += sums.double().cpu()
        return batch._replace(image=image)

    def callbacks(self) -> list[Callback]:
        """Log the loss before and after the perturbation."""
        return [InnerAttack(self)]


def strongest(
    network: nn.Module, batch: Batch, *, epsilon: float, step_size: float, steps: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return each image's iterate of highest mean cross-entropy, and that loss before and after, (N,) each.

    Args:
        network: network in training mode, whose state is restored.
        batch: images (N, C, *S) in [0, 1], with their masks.
        epsilon: radius of the ball in L-infinity.
        step_size: length of a signed step.
        steps: iterations, from the image itself.
    """
    with attack_mode(network):
        for module in network.modules():
            if isinstance(module, Stitched):  # the images are the crops that the network is trained on
                module.training = True
        x, mask = usable(batch.image), usable(batch.mask)
        image = worst = x.clone()
        losses = []
        highest = x.new_full((len(x),), -torch.inf)
        for n in range(steps + 1):
            image = image.detach().requires_grad_(n < steps)
            values = cross_entropy_loss(final(network(image)), mask)
            losses.append(values.detach().to(highest))
            worst = torch.where(per_image(losses[-1] > highest, image), image.detach(), worst)
            highest = highest.maximum(losses[-1])
            if n < steps:
                gradient = input_gradient(values.sum(), image)
                image = projected(image.detach() + step_size * gradient.sign(), x, "linf", epsilon)
    return worst, losses[0], highest


class InnerAttack(Callback):
    """Log `adversarial/loss_clean` and `adversarial/loss`: mean cross-entropy before and after the attack."""

    def __init__(self, defence: AdversarialTraining) -> None:
        self.defence = defence

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Begin anew."""
        self.defence.losses.zero_()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ARG002
        batch: Batch,  # noqa: ARG002
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """Log the means over all ranks' images of the epoch, after its last batch."""
        if not trainer.is_last_batch:
            return
        sums = trainer.strategy.reduce(self.defence.losses.to(pl_module.device), reduce_op="sum")
        assert isinstance(sums, Tensor)
        before, after, count = sums.tolist()
        if count:
            for name, value in (("loss_clean", before / count), ("loss", after / count)):
                pl_module.log(f"adversarial/{name}", value, on_step=False, on_epoch=True, batch_size=1)
