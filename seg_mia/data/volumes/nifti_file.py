"""Reading of NIfTI volumes; the only module that imports nibabel."""

import gzip
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_mia.data.root import entries, path_below, regular
from seg_mia.data.volumes.geometry import (
    APART,
    FileScan,
    Grid,
    Scan,
    StoredHeader,
    Volume,
    distance,
    in_unit,
    plane,
)
from seg_mia.errors import InputError, reason_of

SUFFIXES = (".nii", ".nii.gz")

AMBIGUOUS = (
    "files have two positions, sform and qform differ by more than a tenth of a voxel: the sform counts here "
    "and in nibabel, the qform in SimpleITK if sform_code is 2 to 4"
)
"""What it means that a file states two positions."""
_BLOCK = 1 << 20
_SIDES = ("LR", "PA", "IS")
_UNREADABLE = (OSError, ValueError, EOFError, TypeError, MemoryError, OverflowError, struct.error, zlib.error)


def is_volume(path: Path) -> bool:
    """Whether a file name denotes a NIfTI volume."""
    return path.name.lower().endswith(SUFFIXES)


def list_volumes(root: Path, relative: str) -> dict[str, Path]:
    """Return the NIfTI files of a folder below a root, keyed and sorted by name without ending.

    Hidden files (such as `._NAME` from macOS) and other endings are ignored.

    Raises:
        InputError: the folder is missing or contains no such file, a file exists as .nii and .nii.gz, or a
            link leads out of the root.
    """
    folder = path_below(root, relative)
    if not folder.is_dir():
        raise InputError(f"{folder} must be a folder, found none; correct the root or unpack the data set")
    volumes = dict[str, Path]()
    for path in entries(folder):
        if path.name.startswith(".") or not is_volume(path) or path.is_dir():
            continue
        name = path.name[: path.name.lower().rindex(".nii")]
        if name in volumes:
            raise InputError(f"{folder} must hold one {name}, got .nii and .nii.gz; remove one")
        volumes[name] = path_below(root, f"{relative}/{regular(path).name}")
    if not volumes:
        raise InputError(f"{folder} must hold volumes ({', '.join(SUFFIXES)}), found none; correct the root")
    return volumes


def read_volume(path: Path) -> NDArray[np.float32]:
    """Return a NIfTI volume (X, Y, Z) in the nearest RAS orientation, scaled by its header.

    Raises InputError for a file that is unreadable, not three-dimensional, or without orientation.
    """
    volume = NiftiFile(path).read()
    values = in_unit(volume.values, volume.slope, volume.intercept)
    if not np.isfinite(values).all():
        raise InputError(f"{path} must hold finite values, got NaN or infinity; replace them first")
    return values


def read_array(path: Path, *, turned: bool) -> NDArray[Any]:
    """Return the values of a NIfTI file with any number of axes, scaled by its header.

    Args:
        path: the file.
        turned: whether the first three axes are brought into the orientation nearest to RAS; otherwise all
            are as stored. A file of two axes, or without orientation, always is as stored.

    Raises:
        InputError: an unreadable file, colours or complex numbers.
    """
    import nibabel

    with _reading(path):
        image: Any = nibabel.load(path)
        if image.get_data_dtype().kind not in "iuf" or 0 in image.shape:
            raise InputError(
                f"{path} must hold numbers, got {image.get_data_dtype()} of shape {image.shape}; convert it"
            )
        slope, intercept = float(image.dataobj.slope), float(image.dataobj.inter)
        values = _unscaled(image, path).reshape(image.shape, order="F")
        if (slope, intercept) != (1, 0):
            values = in_unit(values, slope, intercept)
        header = image.header
        oriented = "sform_code" not in header or int(header["sform_code"]) or int(header["qform_code"])
        if turned and values.ndim > 2 and oriented:
            values, _ = canonical(values, np.asarray(image.affine, dtype=np.float64), path)
        return values


def axial(volume: NDArray[np.float32], number: int) -> NDArray[np.float32]:
    """Return an axial slice (H, W) in radiological view: front up, the patient's right on the left.

    Raises InputError for a slice number outside the volume.
    """
    return np.ascontiguousarray(plane(volume, "axial", number))


@dataclass(frozen=True)
class NiftiFile(FileScan):
    """A volume in one NIfTI file; uncompressed files are memory-mapped.

    Attributes:
        path: the file.
        unoriented: axis directions of files without orientation, such as LAS; None rejects such files.
    """

    path: Path
    unoriented: str | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The one file."""
        return (self.path,)

    @property
    def cache_key(self) -> str:
        """Axis directions assumed for a file without orientation."""
        return self.unoriented or ""

    def remarks(self) -> tuple[str, ...]:
        """Return whether the file states two positions."""
        return (AMBIGUOUS,) if self.ambiguous() else ()

    def ambiguous(self) -> bool:
        """Return whether sform and qform are both stated and differ by more than the tolerance of grids."""
        with _reading(self.path):
            header = _opened(self.path, dimensions=3).header
            if "sform_code" not in header or not int(header["sform_code"]) or not int(header["qform_code"]):
                return False
            matrices = [np.asarray(matrix, np.float64) for matrix in (header.get_sform(), header.get_qform())]
            shape = (*header.get_data_shape(), 1, 1)[:3]
            grids = [Grid(shape, matrix) for matrix in matrices]
            return bool(np.isfinite(matrices).all()) and distance(*grids) > APART

    def grid(self) -> Grid:
        """Return shape and position from the header."""
        with _reading(self.path):
            image = _opened(self.path, dimensions=3)
            shape = _shape(image)
            return _turned_grid(shape, _affine(image, shape, self.path, self.unoriented), self.path)

    def read(self) -> Volume:
        """Return the reoriented voxels."""
        with _reading(self.path):
            image = _opened(self.path, dimensions=3)
            shape = _shape(image)
            affine = _affine(image, shape, self.path, self.unoriented)
            values = _unscaled(image, self.path).reshape(shape, order="F")
            turned, _ = canonical(values, affine, self.path)
            return Volume(str(self.path), turned, float(image.dataobj.slope), float(image.dataobj.inter))

    def stored_header(self) -> StoredHeader:
        """Return shape, spacing and kind of the voxels in the order of the file, from the header."""
        with _reading(self.path):
            image = _opened(self.path, dimensions=3)
            steps = tuple(abs(float(step)) for step in image.header.get_zooms()[:3])
            if not all(0 < step < np.inf for step in steps):
                raise InputError(f"{self.path} must state spacings above 0, got {steps}; correct its header")
            numbers = float(image.dataobj.slope), float(image.dataobj.inter)
            whole = image.get_data_dtype().kind in "iu" and all(number.is_integer() for number in numbers)
            return StoredHeader(_shape(image), steps, whole)

    def read_stored(self) -> Volume:
        """Return the voxels in the order of the file, whatever its orientation."""
        with _reading(self.path):
            image = _opened(self.path, dimensions=3)
            values = _unscaled(image, self.path).reshape(_shape(image), order="F")
            return Volume(str(self.path), values, float(image.dataobj.slope), float(image.dataobj.inter))


@dataclass(frozen=True)
class FlatFile(Scan):
    """A 2-D NIfTI file as a volume of one axial slice, shown in stored orientation.

    Attributes:
        path: the file; its first axis runs along the image rows.
    """

    path: Path

    @property
    def files(self) -> tuple[Path, ...]:
        """The one file."""
        return (self.path,)

    @property
    def cache_key(self) -> str:
        """Marker of the stored orientation."""
        return "flat"

    def grid(self) -> Grid:
        """Return the shape; a 2-D image has no position."""
        with _reading(self.path):
            return Grid((*_shape(_opened(self.path, dimensions=2))[:2], 1), None)

    def read(self) -> Volume:
        """Return the image, oriented so that its axial slice equals the stored array."""
        with _reading(self.path):
            image = _opened(self.path, dimensions=2)
            values = _unscaled(image, self.path).reshape(_shape(image), order="F")
            flipped = values[::-1, ::-1]
            return Volume(str(self.path), flipped, float(image.dataobj.slope), float(image.dataobj.inter))


def canonical(
    values: NDArray[Any], affine: NDArray[np.float64], path: Path
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Return a view of voxels in the orientation nearest to RAS, and its matrix.

    Args:
        values: (X, Y, Z, ...) in any order.
        affine: matrix (4, 4) from their indices to mm in RAS.
        path: file, for error messages.

    Raises:
        InputError: the matrix does not define the axis directions.
    """
    import nibabel.orientations

    turning: Any = nibabel.orientations
    orientation: Any = (
        turning.io_orientation(affine) if np.isfinite(affine).all() else np.full((3, 2), np.nan)
    )
    if np.isnan(orientation).any():
        raise InputError(
            f"{path} must state the orientation of its axes, got a singular matrix; correct its header"
        )
    turned: NDArray[Any] = turning.apply_orientation(values, orientation)
    return turned, affine @ turning.inv_ornt_aff(orientation, values.shape[:3])


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Convert errors of the reader to one-line errors."""
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    try:
        yield
    except InputError:
        raise
    except (*_UNREADABLE, ImageFileError, HeaderDataError, WrapStructError) as error:
        reason = reason_of(error, 150)
        raise InputError(
            f"{path} cannot be read as NIfTI ({reason}); check that it is complete, or copy it again"
        ) from None


def _opened(path: Path, *, dimensions: int) -> Any:
    """Open a file; reject colour and a wrong number of axes (trailing axes of one voxel are ignored)."""
    import nibabel

    image: Any = nibabel.load(path)
    shape = image.shape
    while len(shape) > dimensions and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != dimensions or 0 in shape:
        raise InputError(
            f"{path} must have {dimensions} axes, got {'x'.join(map(str, image.shape))}; use one time point "
            "of a series"
        )
    if image.get_data_dtype().kind not in "iuf":
        raise InputError(f"{path} must hold numbers, got {image.get_data_dtype()}; convert colours to grey")
    header = int(image.header.get("sizeof_hdr", 0))
    if image.dataobj.offset <= header:
        raise InputError(
            f"{path} must hold its voxels behind the header, got vox_offset {image.dataobj.offset}, as for a "
            "pair of .hdr and .img; convert it to one .nii file"
        )
    return image


def _unscaled(image: Any, path: Path) -> NDArray[Any]:
    """Return the stored values: memory-mapped, or fully decompressed to verify the trailing checksum."""
    if path.suffix.lower() != ".gz":
        return np.asanyarray(image.dataobj.get_unscaled())
    with gzip.open(path) as file:
        values: NDArray[Any] = np.asanyarray(type(image).from_stream(file).dataobj.get_unscaled())
        while file.read(_BLOCK):
            pass
        return values


def _shape(image: Any) -> tuple[int, int, int]:
    rows, columns, slices = (*image.shape, 1)[:3]
    return rows, columns, slices


def _affine(
    image: Any, shape: tuple[int, int, int], path: Path, unoriented: str | None
) -> NDArray[np.float64]:
    """Return the matrix to mm in RAS; a default matrix of the header is rejected or replaced."""
    header = image.header
    if "sform_code" not in header or int(header["sform_code"]) or int(header["qform_code"]):
        _check_directions(header, path)
        return np.asarray(image.affine, dtype=np.float64)
    if unoriented is None:
        raise InputError(
            f"{path} must state the orientation of its axes, its sform and qform are both empty; write them "
            "(nibabel: set_sform), or set the orientation: unoriented LAS"
        )
    import nibabel.orientations

    turning: Any = nibabel.orientations
    back = turning.inv_ornt_aff(turning.axcodes2ornt(_checked(unoriented)), shape)
    affine: NDArray[np.float64] = np.linalg.inv(back)
    affine[:3, :3] *= np.array((*header.get_zooms(), 1.0))[:3]
    return affine


def _check_directions(header: Any, path: Path) -> None:
    """Reject a file whose two matrices disagree in orientation: the correct one is unknown."""
    import nibabel.orientations

    turning: Any = nibabel.orientations
    if "sform_code" not in header or not int(header["sform_code"]) or not int(header["qform_code"]):
        return
    matrices = [header.get_sform(), header.get_qform()]
    if not all(np.isfinite(matrix).all() for matrix in matrices):
        return
    sform, qform = ("".join(letter or "?" for letter in turning.aff2axcodes(matrix)) for matrix in matrices)
    if sform != qform:
        raise InputError(
            f"{path} must state one orientation of its axes, got {sform} in its sform and {qform} in its "
            "qform; write the right one into both (nibabel: set_sform, set_qform)"
        )


def _turned_grid(shape: tuple[int, int, int], affine: NDArray[np.float64], path: Path) -> Grid:
    turned, matrix = canonical(np.broadcast_to(np.uint8(0), shape), affine, path)
    right, front, up = turned.shape
    return Grid((right, front, up), matrix)


def _checked(letters: str) -> str:
    """Require one letter of each pair."""
    if len(letters) != 3 or any(len(set(letters) & set(pair)) != 1 for pair in _SIDES):
        raise InputError(
            f"unoriented must have one letter each of L R, P A and I S, such as LAS, got {letters!r}"
        )
    return letters
