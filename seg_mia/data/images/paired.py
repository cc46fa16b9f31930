"""Samples that are one image file and one mask file each, wherever a data set's own layout puts them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from seg_mia.data.images.folder_source import Sample
from seg_mia.data.images.mask_coding import largest_lost
from seg_mia.data.images.reading import digest, read_image, read_mask
from seg_mia.data.resize import resized, resized_mask
from seg_mia.data.root import path_below
from seg_mia.data.source import Image, Mask, Source
from seg_mia.errors import InputError


class Paired(Source):
    """Image and mask files that a layout's reader has found.

    Args:
        samples: what was found.
        channels: 1 for grey, 3 for RGB.
        classes: number of classes, background included.
        threshold: mask values above it are class 1, for two classes; None takes values for class ids.
        width: of the decoded samples in pixels.
        height: of the decoded samples in pixels.

    Raises:
        InputError: no samples, two of one name, or a size below 1.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        *,
        channels: int,
        classes: int,
        threshold: int | None,
        width: int,
        height: int,
    ) -> None:
        if width < 1 or height < 1:
            raise InputError(f"samples must be at least 1x1 pixel, got {width}x{height}; ask for more")
        self.samples = sorted(samples)
        self.ids = tuple(sample.name for sample in self.samples)
        self.groups = tuple(sample.group for sample in self.samples)
        self.channels, self.classes, self.threshold = channels, classes, threshold
        self.width, self.height = width, height

    def digest(self, index: int) -> str:
        """Return a SHA-256 of the bytes of image and mask file."""
        return digest(self.samples[index].image, self.samples[index].mask)

    def image_digest(self, index: int) -> str:
        """Return a SHA-256 of the bytes of the image file."""
        return digest(self.samples[index].image)

    def decode(self, index: int) -> tuple[Image, Mask]:
        """Return the image, shrunk by area or grown bilinearly, and the mask by nearest neighbour."""
        sample = self.samples[index]
        image, mask = read_image(sample.image, self.channels), self.mask(sample.mask)
        if image.shape[:2] != mask.shape:
            raise InputError(
                f"image and mask must have one size, got {image.shape[1]}x{image.shape[0]} for "
                f"{sample.image} and {mask.shape[1]}x{mask.shape[0]} for {sample.mask}; replace one"
            )
        return resized(image, self.height, self.width), resized_mask(mask, self.height, self.width)

    def mask(self, path: Path) -> Mask:
        """Return a mask file's class ids (h, w), before they are resized."""
        return read_mask(path, threshold=self.threshold, classes=self.classes)

    def lost(self, index: int) -> int:
        """Return the largest value of a mask's file that the threshold made background."""
        return largest_lost(self.samples[index].mask, self.threshold)

    @property
    def settings(self) -> Mapping[str, bool | int | float | str | None]:
        """What the decoded pixels depend on besides the files."""
        return {
            "reader": type(self).__name__,
            "threshold": self.threshold,
            "width": self.width,
            "height": self.height,
        }


def first_folder(root: Path, names: Sequence[str], *, content: str) -> Path:
    """Return the first of some folders that there is below the root.

    Raises:
        InputError: none of them is there, or the first that is lies outside of the root.
    """
    for name in names:
        if (root / name).is_dir():
            return path_below(root, name)
    raise InputError(f"{root} must hold {content} in {' or '.join(names)}, found none; correct --data.root")
