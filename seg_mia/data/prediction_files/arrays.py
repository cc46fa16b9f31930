"""Arrays in .npy, .npz, NIfTI and image files, read without running what they hold."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_mia.data.images.reading import read_values
from seg_mia.data.volumes.nifti_file import is_volume, read_array
from seg_mia.errors import NUMPY_ERRORS, InputError, reason_of

NUMPY = (".npy", ".npz")
PICTURES = (".png", ".tif", ".tiff", ".bmp")
KINDS = f"{', '.join(NUMPY)}, .nii.gz, .nii, {', '.join(PICTURES)}"

Array = NDArray[Any]
_ARCHIVE = b"PK"
"""First bytes of an archive."""


def is_numpy(path: Path) -> bool:
    """Return whether a file's name is that of an array file of NumPy."""
    return path.suffix.lower() in NUMPY


def array_of(path: Path, *, key: str | None = None, turned: bool = True) -> Array:
    """Return the numbers in a file, with the axes of the file.

    Args:
        path: .npy, .npz, .nii, .nii.gz, .png, .tiff or .bmp; uncompressed .npy files are memory-mapped.
        key: name of the array in .npz files; the only one if not given.
        turned: whether volumes in NIfTI files are brought into RAS orientation.

    Raises:
        InputError: another kind of file, an unreadable one, objects instead of numbers, a missing key or
            several arrays.
    """
    if is_volume(path):
        return read_array(path, turned=turned)
    if path.suffix.lower() in PICTURES:
        return read_values(path)
    if not is_numpy(path):
        raise InputError(f"{path} must be one of {KINDS}; convert it")
    try:
        values = _numpy(path, key)
    except NUMPY_ERRORS as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path} must be a NumPy file of plain numbers, got: {reason_of(error, 120)}; save it with "
            "numpy.save or numpy.savez, without objects"
        ) from None
    if values.dtype.kind not in "biuf" or not values.size:
        raise InputError(f"{path} must hold numbers, got {values.dtype} of shape {values.shape}; convert it")
    return values


def _numpy(path: Path, key: str | None) -> Array:
    if path.suffix.lower() == ".npy":
        with path.open("rb") as file:
            if file.read(2) == _ARCHIVE:
                raise InputError(f"{path} must be a .npy file, got an archive; name it .npz")
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:  # closed also if damaged
        if isinstance(archive, np.ndarray):
            raise InputError(f"{path} must be a .npz archive, got one array; name it .npy")
        names = archive.files
        if key is None and len(names) != 1:
            raise InputError(f"{path} must hold one array, got {', '.join(names) or 'none'}; set key to one")
        name = names[0] if key is None else key
        if name not in names:
            raise InputError(f"{path} must hold {name!r}, got {', '.join(names) or 'none'}; correct key")
        return np.asarray(archive[name])
