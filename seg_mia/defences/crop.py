"""Crop training (Chobola, Usynin, Kaissis 2022): the network is never trained on a whole image."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from seg_mia.data.base import SegmentationData
from seg_mia.data.samples import Batch
from seg_mia.defences.base import Defence, Wrapping, require_full_masks, require_whole_training
from seg_mia.defences.traits import Trait
from seg_mia.errors import InputError
from seg_mia.models.stitched import Stitched, crop_sides


class Crop(Defence):
    """Train on random square crops, boxes of volumes, and predict a whole image crop by crop.

    One position is drawn for all images of a batch. A crop covers a part of the pixels, so more epochs are
    needed: the published number is three times as many, on crops of 128 out of 256.

    Args:
        size: side of the crops in pixels; if not given, half the shorter side of an image, half of each axis
            of a volume.

    Raises:
        InputError: size below 1; in `check`, crops not smaller than the image, masks of another size, or
            training on patches.
    """

    traits: ClassVar[Mapping[Trait, str]] = {Trait.ALTERS_SAMPLES: "crops show a part of each image"}

    def __init__(self, *, size: int | None = None) -> None:
        if size is not None and size < 1:
            raise InputError(
                f"crops must be at least 1 pixel wide, got {size}; leave it out for half the image"
            )
        self.size = size

    def check(self, data: SegmentationData) -> None:
        """Require crops smaller than the image, and masks of the image's size."""
        lengths = data.cached.images.shape[1:-1]
        require_full_masks(data, "crop training", "a crop would show another region")
        require_whole_training(data, "crop training", "patches are crops already")
        if self.size is not None and self.size >= min(lengths):
            raise InputError(
                f"crops must be smaller than the images of {'x'.join(map(str, lengths))}, got size "
                f"{self.size}; leave it out for half the image"
            )

    def batch(self, batch: Batch, network: nn.Module) -> Batch:  # noqa: ARG002
        """Return one random crop of every image and mask, at the same position in all."""
        lengths = batch.image.shape[2:]
        sides = crop_sides(self.size, lengths)
        # Drawn on the CPU: a seed gives the same crops on every device.
        starts = [
            int(torch.randint(length - side + 1, ())) for length, side in zip(lengths, sides, strict=True)
        ]
        return cropped(batch, starts=starts, sides=sides)

    def wrapping(self) -> Wrapping:
        """Predict crop by crop."""
        return Wrapping(Stitched, {"size": self.size})


def cropped(batch: Batch, *, starts: Sequence[int], sides: Sequence[int]) -> Batch:
    """Return one crop of every image (N, C, *S) and mask (N, *S), from a start on each axis."""
    part: tuple[Any, ...] = (
        ...,
        *(slice(start, start + side) for start, side in zip(starts, sides, strict=True)),
    )
    return batch._replace(image=batch.image[part], mask=batch.mask[part])
