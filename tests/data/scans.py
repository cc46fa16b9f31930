"""Tiny volumes in the true format, for the tests of all readers of volumes."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

SHAPE = (6, 5, 4)
"""Voxels from left to right, back to front and feet to head."""
SPACING = (2.0, 3.0, 4.0)
AFFINE = np.diag([*SPACING, 1.0])


def ramp(shape: tuple[int, int, int] = SHAPE) -> NDArray[np.int16]:
    """Return the value x + 10 y + 100 z everywhere."""
    x, y, z = np.indices(shape, dtype=np.int16)
    values: NDArray[np.int16] = x + np.int16(10) * y + np.int16(100) * z
    return values


def save(
    path: Path,
    values: NDArray[Any],
    codes: str = "RAS",
    *,
    affine: NDArray[Any] = AFFINE,
    stated: bool = True,
) -> Path:
    """Write RAS voxels with axes that run as `codes` say; the header says so, unless it is not to."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if codes == "RAS":  # also what is no volume
        image: Any = nibabel.Nifti1Image(values, affine)  # type: ignore[no-untyped-call]
    else:
        orientations: Any = nibabel.orientations
        turn = orientations.ornt_transform(orientations.axcodes2ornt("RAS"), orientations.axcodes2ornt(codes))
        turned = orientations.apply_orientation(values, turn)
        back = affine @ orientations.inv_ornt_aff(turn, values.shape)
        image = nibabel.Nifti1Image(turned, back)  # type: ignore[no-untyped-call]
    if not stated:
        image.header.set_sform(None, 0)
        image.header.set_qform(None, 0)
        image = nibabel.Nifti1Image(np.asarray(image.dataobj), None, image.header)  # type: ignore[no-untyped-call]
    nibabel.save(image, path)
    return path


def patients(
    root: Path, images: str, labels: str, *, count: int = 4, ids: tuple[int, ...] = (1, 2), depth: int = 6
) -> Path:
    """Write volumes `images.format(n)` and labels `labels.format(n)`, with each id on the upper slices."""
    rng = np.random.default_rng(0)
    for number in range(1, count + 1):
        values = rng.integers(-200, 300, (16, 16, depth)).astype(np.int16)
        label = np.zeros(values.shape, np.uint8)
        for place, i in enumerate(ids):
            label[4:12, place % 16, 2:] = i
        save(root / images.format(number), values)
        save(root / labels.format(number), label)
    return root
