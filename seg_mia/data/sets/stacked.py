"""Volumes stacked from image files of slices, listed in a CSV file."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seg_mia.data.base import SegmentationData
from seg_mia.data.images.folder_source import FolderSource
from seg_mia.data.images.reading import image_size
from seg_mia.data.root import find_root
from seg_mia.data.source import Image, Mask, Note, Source
from seg_mia.data.volumes.resampling import Around, Shaping
from seg_mia.data.volumes.whole import cropped_notes, shaping_of
from seg_mia.errors import InputError

_NUMBER = re.compile(r"-?\d+(\.\d+)?")


class StackSource(Source):
    """Volumes (D, H, W, C) of slices that have one patient and one volume, in the order of their numbers.

    Args:
        slices: all slices, with the columns of the list.
        volume_columns: columns whose values name a volume of a patient; none if each patient has one.
        slice_column: column of the slices' numbers, ascending from the feet.
        voxel: distance of the slices and their pixels [D, H, W] in mm, or only in proportion.
        shaping: spacing and size.

    Raises:
        InputError: an unknown column, or a number that is missing or stated twice.
    """

    def __init__(
        self,
        slices: FolderSource,
        *,
        volume_columns: Sequence[str],
        slice_column: str,
        voxel: tuple[float, ...],
        shaping: Shaping,
    ) -> None:
        self.slices, self.voxel, self.shaping = slices, voxel, shaping
        self.channels, self.classes = slices.channels, slices.classes
        for column in (*volume_columns, slice_column):
            if column not in slices.columns:
                raise InputError(
                    f"the list of slices must have a column {column!r}, got "
                    f"{', '.join(slices.columns) or 'none'} besides file and patient; set slice_column and "
                    "volume_columns"
                )
        stacks = dict[str, list[tuple[float, int]]]()
        groups = dict[str, str]()
        for index, group in enumerate(slices.groups):
            parts = [group, *(f"{column}{slices.columns[column][index]}" for column in volume_columns)]
            name = "_".join(parts)
            groups[name] = group
            number = _number(slices, slice_column, index)
            stacks.setdefault(name, []).append((number, index))
        self.ids = tuple(sorted(stacks))
        self.groups = tuple(groups[name] for name in self.ids)
        self.stacks = [sorted(stacks[name]) for name in self.ids]
        self.notes = (*slices.notes, *self._notes(), *self._cropped())

    def digest(self, index: int) -> str:
        """Return a SHA-256 of the slices' files, in order."""
        return _digest(self.slices.digest(number) for _, number in self.stacks[index])

    def image_digest(self, index: int) -> str:
        """Return a SHA-256 of the slices' image files, in order."""
        return _digest(self.slices.image_digest(number) for _, number in self.stacks[index])

    def decode(self, index: int) -> tuple[Image, Mask]:
        """Return the stacked slices on the stated grid.

        Raises:
            InputError: slices of several sizes, one whose mask is coded otherwise, or a grid that keeps no
                foreground.
        """
        numbers = [number for _, number in self.stacks[index]]
        decoded = [self.slices.decode(number) for number in numbers]
        empty = [number for number, (_, mask) in zip(numbers, decoded, strict=True) if not mask.any()]
        if len(empty) < len(numbers):  # of wholly empty volumes `lost` tells
            for number in empty:
                self.slices.refuse_lost(number)
        shapes = {mask.shape for _, mask in decoded}
        if len(shapes) > 1:
            raise InputError(f"slices of {self.ids[index]!r} must have one size, got {sorted(shapes)}")
        image, mask = (np.stack(part) for part in zip(*decoded, strict=True))
        return self.shaping.of_sample(image, mask, self.voxel, self.ids[index])

    def lost(self, index: int) -> int:
        """Return the largest value of the masks' files that decoding made background."""
        return max(self.slices.lost(number) for _, number in self.stacks[index])

    def proposed_labels(self) -> str:
        """Return the settings that fit the values of all masks."""
        return self.slices.proposed_labels()

    def spacing(self, index: int) -> tuple[float, ...]:  # noqa: ARG002
        """Return the distance of voxels along [D, H, W]."""
        return self.shaping.spacing or self.voxel

    @property
    def settings(self) -> Mapping[str, bool | int | float | str | None]:
        """Return the slices' settings and the grid."""
        shaping = self.shaping
        return {
            **self.slices.settings,
            "voxel": str(self.voxel),
            "spacing": str(shaping.spacing),
            "volume": str(shaping.size),
            "around": shaping.around,
        }

    def _cropped(self) -> list[Note]:
        """Return a note on cropped volumes, by the header of each one's first slice."""
        if self.shaping.size is None:
            return []
        lengths = []
        for stack in self.stacks:
            counts = (len(stack), *image_size(self.slices.samples[stack[0][1]].image))
            grid = enumerate(zip(counts, self.voxel, strict=True))
            lengths.append([self.shaping.length(axis, count, step) for axis, (count, step) in grid])
        return cropped_notes(self.ids, lengths, self.shaping)

    def _notes(self) -> list[Note]:
        """Return a note on volumes with slices at uneven distances."""
        uneven = [
            name
            for name, stack in zip(self.ids, self.stacks, strict=True)
            if len(np.unique(np.diff([number for number, _ in stack]))) > 1
        ]
        for name, stack in zip(self.ids, self.stacks, strict=True):
            if len({number for number, _ in stack}) < len(stack):
                raise InputError(f"volume {name!r} must have each slice number once, got one twice")
        if not uneven:
            return []
        text = f"{len(uneven)} of {len(self)} volumes lack slices between others and are stacked without them"
        return [Note(text, tuple(uneven))]


class StackedSlices(SegmentationData):
    """Volumes of slices stored as PNG, TIFF or BMP files, listed in a CSV file with patient and number.

    Args:
        root: data folder; all other paths are relative to it and must stay inside it.
        manifest: CSV file with one line per slice.
        images: sub-folder of images.
        masks: sub-folder of masks with the names of the images.
        image_column: column of the files' names.
        group_column: column of patients.
        volume_columns: columns that name a volume of a patient, such as [frame]; each patient has one volume
            if not given.
        slice_column: column of the slices' numbers, ascending from the feet.
        channels: 1 for grey, 3 for RGB.
        classes: number of classes, background included.
        threshold: mask values above it are foreground (two classes only); if not given, masks hold class ids.
        voxel: distance of the files' slices and pixels [D, H, W] in mm.
        spacing: distance of voxels along [D, H, W] to which volumes are resampled; `voxel` if not given.
        size: voxels along [D, H, W]; larger volumes are cropped, smaller ones padded, and padding is ignored.
        around: what a crop is centred on: the volume, or the box that its foreground fills.
        members: see `SegmentationData`, also for all further arguments.
        nonmembers: see `SegmentationData`.
    """

    def __init__(
        self,
        *,
        members: int | None,
        nonmembers: int | None,
        root: str | None = None,
        manifest: str = "index.csv",
        images: str = "images",
        masks: str = "masks",
        image_column: str = "file",
        group_column: str = "patient",
        volume_columns: list[str] | None = None,
        slice_column: str = "slice",
        channels: int = 1,
        classes: int = 2,
        threshold: int | None = None,
        voxel: list[float] | None = None,
        spacing: list[float] | None = None,
        size: list[int] | None = None,
        around: Around = "centre",
        **split_and_loading: Any,
    ) -> None:
        super().__init__(members=members, nonmembers=nonmembers, **split_and_loading)
        self.save_hyperparameters(logger=False)
        self.root, self.manifest, self.images, self.masks = root, manifest, images, masks
        self.image_column, self.group_column, self.slice_column = image_column, group_column, slice_column
        self.volume_columns = volume_columns or []
        self.channels, self.classes, self.threshold = channels, classes, threshold
        if spacing is not None and voxel is None:
            raise InputError("spacing needs the files' own, got no voxel; set --data.voxel [D, H, W] in mm")
        self.voxel = shaping_of(voxel, None, around).spacing or (1.0, 1.0, 1.0)
        self.shaping = shaping_of(spacing, size, around)

    def find(self) -> Path:
        """Return the given folder."""
        layout = f"{self.manifest}, and the files it lists in {self.images} and {self.masks}"
        return find_root(self.root, ("slices",), get="your own slices", layout=layout)

    def read_source(self) -> Source:
        """Return the volumes."""
        slices = FolderSource(
            self.find(),
            images=self.images,
            masks=self.masks,
            channels=self.channels,
            classes=self.classes,
            threshold=self.threshold,
            manifest=self.manifest,
            image_column=self.image_column,
            group_column=self.group_column,
        )
        return StackSource(
            slices,
            volume_columns=self.volume_columns,
            slice_column=self.slice_column,
            voxel=self.voxel,
            shaping=self.shaping,
        )


def _number(slices: FolderSource, column: str, index: int) -> float:
    text = slices.columns[column][index]
    if not _NUMBER.fullmatch(text):
        raise InputError(
            f"column {column!r} must hold the number of each slice, got {text!r} for {slices.ids[index]}; "
            "correct it"
        )
    return float(text)


def _digest(parts: Any) -> str:
    return hashlib.sha256(" ".join(["stacked", *parts]).encode()).hexdigest()
