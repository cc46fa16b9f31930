"""NIfTI: each header field that changes what the stored numbers mean, against the bytes themselves."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.testing import assert_allclose

from seg_mia.data.volumes.nifti_file import NiftiFile, read_volume
from seg_mia.errors import InputError
from tests.data.scans import AFFINE, SHAPE, ramp, save


def patched(path: Path, *changes: tuple[int, bytes], values: Any = None) -> Path:
    """Write a volume with other bytes at some places of its header (nifti1.h)."""
    save(path, ramp() if values is None else values)
    data = bytearray(path.read_bytes())
    for at, content in changes:
        data[at : at + len(content)] = content
    path.write_bytes(bytes(data))
    return path


def shorts(*values: int) -> bytes:
    return np.array(values, "<i2").tobytes()


def floats(*values: float) -> bytes:
    return np.array(values, "<f4").tobytes()


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_types_and_byte_orders_are_those_of_the_bytes(tmp_path: Path, kind: str, order: str) -> None:
    values = (ramp() % 100).astype(f"{order}{kind}")
    header: Any = nibabel.Nifti1Header(endianness=order)  # type: ignore[no-untyped-call]
    header.set_data_dtype(values.dtype)
    image: Any = nibabel.Nifti1Image(values, AFFINE, header)  # type: ignore[no-untyped-call]
    nibabel.save(image, tmp_path / "a.nii")
    data = (tmp_path / "a.nii").read_bytes()
    assert np.array_equal(np.frombuffer(data, f"{order}i2", 3, 42), SHAPE)
    by_hand = np.frombuffer(data, values.dtype, values.size, 352).reshape(SHAPE, order="F")
    assert np.array_equal(read_volume(tmp_path / "a.nii"), by_hand)


@pytest.mark.parametrize(
    ("slope", "intercept", "want"),
    [(2, -1024, (2, -1024)), (-1, 5, (-1, 5)), (0, 7, (1, 0)), (float("nan"), 7, (1, 0))],
)
def test_slope_and_intercept(tmp_path: Path, slope: float, intercept: float, want: tuple[int, int]) -> None:
    path = patched(tmp_path / "a.nii", (112, floats(slope, intercept)))
    assert np.array_equal(read_volume(path), want[0] * ramp().astype(np.float32) + want[1])
    label = NiftiFile(patched(tmp_path / "b.nii", (112, floats(2, 1)))).read()
    assert label.labels("axial", 1).max() == 2 * 145 + 1


@pytest.mark.parametrize(
    "change",
    [
        (124, floats(100, 50)),  # cal_max, cal_min
        (123, bytes([1])),  # xyzt_units: metres
        (68, shorts(1002)),  # intent_code: a label
        (39, bytes([0b111001])),  # dim_info
        (122, bytes([3])),  # slice_code
        (132, floats(2.5, 9)),  # slice_duration, toffset
        (140, b"\x09\0\0\0\x01\0\0\0"),  # glmax, glmin, unused
        (148, b"a description"),
        (72, shorts(8)),  # bitpix, which datatype decides
        (40, shorts(5, 6, 5, 4, 1, 1, 1, 1)),  # dim with axes of one voxel
    ],
)
def test_fields_that_say_nothing_of_the_numbers_change_nothing(
    tmp_path: Path, change: tuple[int, bytes]
) -> None:
    assert np.array_equal(read_volume(patched(tmp_path / "a.nii", change)), ramp())


def test_nifti_two_and_voxels_further_behind(tmp_path: Path) -> None:
    image: Any = nibabel.Nifti2Image(ramp(), AFFINE)  # type: ignore[no-untyped-call]
    nibabel.save(image, tmp_path / "a.nii")
    assert np.array_equal(read_volume(tmp_path / "a.nii"), ramp())
    data = save(tmp_path / "b.nii", ramp()).read_bytes()
    moved = data[:108] + floats(416) + data[112:352] + bytes(64) + data[352:]
    (tmp_path / "b.nii").write_bytes(moved)
    assert np.array_equal(read_volume(tmp_path / "b.nii"), ramp())


@pytest.mark.parametrize("magic", [b"n+1\0", b"ni1\0"])
def test_voxels_that_begin_within_the_header_are_refused(tmp_path: Path, magic: bytes) -> None:
    path = patched(tmp_path / "a.nii", (344, magic), (108, floats(0)))
    for read in (read_volume, lambda path: NiftiFile(path).grid()):
        with pytest.raises(InputError, match=r"a\.nii must hold its voxels behind .* got vox_offset 0"):
            read(path)


@pytest.mark.parametrize(
    ("code", "message"), [(1, "cannot be read"), (128, "numbers"), (2304, "numbers"), (32, "numbers")]
)
def test_bits_colours_and_complex_numbers_are_refused(tmp_path: Path, code: int, message: str) -> None:
    path = patched(tmp_path / "a.nii", (70, shorts(code)), values=ramp().astype(np.float64))
    with pytest.raises(InputError, match=rf"a\.nii .*{message}"):
        read_volume(path)


def quaternion(path: Path, *, sform: int, b: float, qfac: float) -> Path:
    """Write a volume with a qform, of no turn (b 0) or half a turn about the left-right axis (b 1)."""
    changes = (252, shorts(1, sform)), (256, floats(b, 0, 0)), (76, floats(qfac))
    return patched(path, *changes)


@pytest.mark.parametrize(("b", "qfac", "want"), [(0, 1, "RAS"), (1, 1, "RPI"), (0, -1, "RAI")])
def test_a_qform_alone_turns_the_volume(tmp_path: Path, b: float, qfac: float, want: str) -> None:
    path = quaternion(tmp_path / "a.nii", sform=0, b=b, qfac=qfac)
    turned = ramp()[:, ::-1] if want[1] == "P" else ramp()
    assert np.array_equal(read_volume(path), turned[..., ::-1] if want[2] == "I" else turned)


def test_sform_and_qform_that_turn_it_differently_are_refused(tmp_path: Path) -> None:
    assert np.array_equal(read_volume(quaternion(tmp_path / "a.nii", sform=1, b=0, qfac=1)), ramp())
    path = quaternion(tmp_path / "b.nii", sform=1, b=1, qfac=1)
    for read in (read_volume, lambda path: NiftiFile(path).grid()):
        with pytest.raises(
            InputError, match=r"b\.nii must state one orientation .* got RAS in its sform and RPI in"
        ):
            read(path)


def two_positions(path: Path, *, shift: float, code: int = 2) -> NiftiFile:
    """A volume with a qform that is the sform moved to the right, in mm."""
    image: Any = nibabel.Nifti1Image(ramp(), AFFINE)  # type: ignore[no-untyped-call]
    moved = AFFINE.copy()
    moved[0, 3] += shift
    image.set_qform(moved, 1)
    image.set_sform(AFFINE, code)
    nibabel.save(image, path)
    return NiftiFile(path)


@pytest.mark.parametrize(("shift", "ambiguous"), [(0.0, False), (0.1, False), (0.5, True)])
def test_two_positions_of_one_volume_are_told_apart_beyond_a_tenth_of_a_voxel(
    tmp_path: Path, shift: float, ambiguous: bool
) -> None:
    scan = two_positions(tmp_path / "a.nii", shift=shift)  # voxels of 2 mm
    assert scan.ambiguous() == ambiguous
    affine = scan.grid().affine
    assert affine is not None
    assert_allclose(affine, AFFINE)  # the sform, as of nibabel
