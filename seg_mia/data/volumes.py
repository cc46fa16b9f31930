"""Reading medical volumes; the only place that imports a medical reader."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_mia.errors import InputError

SUFFIXES = (".nii", ".nii.gz")


def is_volume(path: Path) -> bool:
    """Say whether a file's name is that of a NIfTI volume."""
    return path.name.lower().endswith(SUFFIXES)


def read_volume(path: Path) -> NDArray[np.float32]:
    """Return a NIfTI volume (X, Y, Z) in its nearest RAS orientation, scaled as its header says.

    Raises InputError for a file that cannot be read or has no three axes.
    """
    import nibabel

    try:
        image: Any = nibabel.as_closest_canonical(nibabel.load(path))  # type: ignore[no-untyped-call]
        values = np.asarray(image.dataobj, dtype=np.float32)
    except (OSError, ValueError, EOFError, nibabel.filebasedimages.ImageFileError) as error:
        reason = " ".join(str(error).split())[:150]
        raise InputError(f"{path} cannot be read as NIfTI ({reason}); is it complete?") from None
    values = values.squeeze()
    if values.ndim != 3:
        raise InputError(f"{path} must be a volume of three axes, got {values.shape}; take one time point")
    if not np.isfinite(values).all():
        raise InputError(f"{path} must hold finite values, got NaN or infinity; replace them first")
    return values


def axial(volume: NDArray[np.float32], number: int) -> NDArray[np.float32]:
    """Return an axial slice (H, W) as radiologists look at it: front up, the patient's right on the left.

    Raises InputError for a number outside the volume.
    """
    if not 0 <= number < volume.shape[2]:
        raise InputError(f"slice must lie in 0 .. {volume.shape[2] - 1}, got {number}; choose another")
    return np.ascontiguousarray(volume[::-1, ::-1, number].T)
