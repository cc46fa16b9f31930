"""Knowledge distillation (Chobola, Usynin, Kaissis 2022): the released student is not trained on members."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from seg_mia.data.base import SegmentationData
from seg_mia.defences.base import Defence
from seg_mia.defences.traits import Trait
from seg_mia.errors import InputError
from seg_mia.losses import LOSSES, Loss, LossName
from seg_mia.metrics.labels import IGNORE, padding
from seg_mia.models.heads import final, predicted

Losses = NDArray[np.float64]
Labels = NDArray[np.uint8]


class Distil(Defence):
    """Train a teacher on the members, and release a student of its labels on reference images.

    The student is initialised anew and trained on the reference images whose loss under the unprotected
    teacher is at most the teacher's validation loss. Here that is the mean loss over the reference images:
    the non-members, used in the published code, are reserved for the evaluation of the defence. The teacher
    is trained first, in `teacher/` of the run's folder, with the student's settings and another seed.

    Args:
        loss: loss that selects the reference images.
        max_loss: largest loss of a selected image, instead of the teacher's mean.

    Raises:
        InputError: in `check`, no reference images; in `learn`, none selected.
    """

    traits: ClassVar[Mapping[Trait, str]] = {
        Trait.USES_REFERENCE: "the student learns from them",
        Trait.TRAINS_ON_OTHERS: "the student learns only from reference images",
    }
    teacher: ClassVar[str | None] = "teacher"

    def __init__(self, *, loss: LossName = "dice_cross_entropy", max_loss: float | None = None) -> None:
        if max_loss is not None and not max_loss > 0:
            raise InputError(f"max_loss must be above 0, got {max_loss}; leave it out for the teacher's mean")
        self.loss_per_image, self.max_loss = LOSSES[loss], max_loss

    def check(self, data: SegmentationData) -> None:
        """Require reference images."""
        require_reference(data, "distillation trains its student on them")

    def learn(self, teacher: nn.Module, data: SegmentationData) -> None:
        """Add the selected reference images, with the teacher's labels, to the training data."""
        indices = data.scored("reference")
        losses, labels = _answers(teacher, data, self.loss_per_image)
        bound = float(losses.mean()) if self.max_loss is None else self.max_loss
        chosen = np.flatnonzero(losses <= bound)
        if not len(chosen):
            raise InputError(
                f"distillation selects none of {len(indices)} reference images: the teacher's losses are at "
                f"least {losses.min():.4g}, max_loss is {bound:g}; raise it or leave it out"
            )
        data.teach(indices[chosen], {int(indices[row]): labels[row] for row in chosen})


def require_reference(data: SegmentationData, why: str) -> None:
    """Raise InputError if the data has no reference images."""
    if not len(data.scored("reference")):
        labelled = " with a labelled pixel" if len(data.indices("reference")) else ""
        raise InputError(
            f"the {data.role}'s half has no reference images{labelled}, and {why}; lower --data.members or "
            "--data.nonmembers, or raise --data.reference"
        )


@torch.no_grad()
def _answers(teacher: nn.Module, data: SegmentationData, loss: Loss) -> tuple[Losses, Labels]:
    """Return the teacher's loss on each reference image, (n,), and its labels, (n, *s), 255 in padding."""
    samples = data.dataset(data.scored("reference"))
    losses, labels = [], []
    teacher.eval()
    device = next(teacher.parameters()).device
    for start in tqdm(
        range(0, len(samples), data.query_batch), desc="querying the teacher", leave=False, disable=None
    ):
        drawn = [samples[0, row] for row in range(start, min(start + data.query_batch, len(samples)))]
        logits = final(teacher(torch.stack([sample.image for sample in drawn]).to(device))).float().cpu()
        masks = torch.stack([sample.mask for sample in drawn])
        losses.append(loss(logits, masks).double().numpy())
        labels.append(predicted(logits).masked_fill(padding(masks), IGNORE).to(torch.uint8).numpy())
    return np.concatenate(losses), np.concatenate(labels)
