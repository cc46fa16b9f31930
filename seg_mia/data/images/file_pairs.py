"""Samples of one image file and one mask file each, and their common source class."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seg_mia.data.images.label_ids import LabelTable, proposed
from seg_mia.data.images.mask_coding import largest_lost
from seg_mia.data.images.reading import digest, read_image, read_mask
from seg_mia.data.source import Image, Mask, Source
from seg_mia.errors import InputError


class Sample(NamedTuple):
    """Files of one sample, its group, which stays on one side of the split, and further columns of a list.

    Attributes:
        further: image files of further channels, each grey.
    """

    name: str
    image: Path
    mask: Path
    group: str
    columns: Mapping[str, str] = MappingProxyType({})
    further: tuple[Path, ...] = ()

    @property
    def images(self) -> tuple[Path, ...]:
        """All image files, in the order of channels."""
        return (self.image, *self.further)


class FilePairs(Source):
    """Pairs of image and mask files; a subclass lists and resizes them.

    Attributes:
        samples: the files, in the order of `ids`.
        threshold: mask values above it are class 1 (two classes only); None interprets values as class ids.
        table: class of each mask value; None interprets values as class ids, or by the threshold.
    """

    samples: Sequence[Sample]
    threshold: int | None
    table: LabelTable | None = None

    def digest(self, index: int) -> str:
        """Return a SHA-256 of the bytes of image and mask file."""
        return digest(*self.samples[index].images, self.samples[index].mask)

    def image_digest(self, index: int) -> str:
        """Return a SHA-256 of the bytes of the image file."""
        return digest(*self.samples[index].images)

    def read(self, index: int) -> tuple[Image, Mask]:
        """Return image (H, W, C) and mask (H, W) at their stored size.

        Raises:
            InputError: sizes differ, or a file is invalid.
        """
        sample = self.samples[index]
        image, mask = self.image(sample), self.mask(sample.mask)
        if image.shape[:2] != mask.shape:
            raise InputError(
                f"image and mask must have one size, got {image.shape[1]}x{image.shape[0]} for "
                f"{sample.image} and {mask.shape[1]}x{mask.shape[0]} for {sample.mask}; replace one"
            )
        return image, mask

    def image(self, sample: Sample) -> Image:
        """Return the image (H, W, C): one file, or a grey one for each channel."""
        if not sample.further:
            return read_image(sample.image, self.channels)
        parts = [read_image(path, 1) for path in sample.images]
        for path, part in zip(sample.images, parts, strict=True):
            if part.shape != parts[0].shape or part.dtype != parts[0].dtype:
                raise InputError(
                    f"channels of a sample must have one size and one number of bits, got "
                    f"{_kind(parts[0])} for {sample.image} and {_kind(part)} for {path}; convert one"
                )
        stacked: NDArray[Any] = np.concatenate(parts, axis=2)
        return stacked

    def mask(self, path: Path) -> Mask:
        """Return the class ids of a mask file (h, w) before resizing."""
        if self.table is not None:
            return self.table.read(path)
        return read_mask(path, threshold=self.threshold, classes=self.classes)

    def proposed_labels(self) -> str:
        """Return the settings that fit the values of all masks, as YAML; empty if there are none."""
        if self.table is not None and self.table.regions:
            return ""
        return proposed(sample.mask for sample in self.samples)

    def reference(self, ids: NDArray[np.integer[Any]]) -> Mask:
        """Return the sets of regions of label ids; InputError where regions are of colours."""
        return super().reference(ids) if self.table is None else self.table.classes_for(ids)

    def lost(self, index: int) -> int:
        """Return the largest mask-file value that the threshold mapped to background."""
        return largest_lost(self.samples[index].mask, self.threshold)


def _kind(image: Image) -> str:
    return f"{image.shape[1]}x{image.shape[0]} of {image.dtype}"
