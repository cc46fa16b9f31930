"""Whole labelled volumes as samples, and the base data module of such data sets."""

import hashlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_mia.data.base import SegmentationData
from seg_mia.data.cache import default_folder
from seg_mia.data.digests import persistent_digests
from seg_mia.data.images.label_ids import LabelSetting, RegionSetting, mapped
from seg_mia.data.source import Image, Mask, Note, Source, listed
from seg_mia.data.volumes.geometry import Grid, Scan, Volume, check_same, remarks_on
from seg_mia.data.volumes.itk_file import ItkFile, is_itk
from seg_mia.data.volumes.label_classes import classes_by_id, classes_in
from seg_mia.data.volumes.nifti_file import NiftiFile, is_volume
from seg_mia.data.volumes.resampling import Around, Shaping
from seg_mia.data.volumes.slice_index import SliceIndex
from seg_mia.data.volumes.slices import Case, Unlisted
from seg_mia.data.volumes.windows import USUAL, Windows, WindowSetting, in_window, windows_of
from seg_mia.errors import InputError
from seg_mia.metrics.label_sets import LabelSets, label_names
from seg_mia.metrics.labels import IGNORE

_SKEW = 1e-2
"""Largest cosine between two axes of a volume that count as perpendicular."""


class VolumeSource(Source):
    """Volumes as 8-bit samples (D, H, W, channels); ids are their names, groups are patients.

    Axes run from the feet up, from front to back, and from the patient's right to the left: each D is an
    axial slice in radiological view. Values are windowed, then resampled as floats and finally rounded.

    Args:
        cases: the volumes, with unique names.
        labels: class of each label id; 0 is background by default.
        regions: names of labels that may overlap; classes are then their sets.
        unlisted: treatment of other ids: an error, or background.
        shaping: spacing and size.
        windows: grey window of each channel.

    Raises:
        InputError: image and label do not match, or a setting is out of range.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        *,
        labels: Mapping[int, int],
        regions: Sequence[str] = (),
        unlisted: Unlisted,
        shaping: Shaping,
        windows: Windows,
    ) -> None:
        names = [case.name for case in cases]
        if len(set(names)) < len(names):
            raise InputError(f"volumes must have unique names, got {max(names, key=names.count)} twice")
        self.cases = sorted(cases, key=lambda case: case.name)
        self.classes_of, self.unlisted, self.shaping = {0: 0, **labels}, unlisted, shaping
        self.channels = max((len(case.images) for case in self.cases), default=1)
        windows.check(self.channels)
        self.windows = windows
        self.ids = tuple(case.name for case in self.cases)
        self.groups = tuple(case.group for case in self.cases)
        highest = max(kind for kind in self.classes_of.values() if kind != IGNORE)
        self.classes = LabelSets(regions) if regions else highest + 1
        self.digests = SliceIndex()
        self.grids = [check_same(case.image, case.label) for case in self.cases]
        for case in self.cases:
            for scan in case.further:
                check_same(scan, case.image)
        self._steps = [self._step(case, grid) for case, grid in zip(self.cases, self.grids, strict=True)]
        self.notes = tuple(self._notes())

    def digest(self, index: int) -> str:
        """Return a SHA-256 of the bytes of image and label."""
        scan = self.cases[index].label
        label = self.digests.digest(scan.files) + scan.arrangement
        return hashlib.sha256(f"{self._digest(index)}{label} whole".encode()).hexdigest()

    def image_digest(self, index: int) -> str:
        """Return a SHA-256 of the bytes of the image."""
        return hashlib.sha256(f"{self._digest(index)} whole".encode()).hexdigest()

    def _digest(self, index: int) -> str:
        return "".join(self.digests.digest(scan.files) for scan in self.cases[index].images)

    def decode(self, index: int) -> tuple[Image, Mask]:
        """Return the volume windowed and on the stated grid, and its classes."""
        case = self.cases[index]
        parts = [self._grey(scan, channel) for channel, scan in enumerate(case.images)]
        image: Image = np.stack(parts, axis=3)
        mask = self._classes(_label_planes(case.label), case)
        image, mask = self.shaping.of_sample(image, mask, self._steps[index], case.name)
        return np.rint(image * 255).astype(np.uint8), mask

    def _grey(self, scan: Scan, channel: int) -> NDArray[np.float32]:
        """Return a channel (D, H, W) in its grey window, in [0, 1]."""
        volume = scan.read()
        return in_window(_planes(volume), self.windows.of(channel, volume))

    def reference(self, ids: NDArray[np.integer[Any]]) -> Mask:
        """Return the sets of regions of label ids."""
        return mapped(ids, self.classes_of)

    def prediction(self, file: Path) -> NDArray[Any] | None:
        """Return the values of a volume file in the axes of samples (D, H, W); None for other files."""
        if is_itk(file):
            return _planes(ItkFile(file).read())
        return _planes(NiftiFile(file).read()) if is_volume(file) else None

    @property
    def window(self) -> str:
        """Return the window as a clause."""
        return self.windows.clause

    def window_option(self, low: float, high: float) -> str:
        """Return the options that show these values."""
        return self.windows.option(low, high)

    def limits(self, index: int) -> tuple[float, float]:
        """Return the smallest and the largest value of a volume, in its unit."""
        grey = _planes(self.cases[index].image.read())
        return float(grey.min()), float(grey.max())

    def spacing(self, index: int) -> tuple[float, ...]:
        """Return the distance of voxels along [D, H, W] in mm."""
        return self.shaping.spacing or self._steps[index]

    @property
    def settings(self) -> Mapping[str, bool | int | float | str | None]:
        """Return window, grid and classes."""
        shaping = self.shaping
        return {
            **self.windows.settings,
            "spacing": None if shaping.spacing is None else _joined(shaping.spacing),
            "size": None if shaping.size is None else _joined(shaping.size),
            "around": shaping.around,
            "labels": _joined(f"{label}:{kind}" for label, kind in sorted(self.classes_of.items())),
            "unlisted": self.unlisted,
            **({"regions": _joined(label_names(self.classes))} if label_names(self.classes) else {}),
            "cache_key": _joined(sorted({scan.cache_key for case in self.cases for scan in case.scans})),
        }

    def _step(self, case: Case, grid: Grid) -> tuple[float, ...]:
        """Return the distance of a volume's voxels along [D, H, W] in mm."""
        if grid.affine is None:
            if self.shaping.spacing is None:
                return (1.0, 1.0, 1.0)
            raise InputError(
                f"{case.image.files[0]} must state its spacing, got none; leave out --data.spacing"
            )
        matrix = grid.affine[:3, :3]
        steps = np.linalg.norm(matrix, axis=0)
        cosines = np.abs((matrix / steps).T @ (matrix / steps) - np.eye(3))
        if self.shaping.spacing is not None and not cosines.max() < _SKEW:
            raise InputError(
                f"{case.image.files[0]} must have perpendicular axes to be resampled, two of them have a "
                f"cosine of {cosines.max():.3g}; resample it first, or leave out --data.spacing"
            )
        return tuple(float(step) for step in steps[::-1])

    def _notes(self) -> list[Note]:
        """Return notes on volumes that are cropped, and on headers."""
        lengths = [
            [
                self.shaping.length(axis, count, step)
                for axis, (count, step) in enumerate(zip(grid.shape[::-1], steps, strict=True))
            ]
            for grid, steps in zip(self.grids, self._steps, strict=True)
        ]
        return [
            *cropped_notes(self.ids, lengths, self.shaping),
            *remarks_on(scan for case in self.cases for scan in case.scans),
        ]

    def _classes(self, ids: NDArray[np.uint16], case: Case) -> Mask:
        """Return the class of each label id."""
        held = np.unique(ids).tolist()
        unknown = sorted(set(held) - self.classes_of.keys())
        if unknown and self.unlisted == "refuse":
            raise InputError(
                f"{case.label.files[0]} must hold only the label ids {_joined(sorted(self.classes_of))}, got "
                f"{listed([str(label) for label in unknown], 8)} as well; assign them a class (organs), make "
                "them background (unlisted) or correct the file"
            )
        return classes_in(ids, self.classes_of)


class Volumes(SegmentationData):
    """Base class of data sets of whole labelled volumes.

    Args:
        root: data set folder; all files must lie inside it.
        organs: label ids of each class, from class 1: [[5]] is one organ; [[2, 3], [1]] are two classes, the
            first comprising two ids.
        labels: class of each label id instead of `organs`: `{0: 0, 128: 1, 255: 2}`; class 255 is ignored.
        regions: labels that may overlap, by name, with the label ids of each:
            `{whole: [1, 2, 3], core: [2, 3], enhancing: [3]}`; a sigmoid for each.
        unlisted: treatment of ids without a class: an error, or background.
        spacing: distance of voxels along [D, H, W] in mm, to which volumes are resampled, images linearly and
            labels by the nearest voxel; that of each volume if not given.
        size: voxels along [D, H, W]; larger volumes are cropped, smaller ones padded, and padding is ignored.
            If not given, all volumes must have one size.
        around: what a crop is centred on: the volume, or the box that its foreground fills.
        level: centre of the grey window, in Hounsfield units for CT; 40 if not given.
        width: width of the window, 400 if not given; with level 40, -160 is black and 240 is white.
        windows: level and width of each channel, `[[40, 400], [300, 1500]]`, instead of one for all; null for
            a channel takes `percentiles`.
        percentiles: two percentiles of a volume's voxels other than 0 that are black and white, such as
            `[0.5, 99.5]`, instead of level and width, for MR, whose values have no unit.
        members: see `SegmentationData`, also for all further arguments; patients stay on one side of a split.
        nonmembers: see `SegmentationData`.
    """

    usual_window = USUAL
    """Level and width where none are given."""

    def __init__(
        self,
        *,
        members: int | None,
        nonmembers: int | None,
        root: str | None = None,
        organs: list[list[int]] | None = None,
        labels: LabelSetting | None = None,
        regions: RegionSetting | None = None,
        unlisted: Unlisted = "refuse",
        spacing: list[float] | None = None,
        size: list[int] | None = None,
        around: Around = "centre",
        level: float | None = None,
        width: float | None = None,
        windows: WindowSetting | None = None,
        percentiles: list[float] | None = None,
        **split_and_loading: Any,
    ) -> None:
        super().__init__(members=members, nonmembers=nonmembers, **split_and_loading)
        self.root, self.unlisted = root, unlisted
        self.windows = windows_of(level, width, windows, percentiles, usual=self.usual_window)
        self.organs, self.regions = classes_by_id(organs, labels, regions), tuple(regions or ())
        self.shaping = shaping_of(spacing, size, around)

    @abstractmethod
    def find(self) -> Path:
        """Return the data set folder; raise InputError if it does not exist."""

    @abstractmethod
    def cases(self, root: Path) -> list[Case]:
        """Return the volumes below the data set folder."""

    def read_source(self) -> Source:
        """Check all headers and return the volumes."""
        cache = Path(self.cache) if self.cache else default_folder()
        with persistent_digests(cache / "digests.json"):
            return VolumeSource(
                self.cases(self.find()),
                labels=self.organs,
                regions=self.regions,
                unlisted=self.unlisted,
                shaping=self.shaping,
                windows=self.windows,
            )


def cropped_notes(ids: Sequence[str], lengths: Sequence[Sequence[int]], shaping: Shaping) -> list[Note]:
    """Return a note on the volumes that are larger than the grid's size, by their lengths [D, H, W]."""
    size = shaping.size
    if size is None:
        return []
    larger = [
        name
        for name, sides in zip(ids, lengths, strict=True)
        if any(side > wanted for side, wanted in zip(sides, size, strict=True))
    ]
    if not larger:
        return []
    most = _by([max(sides) for sides in zip(*lengths, strict=True)])
    text = (
        f"{len(larger)} of {len(ids)} volumes are larger than size {_by(size)} and are cropped around the "
        f"{shaping.around}; {most} would hold all"
    )
    return [Note(text, tuple(larger))]


def shaping_of(spacing: Sequence[float] | None, size: Sequence[int] | None, around: Around) -> Shaping:
    """Return the grid that these options state; raise InputError for values out of range."""
    return Shaping(
        spacing=None if spacing is None else tuple(map(float, spacing)),
        size=None if size is None else tuple(size),
        around=around,
    )


def _planes(volume: Volume) -> NDArray[np.float32]:
    """Return a volume (D, H, W) of axial slices in radiological view, in its unit."""
    return np.stack([volume.plane("axial", number) for number in range(volume.values.shape[2])])


def _label_planes(scan: Scan) -> NDArray[np.uint16]:
    """Return the label ids (D, H, W) of axial slices in radiological view."""
    volume = scan.read()
    return np.stack([volume.labels("axial", number) for number in range(volume.values.shape[2])])


def _joined(items: Any) -> str:
    return ", ".join(map(str, items))


def _by(lengths: Sequence[int]) -> str:
    return "x".join(map(str, lengths))
