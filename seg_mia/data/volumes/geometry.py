"""Volumes independent of file format, and their slices in radiological view."""

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import methodcaller
from pathlib import Path
from threading import Lock
from typing import Any, Literal, NamedTuple, assert_never

import numpy as np
from numpy.typing import NDArray

from seg_mia.data.source import Note
from seg_mia.errors import InputError

Axis = Literal["axial", "coronal", "sagittal"]

_ACROSS: dict[Axis, int] = {"sagittal": 0, "coronal": 1, "axial": 2}
_ROUNDING = 1e-3  # tolerated deviation of a rescaled label from a whole number
APART = 0.1
"""Tolerated distance of two equal grids in voxels."""
_WIDEST = 65535


class Grid(NamedTuple):
    """Position of voxels (X, Y, Z) in the patient: a matrix (4, 4) to mm, or None if unknown."""

    shape: tuple[int, int, int]
    affine: NDArray[np.float64] | None


class StoredHeader(NamedTuple):
    """What a header states of voxels in the order of the file.

    Attributes:
        shape: voxels along the stored axes.
        steps: their distance along each.
        whole: whether all values are whole numbers.
    """

    shape: tuple[int, int, int]
    steps: tuple[float, ...]
    whole: bool


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels in the orientation nearest to RAS; stored values are rescaled per slice on access.

    Attributes:
        name: name in error messages.
        values: (X, Y, Z) from left to right, back to front and feet to head; often a view of the file.
        slope: factor of the stored values.
        intercept: offset added after multiplication.
    """

    name: str
    values: NDArray[Any]
    slope: float = 1.0
    intercept: float = 0.0

    def plane(self, axis: Axis, number: int) -> NDArray[np.float32]:
        """Return a slice (H, W) in the unit of the file; see `plane`.

        Raises InputError for a slice number outside the volume and for NaN or infinity.
        """
        flat = in_unit(plane(self.values, axis, number), self.slope, self.intercept)
        if not np.isfinite(flat).all():
            raise InputError(
                f"{self.name} must hold finite values, got NaN or infinity in {axis} slice {number}; "
                "replace them first"
            )
        return flat

    def labels(self, axis: Axis, number: int) -> NDArray[np.uint16]:
        """Return a slice of label ids (H, W); values must be whole numbers from 0 to 65535."""
        if self.values.dtype in (np.uint8, np.uint16) and (self.slope, self.intercept) == (1, 0):
            return plane(self.values, axis, number).astype(np.uint16)
        flat = self.plane(axis, number)
        ids = np.rint(flat)
        wrong = (np.abs(flat - ids) > _ROUNDING) | (ids < 0) | (ids > _WIDEST)
        if wrong.any():
            raise InputError(
                f"{self.name} must hold label ids, whole numbers of 0 to {_WIDEST}, got "
                f"{float(flat[wrong][0]):.6g} in {axis} slice {number}; use the label file without "
                "interpolation"
            )
        return ids.astype(np.uint16)


class Scan(ABC):
    """Source of a volume; hashable, equal for equal files."""

    @property
    @abstractmethod
    def files(self) -> tuple[Path, ...]:
        """All files of the scan."""

    @property
    def cache_key(self) -> str:
        """All that determines the voxels besides the files."""
        return ""

    @property
    def arrangement(self) -> str:
        """What tells apart equal files that mean something else; part of a sample's digest."""
        return ""

    def remarks(self) -> tuple[str, ...]:
        """Return what a reader should know of the header, as clauses such as `files have two positions`."""
        return ()

    @abstractmethod
    def grid(self) -> Grid:
        """Return the grid in RAS orientation, from headers alone if available."""

    @abstractmethod
    def read(self) -> Volume:
        """Return the voxels. Raises InputError for invalid files."""


class FileScan(Scan):
    """Source of a volume in one file, whose voxels may also be read in the order of the file."""

    @abstractmethod
    def stored_header(self) -> StoredHeader:
        """Return shape, spacing and kind of the voxels in the order of the file, from the header."""

    @abstractmethod
    def read_stored(self) -> Volume:
        """Return the voxels in the order of the file, whatever its orientation."""


class VolumeCache:
    """Thread-safe cache of the most recently read volumes, for consecutive slices.

    Args:
        keep: volumes to hold in memory.
    """

    def __init__(self, keep: int = 4) -> None:
        self.keep = keep
        self._lock = Lock()
        self._volumes = OrderedDict[Scan, Volume]()

    def __reduce__(self) -> tuple[Any, ...]:
        return VolumeCache, (self.keep,)

    def volume(self, scan: Scan) -> Volume:
        """Return the volume of a scan, read if not cached; one volume is read at a time."""
        with self._lock:
            volume = self._volumes.pop(scan, None) or scan.read()
            self._volumes[scan] = volume
            while len(self._volumes) > self.keep:
                self._volumes.popitem(last=False)
            return volume

    def clear(self) -> None:
        """Free the memory."""
        with self._lock:
            self._volumes.clear()


def plane(volume: NDArray[Any], axis: Axis, number: int) -> NDArray[Any]:
    """Return one slice of a RAS volume (X, Y, Z) as a view (H, W) in radiological convention.

    Axial: front up, the patient's right on the left. Coronal: head up, the patient's right on the left.
    Sagittal: head up, front on the left. Slices are numbered from the feet, the back and the left.

    Raises InputError for a slice number outside the volume.
    """
    count = volume.shape[across(axis)]
    if not 0 <= number < count:
        raise InputError(f"slice must lie in 0 .. {count - 1}, got {number}; choose another")
    match axis:
        case "axial":
            return volume[::-1, ::-1, number].T
        case "coronal":
            return volume[::-1, number, ::-1].T
        case "sagittal":
            return volume[number, ::-1, ::-1].T
        case _:
            assert_never(axis)


def in_unit(values: NDArray[Any], slope: float, intercept: float) -> NDArray[np.float32]:
    """Return stored values with slope and intercept; those too large for 32 bits become infinite."""
    with np.errstate(over="ignore", invalid="ignore"):
        return values.astype(np.float32) * np.float32(slope) + np.float32(intercept)


def across(axis: Axis) -> int:
    """Return the array dimension (X, Y or Z) along which slices of an axis are numbered."""
    return _ACROSS[axis]


def check_same(image: Scan, label: Scan) -> Grid:
    """Return the grid of an image; a label must match its shape and position."""
    grid, label_grid = image.grid(), label.grid()
    if grid.shape != label_grid.shape:
        raise InputError(
            f"a label must have its image's shape, got {_by(label_grid.shape)} for {_name(label)} and "
            f"{_by(grid.shape)} for {_name(image)}, right x front x up; resample it onto the image"
        )
    apart = distance(grid, label_grid)
    if apart > APART:
        raise InputError(
            f"a label must have its image's position, {_name(label)} is {apart:.3g} voxels away from "
            f"{_name(image)}; resample it onto the image, or correct its header"
        )
    return grid


def distance(first: Grid, second: Grid) -> float:
    """Return the largest distance between corners of two grids in voxels; 0 if one has no position."""
    if first.affine is None or second.affine is None:
        return 0.0
    corners = np.array(np.meshgrid(*([0, side - 1] for side in first.shape))).reshape(3, -1)
    shift = (first.affine - second.affine)[:3] @ np.vstack([corners, np.ones(corners.shape[1])])
    side = np.linalg.norm(first.affine[:3, :3], axis=0).min()
    return float(np.linalg.norm(shift, axis=0).max() / side)


def remarks_on(
    scans: Iterable[Scan], remarks: Callable[[Scan], Sequence[str]] = methodcaller("remarks")
) -> list[Note]:
    """Return the remarks on headers with the files or folders of each; `remarks` may have stored them."""
    names = dict[str, list[str]]()
    for scan in scans:
        for text in remarks(scan):
            names.setdefault(text, []).append(_name(scan))
    return [Note(f"{len(listed)} {text}", tuple(listed)) for text, listed in names.items()]


def _name(scan: Scan) -> str:
    return str(scan.files[0] if len(scan.files) == 1 else scan.files[0].parent)


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
