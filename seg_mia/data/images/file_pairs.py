"""Samples of one image file and one mask file each, and their common source class."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seg_mia.data.images.label_ids import JPEG, LabelTable, mapped, proposed, stored_values
from seg_mia.data.images.mask_coding import largest_lost, refuse_lost
from seg_mia.data.images.reading import digest, read_image, read_mask
from seg_mia.data.label_files import LabelFiles, Part, foreground
from seg_mia.data.source import Image, Mask, Source
from seg_mia.errors import InputError


class Sample(NamedTuple):
    """Files of one sample, its group, which stays on one side of the split, and further columns of a list.

    Attributes:
        further: image files of further channels, each grey.
        parts: mask files of single labels, of which `mask` is the first.
    """

    name: str
    image: Path
    mask: Path
    group: str
    columns: Mapping[str, str] = MappingProxyType({})
    further: tuple[Path, ...] = ()
    parts: tuple[Part, ...] = ()

    @property
    def masks(self) -> tuple[Path, ...]:
        """All mask files, in the order of labels."""
        return tuple(part.path for part in self.parts) or (self.mask,)

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
        label_files: labels whose masks are files of their own.
        value_range: image values that become 0 and 1; by the number of bits if None.
    """

    samples: Sequence[Sample]
    threshold: int | None
    table: LabelTable | None = None
    label_files: LabelFiles | None = None
    value_range: tuple[float, float] | None = None

    def digest(self, index: int) -> str:
        """Return a SHA-256 of the bytes of image and mask file."""
        sample = self.samples[index]
        files = digest(*sample.images, *sample.masks)
        if not sample.parts:
            return files
        return hashlib.sha256(f"{files} {[part.label for part in sample.parts]}".encode()).hexdigest()

    def image_digest(self, index: int) -> str:
        """Return a SHA-256 of the bytes of the image file."""
        return digest(*self.samples[index].images)

    def read(self, index: int) -> tuple[Image, Mask]:
        """Return image (H, W, C) and mask (H, W) at their stored size.

        Raises:
            InputError: sizes differ, or a file is invalid.
        """
        sample = self.samples[index]
        image = self.image(sample)
        mask = self._combined(sample) if sample.parts else self.mask(sample.mask)
        if image.shape[:2] != mask.shape:
            raise InputError(
                f"image and mask must have one size, got {image.shape[1]}x{image.shape[0]} for "
                f"{sample.image} and {mask.shape[1]}x{mask.shape[0]} for {sample.mask}; replace one"
            )
        return image, mask

    def image(self, sample: Sample) -> Image:
        """Return the image (H, W, C): one file, or a grey one for each channel."""
        if not sample.further:
            return read_image(sample.image, self.channels, self.value_range)
        parts = [read_image(path, 1, self.value_range) for path in sample.images]
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

    def _combined(self, sample: Sample) -> Mask:
        """Return the classes of masks in files of their own (h, w)."""
        if self.label_files is None:
            raise TypeError("parts of a mask need label_files")
        masks = [self._foreground(part.path) for part in sample.parts]
        for part, mask in zip(sample.parts, masks, strict=True):
            if mask.shape != masks[0].shape:
                raise InputError(
                    f"masks of a sample must have one size, got {_size(masks[0])} for {sample.mask} and "
                    f"{_size(mask)} for {part.path}; replace one"
                )
        return self.label_files.combined(zip(sample.parts, masks, strict=True), masks[0].shape)

    def _foreground(self, path: Path) -> NDArray[np.bool_]:
        """Return where a binary mask file is foreground (h, w)."""
        if self.threshold is not None:
            mask: NDArray[np.bool_] = read_mask(path, threshold=self.threshold, classes=2) > 0
            if not mask.any():
                refuse_lost(path, self.threshold)
            return mask
        if path.suffix.lower() in JPEG:
            raise InputError(
                f"{path} must be a PNG, TIFF or BMP mask, or have a threshold, got a JPEG; set one"
            )
        return foreground(stored_values(path, colours=False), path)

    def proposed_labels(self) -> str:
        """Return the settings that fit the values of all masks, as YAML; empty if there are none."""
        if self.label_files is not None:
            return ""
        if self.table is not None and self.table.regions:
            return ""
        return proposed(sample.mask for sample in self.samples)

    def reference(self, ids: NDArray[np.integer[Any]]) -> Mask:
        """Return the sets of regions of label ids; InputError where regions are of colours."""
        if self.label_files is not None:
            return mapped(ids, self.label_files.classes_of)
        return super().reference(ids) if self.table is None else self.table.classes_for(ids)

    def lost(self, index: int) -> int:
        """Return the largest mask-file value that the threshold mapped to background."""
        return max(largest_lost(path, self.threshold) for path in self.samples[index].masks)

    def refuse_lost(self, index: int) -> None:
        """Raise InputError for a mask file in another coding than the threshold supposes."""
        for path in self.samples[index].masks:
            refuse_lost(path, self.threshold)


def _kind(image: Image) -> str:
    return f"{_size(image)} of {image.dtype}"


def _size(pixels: NDArray[Any]) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]}"
