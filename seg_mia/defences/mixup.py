"""Mix-up for segmentation (Chobola, Usynin, Kaissis 2022): two images side by side."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from seg_mia.data.base import SegmentationData
from seg_mia.data.samples import Batch
from seg_mia.defences.base import Defence, require_full_masks
from seg_mia.defences.traits import Trait
from seg_mia.errors import InputError


class MixUp(Defence):
    """Put the left part of a shuffled partner beside the right part of each image, masks likewise.

    The split lies at Beta(alpha, alpha) times the width; it and the partners are drawn once for each batch.

    Args:
        alpha: 2 is published; large values split in the middle, small ones at either end.

    Raises:
        InputError: alpha not above 0; in `check`, masks of another size than the images.
    """

    traits: ClassVar[Mapping[Trait, str]] = {
        Trait.COUPLES_SAMPLES: "each image is mixed with another of its batch",
        Trait.ALTERS_SAMPLES: "mix-up shows two images side by side",
    }

    def __init__(self, *, alpha: float = 2.0) -> None:
        if not 0 < alpha < float("inf"):
            raise InputError(f"alpha must be above 0 and finite, got {alpha}; 2 is published")
        self.alpha = alpha

    def check(self, data: SegmentationData) -> None:
        """The split must lie at the same place in image and mask."""
        require_full_masks(data, "mix-up", "its left part would not be the image's")

    def batch(self, batch: Batch, network: nn.Module) -> Batch:  # noqa: ARG002
        """Return the mixed batch; its indices name the right parts."""
        share = float(torch.distributions.Beta(self.alpha, self.alpha).sample())
        return mixed(batch, torch.randperm(len(batch.image)), share)


def mixed(batch: Batch, partners: Tensor, share: float) -> Batch:
    """Return the batch with the left `share` of every image and mask taken from its partner's.

    Args:
        batch: images (N, C, H, W) and masks (N, h, w), which cover the same width.
        partners: of whom each gets the left part, int64 (N,).
        share: in [0, 1], of the width; rounded to whole pixels.
    """
    columns, cells = (round(share * part.shape[-1]) for part in (batch.image, batch.mask))
    image, mask = batch.image.clone(), batch.mask.clone()
    image[..., :columns] = batch.image[partners.to(image.device)][..., :columns]
    mask[..., :cells] = batch.mask[partners.to(mask.device)][..., :cells]
    return batch._replace(image=image, mask=mask)
