"""Images and labels in 2-D of the raw folders of nnU-Net v2."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_mia.data.images.reading import image_size, read_image, read_mask
from seg_mia.data.nnunet_cases import IMAGES, NnUNetCase, NnUNetCases
from seg_mia.data.source import Image, Mask, Note
from seg_mia.errors import InputError
from seg_mia.metrics.labels import IGNORE


class NnUNetSource(NnUNetCases):
    """Cases of nnU-Net's raw data in 2-D, test cases only where they have labels.

    Images of different sizes are padded with zeros, below and on the right, to the largest height and width;
    nnU-Net crops such margins. Padded pixels are ignored in masks.

    Args:
        root: folder of the data set with dataset.json.
        bits: grey levels of the image files, 8 or 16.
        patient: regular expression matched against a case; its first group is the patient. Each case is a
            patient if not given.

    Attributes:
        size: height and width of all samples.

    Raises:
        InputError: missing folders, cases without labels or channels, unreadable files.
    """

    def __init__(self, root: Path, *, bits: int = 8, patient: str | None = None) -> None:
        super().__init__(root, IMAGES, patient)
        self.bits = bits
        self._sizes = [image_size(case.images[0]) for case in self.cases]
        self.size = (max(size[0] for size in self._sizes), max(size[1] for size in self._sizes))
        padded = tuple(
            case.name for case, size in zip(self.cases, self._sizes, strict=True) if size != self.size
        )
        if padded:
            text = f"{len(padded)} images are padded with zeros to {self.size[0]}x{self.size[1]}"
            self.notes = (*self.notes, Note(text, padded))

    def decode(self, index: int) -> tuple[Image, Mask]:
        """Return image (H, W, C) and mask (H, W), padded to the common size."""
        case = self.cases[index]
        image, mask = self._image(case), self._mask(case)
        if image.shape[:2] != mask.shape:
            raise InputError(
                f"image and label must have one size, got {image.shape[:2]} for {case.images[0]} and "
                f"{mask.shape} "
                f"for {case.mask}; replace one"
            )
        margin = [(0, full - side) for full, side in zip(self.size, mask.shape, strict=True)]
        padded: NDArray[Any] = np.pad(image, [*margin, (0, 0)])
        return padded, np.pad(mask, margin, constant_values=IGNORE)

    def _image(self, case: NnUNetCase) -> Image:
        grey = len(case.images) > 1 or self.channels == 1
        parts = [read_image(path, 1 if grey else 3) for path in case.images]
        image: NDArray[Any] = np.concatenate(parts, axis=2)
        if image.shape[2] != self.channels:
            raise InputError(
                f"{case.images[0]} must hold {self.channels} channels with its further files, got "
                f"{image.shape[2]}; correct dataset.json, or add the files"
            )
        if (image.dtype == np.uint8) != (self.bits == 8):
            raise InputError(f"{case.images[0]} must have {self.bits} bits, as other images; convert it")
        return image

    def _mask(self, case: NnUNetCase) -> Mask:
        ignored = self.labels.ignored
        if self.labels.table is not None:
            return self.labels.table.read(case.mask)
        mask = read_mask(
            case.mask,
            threshold=None,
            classes=self.classes + (ignored is not None),
            remedy="correct the labels in dataset.json",
        )
        return mask if ignored is None else np.where(mask == ignored, np.uint8(IGNORE), mask)

    def unpadded(self, index: int) -> tuple[int, int] | None:
        """Return height and width of a case's files."""
        return self._sizes[index]

    @property
    def settings(self) -> Mapping[str, bool | int | float | str | None]:
        """Return all that decoded pixels depend on besides the files."""
        height, width = self.size
        settings = {"height": height, "width": width, "bits": self.bits, "ignored": self.labels.ignored}
        return settings if self.labels.table is None else {**settings, "regions": self.labels.table.text}
