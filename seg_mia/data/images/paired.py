"""Samples of one image file and one mask file each, in any layout."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from seg_mia.data.images.file_pairs import FilePairs, Sample
from seg_mia.data.resize import resized, resized_mask
from seg_mia.data.root import path_below
from seg_mia.data.source import Image, Mask
from seg_mia.errors import InputError


class Paired(FilePairs):
    """Image and mask files listed by the reader of a layout.

    Args:
        samples: the listed samples.
        channels: 1 for grey, 3 for RGB.
        classes: number of classes, background included.
        threshold: mask values above it are class 1 (two classes only); None interprets values as class ids.
        width: width of decoded samples in pixels.
        height: height of decoded samples in pixels.

    Raises:
        InputError: no samples, duplicate names, or a size below 1.
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
            raise InputError(
                f"samples must be at least 1x1 pixel, got {width}x{height}; choose a larger size"
            )
        self.samples = sorted(samples)
        self.ids = tuple(sample.name for sample in self.samples)
        self.groups = tuple(sample.group for sample in self.samples)
        self.channels, self.classes, self.threshold = channels, classes, threshold
        self.width, self.height = width, height

    def decode(self, index: int) -> tuple[Image, Mask]:
        """Return the image, reduced by area or enlarged bilinearly, and the mask by nearest neighbour."""
        image, mask = self.read(index)
        return resized(image, self.height, self.width), resized_mask(mask, self.height, self.width)

    @property
    def settings(self) -> Mapping[str, bool | int | float | str | None]:
        """Return all that decoded pixels depend on besides the files."""
        return {
            "reader": type(self).__name__,
            "threshold": self.threshold,
            "width": self.width,
            "height": self.height,
        }


def first_folder(root: Path, names: Sequence[str], *, content: str) -> Path:
    """Return the first of several folders that exists below the root.

    Raises:
        InputError: none exists, or the first existing one is outside the root.
    """
    for name in names:
        if (root / name).is_dir():
            return path_below(root, name)
    raise InputError(f"{root} must hold {content} in {' or '.join(names)}, found none; correct --data.root")
