"""NRRD and MetaImage volumes: orientation against what was written, refusals, and damaged files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
from numpy.testing import assert_allclose, assert_array_equal

from seg_mia.data.volumes.itk_file import ItkFile
from seg_mia.errors import InputError
from tests.data.scans import AFFINE, SHAPE, SPACING, ramp

itk: Any = SimpleITK


def written(path: Path, values: Any, direction: list[list[float]] | None = None) -> Path:
    """Write voxels whose array axes run along the columns of a direction in LPS."""
    image = itk.GetImageFromArray(values.transpose())
    image.SetSpacing(SPACING)
    if direction is not None:
        image.SetDirection(np.array(direction).ravel().tolist())
    itk.WriteImage(image, str(path))
    return path


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_axes_are_turned_to_ras(tmp_path: Path, ending: str) -> None:
    # Written along right, front and up, which LPS counts downwards on two axes.
    ras = written(tmp_path / f"ras{ending}", ramp(), [[-1, 0, 0], [0, -1, 0], [0, 0, 1]])
    volume = ItkFile(ras).read()
    assert_array_equal(volume.values, ramp())
    affine = ItkFile(ras).grid().affine
    assert affine is not None
    assert_allclose(affine, AFFINE, atol=1e-6)
    lps = written(tmp_path / f"lps{ending}", ramp()[::-1, ::-1])
    assert_array_equal(ItkFile(lps).read().values, ramp())
    assert ItkFile(lps).grid().shape == SHAPE
    # Axes in another order: the first runs up, the second to the left, the third to the front.
    mixed = written(
        tmp_path / f"sla{ending}", ramp().transpose(2, 0, 1)[:, ::-1], [[0, 1, 0], [0, 0, -1], [1, 0, 0]]
    )
    assert_array_equal(ItkFile(mixed).read().values, ramp())


@pytest.mark.parametrize(
    ("ending", "old", "new", "message"),
    [
        (".nrrd", b"space: ", b"# ace: ", "must state the orientation"),
        (".nrrd", b"encoding: ", b"data file: a.raw\nencoding: ", "must hold its voxels"),
        (".mha", b"TransformMatrix", b"TransformMatrxx", "must state the orientation"),
        (".mha", b"ElementDataFile = LOCAL", b"ElementDataFile = /etc/passwd", "must hold its voxels"),
    ],
)
def test_what_would_be_misread_is_refused(
    tmp_path: Path, ending: str, old: bytes, new: bytes, message: str
) -> None:
    path = written(tmp_path / f"a{ending}", ramp())
    path.write_bytes(path.read_bytes().replace(old, new))
    with pytest.raises(InputError, match=message):
        ItkFile(path).read()


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_truncated_and_other_files_are_one_line(tmp_path: Path, ending: str) -> None:
    path = written(tmp_path / f"a{ending}", ramp())
    whole = path.read_bytes()
    for content in (b"", b"\0" * 100, whole[:20], whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(InputError) as caught:
            ItkFile(path).read()
        assert "\n" not in str(caught.value)
    colour = itk.GetImageFromArray(np.zeros((3, 4, 5, 3), np.uint8), isVector=True)
    itk.WriteImage(colour, str(path))
    with pytest.raises(InputError, match="grey volume"):
        ItkFile(path).read()
