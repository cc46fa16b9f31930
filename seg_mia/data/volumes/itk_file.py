"""Reading of NRRD and MetaImage volumes; the only module that imports SimpleITK."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from seg_mia.data.volumes.geometry import FileScan, Grid, StoredHeader, Volume
from seg_mia.data.volumes.nifti_file import canonical
from seg_mia.errors import InputError, reason_of

SUFFIXES: Final = (".nrrd", ".mha")
_HEADER = 1 << 16
_SPACES = {
    "right-anterior-superior", "ras", "left-anterior-superior", "las", "left-posterior-superior", "lps",
}  # fmt: skip


def is_itk(path: Path) -> bool:
    """Whether a file name denotes an NRRD or MetaImage volume in one file."""
    return path.name.lower().endswith(SUFFIXES)


@dataclass(frozen=True)
class ItkFile(FileScan):
    """A volume in one NRRD (.nrrd) or MetaImage (.mha) file.

    Attributes:
        path: the file; one whose voxels lie in another file is refused.
    """

    path: Path

    @property
    def files(self) -> tuple[Path, ...]:
        """The one file."""
        return (self.path,)

    def grid(self) -> Grid:
        """Return shape and position from the header."""
        reader = self._reader()
        shape, affine = self._geometry(reader)
        turned, matrix = canonical(np.broadcast_to(np.uint8(0), shape), affine, self.path)
        right, front, up = turned.shape
        return Grid((right, front, up), matrix)

    def read(self) -> Volume:
        """Return the reoriented voxels."""
        reader = self._reader()
        shape, affine = self._geometry(reader)
        import SimpleITK

        values: NDArray[Any] = SimpleITK.GetArrayFromImage(self._run(reader.Execute)).transpose()
        turned, _ = canonical(values.reshape(shape), affine, self.path)
        return Volume(str(self.path), turned)

    def stored_header(self) -> StoredHeader:
        """Return shape, spacing and kind of the voxels in the order of the file, from the header."""
        reader = self._reader()
        shape, affine = self._geometry(reader)
        import SimpleITK

        kind = reader.GetPixelIDValue()
        whole = kind not in (SimpleITK.sitkFloat32, SimpleITK.sitkFloat64)
        return StoredHeader(shape, tuple(map(float, np.linalg.norm(affine[:3, :3], axis=0))), whole)

    def read_stored(self) -> Volume:
        """Return the voxels in the order of the file, whatever its orientation."""
        reader = self._reader()
        shape, _ = self._geometry(reader)
        import SimpleITK

        values: NDArray[Any] = SimpleITK.GetArrayFromImage(self._run(reader.Execute)).transpose()
        return Volume(str(self.path), values.reshape(shape))

    def _reader(self) -> Any:
        """Return a reader that has read the header."""
        self._check_header()
        try:
            import SimpleITK
        except ModuleNotFoundError:
            raise InputError(f"{self.path} needs SimpleITK to be read; pip install 'seg_mia[itk]'") from None
        SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
        reader = SimpleITK.ImageFileReader()
        reader.SetFileName(str(self.path))
        reader.SetImageIO("NrrdImageIO" if self._is_nrrd else "MetaImageIO")
        self._run(reader.ReadImageInformation)
        return reader

    def _run(self, step: Any) -> Any:
        try:
            return step()
        except (RuntimeError, ValueError, MemoryError, OverflowError) as error:
            reason = reason_of(error, 150)
            raise InputError(f"{self.path} cannot be read ({reason}); copy it again") from None

    def _geometry(self, reader: Any) -> tuple[tuple[int, int, int], NDArray[np.float64]]:
        """Return the shape (X, Y, Z), and the matrix from indices to mm in RAS."""
        shape, kind = tuple(map(int, reader.GetSize())), reader.GetPixelIDValue()
        while len(shape) > 3 and shape[-1] == 1:
            shape = shape[:-1]
        if len(shape) != 3 or reader.GetDimension() != 3 or reader.GetNumberOfComponents() != 1 or kind < 0:
            raise InputError(
                f"{self.path} must be a grey volume of 3 axes, got {'x'.join(map(str, shape))} with "
                f"{reader.GetNumberOfComponents()} values in a voxel; use one time point or channel"
            )
        steps, origin = np.array(reader.GetSpacing()), np.array(reader.GetOrigin())
        affine = np.eye(4)
        affine[:3, :3] = np.array(reader.GetDirection()).reshape(3, 3) * steps
        affine[:3, 3] = origin
        affine[:2] *= -1  # ITK counts to the patient's left and back
        if not np.isfinite(affine).all() or not (steps > 0).all():
            raise InputError(
                f"{self.path} must state spacings above 0 and a position, got {steps.tolist()}, "
                f"{origin.tolist()}; correct its header"
            )
        return (shape[0], shape[1], shape[2]), affine

    @property
    def _is_nrrd(self) -> bool:
        return self.path.name.lower().endswith(".nrrd")

    def _check_header(self) -> None:
        """Refuse a file whose voxels lie elsewhere, or whose orientation is not stated."""
        try:
            with self.path.open("rb") as file:
                start = file.read(_HEADER).decode("latin-1")
        except OSError as error:
            raise InputError(f"{self.path} cannot be read ({error.strerror}); correct its rights") from None
        if self._is_nrrd:
            self._check_nrrd(re.split(r"\r?\n\r?\n", start, maxsplit=1)[0])
        else:
            self._check_meta(start)

    def _check_nrrd(self, header: str) -> None:
        fields = {
            name.strip().lower(): value.strip()
            for name, mark, value in (line.partition(":") for line in header.splitlines())
            if mark and not name.startswith("#")
        }
        if "data file" in fields or "datafile" in fields:
            raise InputError(f"{self.path} must hold its voxels, got the name of a data file; save it as one")
        if fields.get("space", "").lower().strip('"') not in _SPACES or "space directions" not in fields:
            raise InputError(
                f"{self.path} must state the orientation of its axes, a space and space directions, got "
                f"{fields.get('space', 'none')!r}; write them (pynrrd, SimpleITK)"
            )

    def _check_meta(self, start: str) -> None:
        fields = dict[str, str]()
        for line in start.splitlines():
            name, mark, value = line.partition("=")
            if not mark:
                break
            fields[name.strip().lower()] = value.strip()
            if name.strip().lower() == "elementdatafile":
                break
        if fields.get("elementdatafile", "").upper() != "LOCAL":
            raise InputError(
                f"{self.path} must hold its voxels, got ElementDataFile "
                f"{fields.get('elementdatafile', 'none')!r}; save it as one .mha file"
            )
        if not fields.keys() & {"transformmatrix", "orientation", "rotation"}:
            raise InputError(
                f"{self.path} must state the orientation of its axes, got no TransformMatrix; write it "
                "(SimpleITK)"
            )
