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
    """Join the left part of a shuffled partner and the right part of each image and mask.

    The split lies at Beta(alpha, alpha) times the width; split and partners are drawn once per batch.

    Args:
        alpha: parameter of the Beta distribution, published: 2; large values split near the middle, small
            ones near the edges.

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
        """Require masks of the image's size."""
        require_full_masks(data, "mix-up", "its left part would not be that of the image")

    def batch(self, batch: Batch, network: nn.Module) -> Batch:  # noqa: ARG002
        """Return the mixed batch; its indices refer to the right parts."""
        share = float(torch.distributions.Beta(self.alpha, self.alpha).sample())
        return mixed(batch, torch.randperm(len(batch.image)), share)


def mixed(batch: Batch, partners: Tensor, share: float) -> Batch:
    """Return the batch with the left `share` of every image and mask taken from its partner.

    Args:
        batch: images (N, C, H, W) and masks (N, h, w), which cover the same width.
        partners: index of each image's partner, int64 (N,).
        share: fraction of the width, in [0, 1]; rounded to whole pixels.
    """
    columns, cells = (round(share * part.shape[-1]) for part in (batch.image, batch.mask))
    image, mask = batch.image.clone(), batch.mask.clone()
    image[..., :columns] = batch.image[partners.to(image.device)][..., :columns]
    mask[..., :cells] = batch.mask[partners.to(mask.device)][..., :cells]
    return batch._replace(image=image, mask=mask)
