"""DICOM series and PNG labels of their slices; the only module that imports pydicom."""

import struct
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seg_mia.data.images.mask_coding import refuse_lost
from seg_mia.data.images.reading import read_mask
from seg_mia.data.volumes.dicom_frames import frames_of, is_enhanced
from seg_mia.data.volumes.dicom_values import cell_of, check_meaning, is_inverse, scale_of, shown
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
_LENGTHS = {
    "ImagePositionPatient": 3,
    "ImageOrientationPatient": 6,
    "PixelSpacing": 2,
    "Rows": 1,
    "Columns": 1,
}
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
INVERTED = "series are MONOCHROME1 and read inverted, their lowest value as white, as SimpleITK does"
"""What it means that values are stored with white as the lowest."""
INVERTED_CT = (
    f"{INVERTED}: their values are no Hounsfield units then, so set --data.level and --data.width to them"
)
"""The same of CT."""
_UNEVEN = 0.1  # tolerated deviation from the usual slice distance, as a fraction of it


@dataclass(frozen=True)
class DicomSeries(Scan):
    """Slices of one series, a file each or frames of enhanced objects, sorted by position in the patient.

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
        heads = self.heads()
        with _reading(self.folder):
            _, affine = placed(heads, self.folder)
            shape = (int(heads[0].fields.Columns), int(heads[0].fields.Rows), len(heads))
        turned, matrix = canonical(np.broadcast_to(np.uint8(0), shape), affine, self.folder)
        right, front, up = turned.shape
        return Grid((right, front, up), matrix)

    def read(self) -> Volume:
        """Return the reoriented voxels; slope and intercept convert CT to Hounsfield units."""
        heads, pixels = list[Head](), list[NDArray[Any]]()
        for path in self.slices:
            head = _opened(path, pixels=True)
            frames = _heads(head, path)
            heads += frames
            pixels += _pixels(head, frames, path)
        with _reading(self.folder):
            order, affine = placed(heads, self.folder)
            scales = [scale_of(head.fields, head.path) for head in heads]
        scale = scales[0]
        if len(set(scales)) > 1:
            pixels = [
                flat * np.float32(slope) + np.float32(intercept)
                for flat, (slope, intercept) in zip(pixels, scales, strict=True)
            ]
            scale = (1.0, 0.0)
        turned, _ = canonical(_stacked([pixels[number] for number in order]), affine, self.folder)
        return Volume(str(self.folder), turned, *scale)

    @property
    def folder(self) -> Path:
        """The folder of the files."""
        return self.slices[0].parent

    def heads(self) -> list["Head"]:
        """Return the header of each slice, by file and stored order."""
        return [head for path in self.slices for head in _heads(_opened(path, pixels=False), path)]

    def remarks(self) -> tuple[str, ...]:
        """Return whether values are inverted, by the first file's header."""
        head = _heads(_opened(self.slices[0], pixels=False), self.slices[0])[0].fields
        with _reading(self.slices[0]):
            if not is_inverse(head):
                return ()
            return (INVERTED_CT,) if head.get("Modality", "CT") == "CT" else (INVERTED,)


class Head(NamedTuple):
    """Header fields of one slice, its file, and its name in messages."""

    fields: Any
    path: Path
    name: str


@dataclass(frozen=True)
class PngStack(Scan):
    """PNG labels of a series; the i-th PNG by name labels the i-th slice by name of file, then stored order.

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
        self._heads()
        return self.series.grid()

    def read(self) -> Volume:
        """Return the label ids in the orientation of the series."""
        heads = self._heads()
        with _reading(self.series.folder):
            order, affine = placed(heads, self.series.folder)
        remedy = "set threshold for a black-and-white mask, or correct the file"
        masks = [
            read_mask(path, threshold=self.threshold, classes=255, remedy=remedy) for path in self.pictures
        ]
        rows, columns = heads[0].fields.Rows, heads[0].fields.Columns
        for path, mask in zip(self.pictures, masks, strict=True):
            if mask.shape != (rows, columns):
                raise InputError(
                    f"{path} must have the size of its slice, got {mask.shape[1]}x{mask.shape[0]} and "
                    f"{columns}x{rows}; replace it"
                )
        for path in (path for path, mask in zip(self.pictures, masks, strict=True) if not mask.any()):
            refuse_lost(path, self.threshold)
        folder = self.pictures[0].parent
        turned, _ = canonical(_stacked([masks[number] for number in order]), affine, folder)
        return Volume(str(folder), turned)

    def _heads(self) -> list[Head]:
        """Return the headers of the series after comparing their number with that of the pictures."""
        heads = self.series.heads()
        if len(self.pictures) != len(heads):
            raise InputError(
                f"{self.pictures[0].parent} must hold a PNG for each slice, got {len(self.pictures)} for "
                f"{len(heads)} slices of {self.series.folder}; add or remove some"
            )
        return heads


def placed(heads: Sequence[Head], folder: Path) -> tuple[list[int], NDArray[np.float64]]:
    """Return the slice order along the patient, and the matrix from (column, row, position) to mm in RAS.

    Args:
        heads: headers of one series.
        folder: its folder, for error messages.

    Raises:
        InputError: slices differ in size or direction, or one is missing or duplicated.
    """
    first = heads[0].fields
    for head in heads:
        _check_alike(heads[0], head)
    along_row, along_column = np.array(first.ImageOrientationPatient, dtype=np.float64).reshape(2, 3)
    positions = np.array([head.fields.ImagePositionPatient for head in heads], dtype=np.float64)
    distances = positions @ np.cross(along_row, along_column)
    order = np.argsort(distances, kind="stable")
    steps = np.diff(distances[order])
    if len(steps):
        usual = float(np.median(steps))
        odd = int(np.abs(steps - usual).argmax())
        previous, following = (heads[order[odd + offset]].name for offset in (0, 1))
        if usual <= 0 or abs(steps[odd] - usual) > _UNEVEN * usual:
            raise InputError(
                f"{folder} must hold equidistant slices, got {steps[odd]:.4g} mm from {previous} to "
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


def _check_alike(start: Head, head: Head) -> None:
    first, fields, folder = start.fields, head.fields, head.path.parent
    for name in ("SeriesInstanceUID", "Rows", "Columns", "PhotometricInterpretation"):
        if fields.get(name) != first.get(name):
            raise InputError(
                f"{folder} must hold one series of one size, {head.name} has another {name} than the first "
                f"file, got {fields.get(name)} and {first.get(name)}; keep one series"
            )
    for name in ("ImageOrientationPatient", "PixelSpacing"):
        if not np.allclose(np.array(fields.get(name), float), np.array(first.get(name), float), atol=1e-4):
            raise InputError(
                f"{folder} must hold slices in one direction and resolution, {head.name} has another {name} "
                f"than {start.name}, got {list(fields.get(name))} and {list(first.get(name))}; remove "
                "localisers"
            )
    if fields.get("PatientID") != first.get("PatientID"):
        raise InputError(
            f"{folder} must hold slices of one patient, {head.name} states another PatientID than the first "
            "file; use one folder per patient"
        )


def _opened(path: Path, *, pixels: bool) -> Any:
    """Return a file's DICOM data set."""
    import pydicom

    with _reading(path):
        return pydicom.dcmread(path, stop_before_pixels=not pixels)


def _heads(head: Any, path: Path) -> list[Head]:
    """Return the header of each slice of a file after checking that it is grey and has a position."""
    with _reading(path):
        if not is_enhanced(head):
            return [_checked(head, path, path.name)]
        frames = frames_of(head, path)
        return [
            _checked(frame, path, f"{path.name} frame {number}")
            for number, frame in enumerate(frames, start=1)
        ]


def _checked(fields: Any, path: Path, name: str) -> Head:
    missing = [needed for needed in _NEEDED if fields.get(needed) in (None, "")]
    frames, samples = int(fields.get("NumberOfFrames") or 1), int(fields.get("SamplesPerPixel") or 1)
    check_meaning(fields, path)
    if missing:
        raise InputError(
            f"{path.with_name(name)} must state {', '.join(missing)}, found none; remove files that are not "
            "slices"
        )
    kind = fields.PhotometricInterpretation
    if frames > 1 or samples > 1 or kind not in ("MONOCHROME1", "MONOCHROME2"):
        raise InputError(
            f"{path} must be a grey slice or an enhanced CT or MR object (MONOCHROME2), got {frames} frames "
            f"of kind {kind}; convert it, or use NIfTI (dcm2niix)"
        )
    _check_numbers(fields, path.with_name(name))
    return Head(fields, path, name)


def _check_numbers(fields: Any, path: Path) -> None:
    """Refuse a slice whose place is not stated by as many numbers as it takes."""
    for name, count in _LENGTHS.items():
        value = fields.get(name)
        numbers = np.array(value, dtype=np.float64).ravel()
        if len(numbers) != count:
            raise InputError(f"{path} must state {count} numbers as {name}, got {value}; export it again")
    scale_of(fields, path)


def patient_of(path: Path) -> str:
    """Return the patient identifier of a file with its issuer; empty if absent."""
    import pydicom

    with _reading(path):
        head = pydicom.dcmread(
            path, stop_before_pixels=True, specific_tags=["PatientID", "IssuerOfPatientID"]
        )
        identifier = str(head.get("PatientID") or "").strip()
        return f"{str(head.get('IssuerOfPatientID') or '').strip()}/{identifier}" if identifier else ""


def _pixels(head: Any, frames: Sequence[Head], path: Path) -> list[NDArray[Any]]:
    """Return the values of a file's slices; of uncompressed files unpacked from their words here."""
    from pydicom.uid import RLELossless

    with _reading(path):
        cell = cell_of(head, path)
        syntax = head.file_meta.TransferSyntaxUID
        if syntax.is_compressed and syntax != RLELossless:
            if not cell.usual:
                raise InputError(
                    f"{path} must have its highest bit at {cell.stored - 1}, got HighBit {cell.high} in "
                    "compressed pixels; decompress it (gdcmconv -w) or export it again"
                )
            numbers = head.pixel_array
        else:
            head.BitsStored, head.HighBit, head.PixelRepresentation = cell.allocated, cell.allocated - 1, 0
            numbers = cell.numbers(head.pixel_array)
        flat = numbers.reshape(len(frames), *numbers.shape[-2:])
        return [shown(part, frame.fields, path, cell=cell) for part, frame in zip(flat, frames, strict=True)]


def _stacked(flat: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return slices (rows, columns) as a volume (columns, rows, slices)."""
    return np.stack(flat).transpose(2, 1, 0)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Convert errors of the reader to one-line errors."""
    from pydicom.errors import BytesLengthException, InvalidDicomError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # most scanners violate some rule that is irrelevant here
            yield
    except InputError:
        raise
    except (*_UNREADABLE, BytesLengthException, InvalidDicomError) as error:
        reason = reason_of(error, 150)
        if "missing dependencies" in str(error):
            raise InputError(
                f"{path} needs a decoder of its compressed pixels ({reason}); install "
                "pylibjpeg, pylibjpeg-libjpeg and pylibjpeg-openjpeg, or decompress it (gdcmconv -w)"
            ) from None
        raise InputError(
            f"{path} cannot be read as DICOM ({reason}); copy it again, or decompress it (gdcmconv -w)"
        ) from None
