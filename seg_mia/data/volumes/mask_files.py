"""Labels of a volume in a file each, as one scan."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seg_mia.data.label_files import LabelFiles, Part, foreground
from seg_mia.data.volumes.geometry import Grid, Scan, Volume, check_same


@dataclass(frozen=True)
class MaskFiles(Scan):
    """Binary masks of a volume, a scan for each file, combined to ids.

    Attributes:
        image: the volume, on whose grid all masks must lie.
        parts: label and file of each mask.
        scans: the mask of each part.
        setting: the labels.
    """

    image: Scan
    parts: tuple[Part, ...]
    scans: tuple[Scan, ...]
    setting: LabelFiles

    @property
    def files(self) -> tuple[Path, ...]:
        """The mask files, in the order of labels."""
        return tuple(file for scan in self.scans for file in scan.files)

    @property
    def cache_key(self) -> str:
        """The labels, and which of the files belongs to which."""
        keys = sorted({scan.cache_key for scan in self.scans})
        return f"{self.setting.text} {' '.join(keys)}{self.arrangement}"

    @property
    def arrangement(self) -> str:
        """The label of each file."""
        return f" {[part.label for part in self.parts]}"

    def remarks(self) -> tuple[str, ...]:
        """Return the remarks on any of the masks."""
        return tuple(dict.fromkeys(text for scan in self.scans for text in scan.remarks()))

    def grid(self) -> Grid:
        """Return the grid of the volume, having compared that of each mask."""
        for scan in self.scans:
            check_same(self.image, scan)
        return self.image.grid()

    def read(self) -> Volume:
        """Return the combined ids."""
        ids = self.setting.combined(self._masks(), self.grid().shape)
        return Volume(str(self.parts[0].path.parent), ids)

    def _masks(self) -> Iterator[tuple[Part, NDArray[np.bool_]]]:
        """Return the foreground of each file (X, Y, Z), one in memory at a time."""
        for part, scan in zip(self.parts, self.scans, strict=True):
            yield part, foreground(_in_unit(scan.read()), part.path)


def _in_unit(volume: Volume) -> NDArray[np.generic]:
    """Return the voxels of a mask (X, Y, Z): whole numbers as they are stored, others scaled and finite."""
    if volume.values.dtype.kind in "iu" and volume.intercept == 0:
        return volume.values  # a factor leaves 0, and equal values, as they are
    planes = [volume.plane("axial", number) for number in range(volume.values.shape[2])]
    return np.stack([flat.T[::-1, ::-1] for flat in planes], axis=2)
