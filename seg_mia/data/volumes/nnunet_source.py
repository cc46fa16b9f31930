"""Volumes and labels of the raw folders of nnU-Net v2, in the axes in which nnU-Net reads them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seg_mia.data.cache import Progress
from seg_mia.data.images.label_ids import mapped
from seg_mia.data.nnunet_cases import VOLUMES, NnUNetCase, NnUNetCases
from seg_mia.data.source import Image, Mask, Note, listed
from seg_mia.data.volumes.geometry import FileScan, Volume
from seg_mia.data.volumes.itk_file import ItkFile, is_itk
from seg_mia.data.volumes.nifti_file import NiftiFile, is_volume
from seg_mia.errors import InputError
from seg_mia.metrics.labels import IGNORE
from seg_mia.models.nnunet.sample_geometry import (
    LONGEST,
    SampleGeometry,
    slices_needed,
    state_geometry,
)


class _Header(NamedTuple):
    """Geometry of a volume (D, H, W), and whether all its values are whole numbers."""

    geometry: SampleGeometry
    whole: bool


class NnUNetVolumeSource(NnUNetCases):
    """Volumes of nnU-Net's raw data (D, H, W), test cases only where they have labels.

    Axes are those in which nnU-Net reads files: the stored ones, the slowest first, or RAS. A value v of
    channel c is (v - low) / (high - low) with the channel's levels, float32, cut to [0, 1].

    Volumes of different sizes or spacings are padded behind their ends to the largest lengths, and state
    their own in slices of padding that follow (`seg_mia.models.nnunet.sample_geometry`). Padding is ignored
    in masks.

    Args:
        root: folder of the data set with dataset.json.
        levels: value in the files of each channel's 0 and of its 1.
        reoriented: whether volumes are turned into RAS.
        patient: regular expression matched against a case; its first group is the patient. Each case is a
            patient if not given.

    Attributes:
        varied: whether volumes differ in size or spacing, so that samples state theirs.
        size: lengths of all samples.

    Raises:
        InputError: missing folders, cases without labels or channels, unreadable headers, channels or labels
            of another size than their case.
    """

    decoded_at_once = 2

    def __init__(
        self,
        root: Path,
        *,
        levels: Sequence[Sequence[float]] | None = None,
        reoriented: bool = False,
        patient: str | None = None,
    ) -> None:
        super().__init__(root, VOLUMES, patient)
        given = levels if levels is not None else [(0.0, 1.0)] * self.channels
        self.levels, self.reoriented = [(float(low), float(high)) for low, high in given], reoriented
        if len(self.levels) != self.channels or not all(low < high for low, high in self.levels):
            raise InputError(
                f"levels must be two rising values for each of {self.channels} channels, got {self.levels}; "
                "state them: levels [[LOW, HIGH], ...]"
            )
        headers = [self._header(case) for case in self.cases]
        self.geometries = [header.geometry for header in headers]
        self.whole = all(header.whole for header in headers)
        self.varied = len(set(self.geometries)) > 1
        longest = [max(lengths) for lengths in zip(*(size for size, _ in self.geometries), strict=True)]
        longest[0] += slices_needed(longest[1:]) if self.varied else 0
        self.size = tuple(longest)
        if max(longest) > LONGEST:
            raise InputError(f"volumes must have at most {LONGEST} voxels along an axis, got {self.size}")
        if self.varied:
            text = f"volumes of different sizes or spacings are padded to {'x'.join(map(str, self.size))}"
            self.notes = (*self.notes, Note(text, ()))

    def decode(self, index: int) -> tuple[Image, Mask]:
        """Return volume (D, H, W, C) and mask (D, H, W), padded to the common size."""
        case, geometry = self.cases[index], self.geometries[index]
        image = np.zeros((*self.size, self.channels), np.float32)
        mask = np.full(self.size, IGNORE, np.uint8)
        height, width = geometry.size[1:]
        for channel, (path, (low, high)) in enumerate(zip(case.images, self.levels, strict=True)):
            for number, plane in enumerate(_planes(self._read(path))):
                scaled = (plane - np.float32(low)) / np.float32(high - low)
                image[number, :height, :width, channel] = scaled.clip(0, 1)
        for number, ids in enumerate(_labels(self._read(case.mask))):
            mask[number, :height, :width] = self._classes(ids, case.mask)
        if self.varied:
            state_geometry(image, geometry)
        return image, mask

    def unpadded(self, index: int) -> tuple[int, ...] | None:
        """Return the lengths of a case's volume."""
        return self.geometries[index].size

    def spacing(self, index: int) -> tuple[float, ...]:
        """Return the distance of voxels along [D, H, W] in mm."""
        return self.geometries[index].spacing

    def prediction(self, file: Path) -> NDArray[Any] | None:
        """Return the values of a volume file in the axes of samples (D, H, W); None for other files."""
        if not is_volume(file) and not is_itk(file):
            return None
        return np.stack(list(_planes(self._read(file))))

    def ranges(self, channels: Iterable[int], progress: Progress) -> dict[int, tuple[float, float]]:
        """Return the smallest and the largest value of each of some channels, over all cases.

        Args:
            channels: numbers of the channels.
            progress: called after each case with the numbers of read and all cases.
        """
        ranges = dict.fromkeys(channels, (np.inf, -np.inf))
        for number, case in enumerate(self.cases, start=1):
            for channel, (lowest, highest) in ranges.items():
                planes = _planes(self._read(case.images[channel]))
                ends = np.array([(float(plane.min()), float(plane.max())) for plane in planes])
                ranges[channel] = min(lowest, ends[:, 0].min()), max(highest, ends[:, 1].max())
            progress(number, len(self.cases))
        return ranges

    @property
    def settings(self) -> Mapping[str, bool | int | float | str | None]:
        """Return all that decoded voxels depend on besides the files."""
        settings: dict[str, bool | int | float | str | None] = {
            "size": ", ".join(map(str, self.size)),
            "levels": ", ".join(f"{low!r} {high!r}" for low, high in self.levels),
            "reoriented": self.reoriented,
            "ignored": self.labels.ignored,
        }
        return settings if self.labels.table is None else {**settings, "regions": self.labels.table.text}

    def _header(self, case: NnUNetCase) -> _Header:
        """Return the geometry of a case's first channel; all its files must have the same size."""
        if len(case.images) != self.channels:
            raise InputError(
                f"{case.name} must have {self.channels} channels, got {len(case.images)} files; correct "
                "dataset.json, or add the files"
            )
        headers = [self._file_header(path) for path in (*case.images, case.mask)]
        size = headers[0].geometry.size
        for path, header in zip((*case.images, case.mask), headers, strict=True):
            if header.geometry.size != size:
                raise InputError(
                    f"channels and label of a case must have one size, got {header.geometry.size} for {path} "
                    f"and {size} for {case.images[0]}; replace one"
                )
        return _Header(headers[0].geometry, all(header.whole for header in headers[:-1]))

    def _file_header(self, path: Path) -> _Header:
        scan = _scan(path)
        stored = scan.stored_header()
        if not self.reoriented:
            return _Header(SampleGeometry(stored.shape[::-1], stored.steps[::-1]), stored.whole)
        grid = scan.grid()
        assert grid.affine is not None  # of a file that has an orientation
        steps = np.linalg.norm(grid.affine[:3, :3], axis=0)
        return _Header(SampleGeometry(grid.shape[::-1], tuple(steps[::-1].tolist())), stored.whole)

    def _read(self, path: Path) -> Volume:
        return _scan(path).read() if self.reoriented else _scan(path).read_stored()

    def _classes(self, ids: NDArray[np.uint16], path: Path) -> Mask:
        """Return the classes of a slice of label ids."""
        table = self.labels.table
        if table is None:
            known = {number: number for number in range(self.classes)}
            known |= {} if self.labels.ignored is None else {self.labels.ignored: IGNORE}
        else:
            known = dict(table.classes_of)
        if unknown := sorted(set(np.unique(ids).tolist()) - known.keys()):
            raise InputError(
                f"{path} must hold only the label ids {', '.join(map(str, sorted(known)))} of dataset.json, "
                f"got {listed([str(label) for label in unknown], 8)} as well; correct dataset.json"
            )
        return mapped(ids, known)


def _scan(path: Path) -> FileScan:
    return ItkFile(path) if is_itk(path) else NiftiFile(path)


def _planes(volume: Volume) -> Iterator[NDArray[np.float32]]:
    """Yield the slices (Y, X) of a volume (X, Y, Z)."""
    for number in range(volume.values.shape[2]):
        yield volume.plane("axial", number)[::-1, ::-1]


def _labels(volume: Volume) -> Iterator[NDArray[np.uint16]]:
    """Yield the slices (Y, X) of a volume (X, Y, Z) of label ids."""
    for number in range(volume.values.shape[2]):
        yield volume.labels("axial", number)[::-1, ::-1]
