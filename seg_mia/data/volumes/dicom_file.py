"""DICOM series and PNG labels of their slices; the only module that imports pydicom."""

import struct
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_mia.data.images.mask_coding import refuse_lost
from seg_mia.data.images.reading import read_mask
from seg_mia.data.volumes.dicom_values import cell_of, check_meaning, scale_of, unpadded
from seg_mia.data.volumes.geometry import Grid, Scan, Volume
from seg_mia.data.volumes.nifti_file import canonical
from seg_mia.errors import InputError, reason_of

_NEEDED = (
    "SeriesInstanceUID",
    "Rows",
    "Columns",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "PhotometricInterpretation",
)
_UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    RuntimeError,  # NotImplementedError too: no decoder
    OverflowError,
    MemoryError,
    struct.error,
)
_UNEVEN = 0.1  # tolerated deviation from the usual slice distance, as a fraction of it


@dataclass(frozen=True)
class DicomSeries(Scan):
    """Files of one series, one slice each, sorted by position in the patient.

    Attributes:
        slices: the files, in name order.
    """

    slices: tuple[Path, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """The files, in name order."""
        return self.slices

    def grid(self) -> Grid:
        """Return shape and position from the headers."""
        heads = [_head(path, pixels=False) for path in self.slices]
        _, affine = placed(heads, self.slices)
        shape = (int(heads[0].Columns), int(heads[0].Rows), len(heads))
        turned, matrix = canonical(np.broadcast_to(np.uint8(0), shape), affine, self.slices[0].parent)
        right, front, up = turned.shape
        return Grid((right, front, up), matrix)

    def read(self) -> Volume:
        """Return the reoriented voxels; slope and intercept convert CT to Hounsfield units."""
        heads = [_head(path, pixels=True) for path in self.slices]
        order, affine = placed(heads, self.slices)
        pixels = [_pixels(head, path) for head, path in zip(heads, self.slices, strict=True)]
        scales = {scale_of(head, path) for head, path in zip(heads, self.slices, strict=True)}
        if len(scales) > 1:
            rescales = [scale_of(head, path) for head, path in zip(heads, self.slices, strict=True)]
            pixels = [
                flat * np.float32(slope) + np.float32(intercept)
                for flat, (slope, intercept) in zip(pixels, rescales, strict=True)
            ]
            scales = {(1.0, 0.0)}
        folder = self.slices[0].parent
        turned, _ = canonical(_stacked([pixels[number] for number in order]), affine, folder)
        return Volume(str(folder), turned, *scales.pop())


@dataclass(frozen=True)
class PngStack(Scan):
    """PNG labels of a series; the i-th PNG by name labels the i-th series file by name.

    Attributes:
        pictures: the PNG files, in name order.
        series: the labelled series.
        threshold: values above it are id 1, all others 0; None interprets values as label ids.
    """

    pictures: tuple[Path, ...]
    series: DicomSeries
    threshold: int | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The PNG files, in name order."""
        return self.pictures

    @property
    def cache_key(self) -> str:
        """The threshold."""
        return "" if self.threshold is None else f"above {self.threshold}"

    def grid(self) -> Grid:
        """Check the number of files and return the grid of the series."""
        self._count()
        return self.series.grid()

    def read(self) -> Volume:
        """Return the label ids in the orientation of the series."""
        self._count()
        heads = [_head(path, pixels=False) for path in self.series.slices]
        order, affine = placed(heads, self.series.slices)
        remedy = "set threshold for a black-and-white mask, or correct the file"
        masks = [
            read_mask(path, threshold=self.threshold, classes=255, remedy=remedy) for path in self.pictures
        ]
        for path, mask, head in zip(self.pictures, masks, heads, strict=True):
            if mask.shape != (head.Rows, head.Columns):
                raise InputError(
                    f"{path} must have the size of its slice, got {mask.shape[1]}x{mask.shape[0]} and "
                    f"{head.Columns}x{head.Rows}; replace it"
                )
        for path in (path for path, mask in zip(self.pictures, masks, strict=True) if not mask.any()):
            refuse_lost(path, self.threshold)
        folder = self.pictures[0].parent
        turned, _ = canonical(_stacked([masks[number] for number in order]), affine, folder)
        return Volume(str(folder), turned)

    def _count(self) -> None:
        if len(self.pictures) != len(self.series.slices):
            raise InputError(
                f"{self.pictures[0].parent} must hold a PNG for each slice, got {len(self.pictures)} for "
                f"{len(self.series.slices)} .dcm files; add or remove some"
            )


def placed(heads: Sequence[Any], files: Sequence[Path]) -> tuple[list[int], NDArray[np.float64]]:
    """Return the slice order along the patient, and the matrix from (column, row, position) to mm in RAS.

    Args:
        heads: DICOM data sets of one series.
        files: their files, for error messages.

    Raises:
        InputError: slices differ in size or direction, or one is missing or duplicated.
    """
    first = heads[0]
    for head, path in zip(heads, files, strict=True):
        _check_alike(first, head, path)
    along_row, along_column = np.array(first.ImageOrientationPatient, dtype=np.float64).reshape(2, 3)
    positions = np.array([head.ImagePositionPatient for head in heads], dtype=np.float64)
    distances = positions @ np.cross(along_row, along_column)
    order = np.argsort(distances, kind="stable")
    steps = np.diff(distances[order])
    if len(steps):
        usual = float(np.median(steps))
        odd = int(np.abs(steps - usual).argmax())
        previous, following = (files[order[odd + offset]].name for offset in (0, 1))
        if usual <= 0 or abs(steps[odd] - usual) > _UNEVEN * usual:
            raise InputError(
                f"{files[0].parent} must hold equidistant slices, got {steps[odd]:.4g} mm from {previous} to "
                f"{following} instead of {usual:.4g} mm; add missing slices or remove repeated ones"
            )
    step = np.cross(along_row, along_column) * float(first.get("SliceThickness") or 1)
    if len(steps):
        step = (positions[order[-1]] - positions[order[0]]) / len(steps)
    rows, columns = map(float, first.PixelSpacing)
    affine = np.eye(4)
    affine[:3] = np.column_stack([along_row * columns, along_column * rows, step, positions[order[0]]])
    affine[:2] *= -1  # DICOM counts to the patient's left and back
    return order.tolist(), affine


def _check_alike(first: Any, head: Any, path: Path) -> None:
    for name in ("SeriesInstanceUID", "Rows", "Columns"):
        if head.get(name) != first.get(name):
            raise InputError(
                f"{path.parent} must hold one series of one size, {path.name} has another {name} than the "
                f"first file, got {head.get(name)} and {first.get(name)}; keep one series"
            )
    for name in ("ImageOrientationPatient", "PixelSpacing"):
        if not np.allclose(np.array(head.get(name), float), np.array(first.get(name), float), atol=1e-4):
            raise InputError(
                f"{path.parent} must hold slices in one direction and resolution, {path.name} has another "
                f"{name} than the first file, got {list(head.get(name))} and {list(first.get(name))}; remove "
                "localisers"
            )
    if head.get("PatientID") != first.get("PatientID"):
        raise InputError(
            f"{path.parent} must hold slices of one patient, {path.name} states another PatientID than the "
            "first file; use one folder per patient"
        )


def _head(path: Path, *, pixels: bool) -> Any:
    """Return a file's DICOM data set after checking that it is one grey slice with a position."""
    import pydicom

    with _reading(path):
        head = pydicom.dcmread(path, stop_before_pixels=not pixels)
        missing = [name for name in _NEEDED if head.get(name) in (None, "")]
        frames, samples = int(head.get("NumberOfFrames") or 1), int(head.get("SamplesPerPixel") or 1)
    check_meaning(head, path)
    if missing:
        raise InputError(
            f"{path} must state {', '.join(missing)}, found none; remove files that are not slices"
        )
    kind = head.PhotometricInterpretation
    if kind == "MONOCHROME1":
        raise InputError(
            f"{path} must show its highest value as white (MONOCHROME2), got MONOCHROME1, whose values "
            "pydicom returns as stored and SimpleITK inverted; convert it (dcm2niix), and look at the result"
        )
    if frames > 1 or samples > 1 or kind != "MONOCHROME2":
        raise InputError(
            f"{path} must be a grey slice (MONOCHROME2), got {frames} frames of kind {kind}; convert it, or "
            "use NIfTI (dcm2niix)"
        )
    return head


def patient_of(path: Path) -> str:
    """Return the patient identifier of a file with its issuer; empty if absent."""
    import pydicom

    with _reading(path):
        head = pydicom.dcmread(
            path, stop_before_pixels=True, specific_tags=["PatientID", "IssuerOfPatientID"]
        )
        identifier = str(head.get("PatientID") or "").strip()
        return f"{str(head.get('IssuerOfPatientID') or '').strip()}/{identifier}" if identifier else ""


def _pixels(head: Any, path: Path) -> NDArray[Any]:
    """Return the stored values of a slice; those of uncompressed files are unpacked from their words here."""
    from pydicom.uid import RLELossless

    cell = cell_of(head, path)
    with _reading(path):
        syntax = head.file_meta.TransferSyntaxUID
        if syntax.is_compressed and syntax != RLELossless:
            if not cell.usual:
                raise InputError(
                    f"{path} must have its highest bit at {cell.stored - 1}, got HighBit {cell.high} in "
                    "compressed pixels; decompress it (gdcmconv -w) or export it again"
                )
            return unpadded(head.pixel_array, head, path, cell=cell)
        head.BitsStored, head.HighBit, head.PixelRepresentation = cell.allocated, cell.allocated - 1, 0
        return unpadded(cell.numbers(head.pixel_array), head, path, cell=cell)


def _stacked(flat: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return slices (rows, columns) as a volume (columns, rows, slices)."""
    return np.stack(flat).transpose(2, 1, 0)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Convert errors of the reader to one-line errors."""
    from pydicom.errors import InvalidDicomError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # most scanners violate some rule that is irrelevant here
            yield
    except InputError:
        raise
    except (*_UNREADABLE, InvalidDicomError) as error:
        reason = reason_of(error, 150)
        if "missing dependencies" in str(error):
            raise InputError(
                f"{path} needs a decoder of its compressed pixels ({reason}); install "
                "pylibjpeg, pylibjpeg-libjpeg and pylibjpeg-openjpeg, or decompress it (gdcmconv -w)"
            ) from None
        raise InputError(
            f"{path} cannot be read as DICOM ({reason}); copy it again, or decompress it (gdcmconv -w)"
        ) from None
