"""NIfTI, NRRD and MetaImage files of SimpleITK and nibabel, voxel by voxel against SimpleITK's own places."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK
from numpy.testing import assert_allclose

from seg_mia.data.volumes.geometry import Scan
from seg_mia.data.volumes.itk_file import ItkFile, is_itk
from seg_mia.data.volumes.nifti_file import NiftiFile
from tests.data.itk_check import ORIENTATIONS, assert_same_voxels, direction, itk_image
from tests.data.scans import ramp


def scan_of(path: Path) -> Scan:
    return ItkFile(path) if is_itk(path) else NiftiFile(path)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("letters", ORIENTATIONS)
def test_simpleitk_writes_axes_in_any_order_straight_and_oblique(
    tmp_path: Path, letters: str, ending: str
) -> None:
    for turn in (0.0, 0.3):
        image = itk_image(ramp(), letters, turn=turn)
        SimpleITK.WriteImage(image, str(tmp_path / f"a{ending}"))
        assert_same_voxels(scan_of(tmp_path / f"a{ending}"), image)


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8"])
def test_simpleitk_writes_all_types_compressed_and_not(tmp_path: Path, kind: str, ending: str) -> None:
    values = ramp((3, 2, 2)).astype(kind)
    for compressed in (False, True):
        image = itk_image(values, "RAS")
        SimpleITK.WriteImage(image, str(tmp_path / f"a{ending}"), useCompression=compressed)
        assert_same_voxels(scan_of(tmp_path / f"a{ending}"), image)


def by_nibabel(path: Path, letters: str, *, sform: int, qform: int, turn: float = 0.0) -> Any:
    """Write a ramp with matrices of these codes, 0 for none, and return what SimpleITK reads."""
    affine = np.eye(4)
    affine[:3, :3] = direction(letters, turn) * [2, 3, 4]
    affine[:3, 3] = [-7, 11, 30]
    affine[:2] *= -1  # NIfTI counts to the right and the front
    image: Any = nibabel.Nifti1Image(ramp(), None)  # type: ignore[no-untyped-call]
    image.header["pixdim"][1:4] = 2, 3, 4
    for code, store in ((sform, image.set_sform), (qform, image.set_qform)):
        store(affine if code else None, code)
    nibabel.save(image, path)
    return SimpleITK.ReadImage(str(path))


@pytest.mark.parametrize("letters", ORIENTATIONS)
@pytest.mark.parametrize(("sform", "qform"), [(1, 0), (2, 0), (4, 0), (0, 1), (0, 2), (1, 1), (2, 1), (1, 4)])
def test_nibabel_writes_sform_qform_or_both(tmp_path: Path, letters: str, sform: int, qform: int) -> None:
    for turn in (0.0, 0.3):
        image = by_nibabel(tmp_path / "a.nii.gz", letters, sform=sform, qform=qform, turn=turn)
        assert_allclose(image.GetDirection(), direction(letters, turn).ravel(), atol=1e-5)
        assert_same_voxels(NiftiFile(tmp_path / "a.nii.gz"), image)


@pytest.mark.parametrize("stored", ["u1", "i2", "f4"])
def test_nibabel_scales_floats_into_whole_numbers(tmp_path: Path, stored: str) -> None:
    values = ramp().astype(np.float64) * 0.37 - 11
    image: Any = nibabel.Nifti1Image(values, np.diag([2.0, 3, 4, 1]))  # type: ignore[no-untyped-call]
    image.set_data_dtype(np.dtype(stored))
    nibabel.save(image, tmp_path / "a.nii.gz")
    scan = NiftiFile(tmp_path / "a.nii.gz")
    assert_same_voxels(scan, SimpleITK.ReadImage(str(tmp_path / "a.nii.gz")))
    volume = scan.read()
    step = max(volume.slope if stored != "f4" else 0, 1e-4)
    assert np.abs(volume.values * volume.slope + volume.intercept - values).max() <= step
