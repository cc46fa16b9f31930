import gzip
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from seg_mia.data.volumes.geometry import Axis, Scan, Volume, VolumeCache, check_same
from seg_mia.data.volumes.nifti_file import FlatFile, NiftiFile, axial, list_volumes, read_volume
from seg_mia.errors import InputError
from tests.data.scans import AFFINE, SHAPE, ramp, save

CODES = ["RAS", "LPS", "LAS", "SRA", "AIL", "PSR"]


@pytest.mark.parametrize("codes", CODES)
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_axes_in_any_order_come_out_the_same(tmp_path: Path, codes: str, ending: str) -> None:
    path = save(tmp_path / f"a{ending}", ramp(), codes)
    assert np.array_equal(read_volume(path), ramp())
    grid = NiftiFile(path).grid()
    assert grid.shape == SHAPE
    assert grid.affine is not None
    assert np.allclose(grid.affine, AFFINE)


@pytest.mark.parametrize(
    ("axis", "number", "top_left", "right_of_it", "below_it"),
    [
        ("axial", 3, 345, 344, 335),  # right front; towards the left; towards the back
        ("coronal", 2, 325, 324, 225),  # right top; towards the left; towards the feet
        ("sagittal", 1, 341, 331, 241),  # front top; towards the back; towards the feet
    ],
)
def test_slices_lie_as_radiologists_look_at_them(
    tmp_path: Path, axis: Axis, number: int, top_left: int, right_of_it: int, below_it: int
) -> None:
    flat = NiftiFile(save(tmp_path / "a.nii", ramp(), "LPS")).read().plane(axis, number)
    assert [flat[0, 0], flat[0, 1], flat[1, 0]] == [top_left, right_of_it, below_it]
    if axis == "axial":
        assert np.array_equal(axial(ramp().astype(np.float32), number), flat)


def test_numbers_are_scaled_as_the_header_says(tmp_path: Path) -> None:
    image: Any = nibabel.Nifti1Image(ramp(), AFFINE)  # type: ignore[no-untyped-call]
    image.header.set_slope_inter(2, -1024)
    nibabel.save(image, tmp_path / "a.nii.gz")
    stored = np.asarray(nibabel.load(tmp_path / "a.nii.gz").dataobj)  # type: ignore[attr-defined]
    assert stored.min() == -1024 + 0
    assert np.array_equal(read_volume(tmp_path / "a.nii.gz"), 2.0 * ramp() - 1024)
    assert NiftiFile(tmp_path / "a.nii.gz").read().plane("axial", 0).min() == -1024


def test_a_file_that_is_not_compressed_is_mapped(tmp_path: Path) -> None:
    values = NiftiFile(save(tmp_path / "a.nii", ramp())).read().values
    base = values
    while base is not None and not isinstance(base, np.memmap):
        base = base.base  # type: ignore[assignment]
    assert isinstance(base, np.memmap)


def test_axes_of_one_voxel_at_the_end_do_no_harm(tmp_path: Path) -> None:
    assert np.array_equal(read_volume(save(tmp_path / "a.nii.gz", ramp()[..., None])), ramp())


@pytest.mark.parametrize(
    ("shape", "got"), [((3, 4, 2, 5), "3x4x2x5"), ((3, 4), "3x4"), ((3, 4, 2, 1, 3), "3x4x2x1x3")]
)
def test_other_numbers_of_axes_are_refused(tmp_path: Path, shape: tuple[int, ...], got: str) -> None:
    path = save(tmp_path / "a.nii.gz", np.zeros(shape, np.int16))
    for read in (read_volume, lambda path: NiftiFile(path).grid()):
        with pytest.raises(InputError, match=f"must have 3 axes, got {got}; use one time point"):
            read(path)


def test_colours_are_refused(tmp_path: Path) -> None:
    colours = np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    with pytest.raises(InputError, match="must hold numbers, got .*; convert"):
        NiftiFile(save(tmp_path / "a.nii", colours)).read()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(tmp_path: Path, value: float) -> None:
    values = ramp().astype(np.float32)
    values[1, 2, 3] = value
    path = save(tmp_path / "a.nii.gz", values)
    with pytest.raises(InputError, match="must hold finite values, got NaN or infinity; replace"):
        read_volume(path)
    volume = NiftiFile(path).read()
    assert volume.plane("axial", 2).shape == (5, 6)
    with pytest.raises(InputError, match="NaN or infinity in axial slice 3; replace"):
        volume.plane("axial", 3)


@pytest.mark.parametrize("keep", [0, 20, 200, 0.5, 0.9])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_half_a_file_is_one_clear_line(tmp_path: Path, keep: float, ending: str) -> None:
    rng = np.random.default_rng(0)
    path = save(tmp_path / f"a{ending}", rng.integers(-999, 999, (12, 12, 12)).astype(np.int16))
    data = path.read_bytes()
    path.write_bytes(data[: int(keep if keep >= 1 else keep * len(data))])
    with pytest.raises(InputError, match=r"a\.nii.* cannot be read as NIfTI \(.*\); .* copy") as caught:
        read_volume(path)
    assert "\n" not in str(caught.value)


def test_a_garbled_archive_and_another_file_are_one_clear_line(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = save(tmp_path / "a.nii.gz", rng.integers(-999, 999, (12, 12, 12)).astype(np.int16))
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 40] = b"x" * 40
    (tmp_path / "b.nii.gz").write_bytes(bytes(data))
    (tmp_path / "c.nii").write_bytes(b"not a volume" * 99)
    (tmp_path / "d.nii.gz").write_bytes(gzip.compress(b"not a volume" * 99))
    for name in ("b.nii.gz", "c.nii", "d.nii.gz", "missing.nii"):
        with pytest.raises(InputError, match="cannot be read as NIfTI"):
            read_volume(tmp_path / name)


def test_a_header_that_promises_too_much_is_one_clear_line(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", ramp())
    data = bytearray(path.read_bytes())
    data[42:48] = np.array([32767, 32767, 32767], "<i2").tobytes()
    for name, written in (("b.nii", bytes(data)), ("b.nii.gz", gzip.compress(bytes(data)))):
        (tmp_path / name).write_bytes(written)
        with pytest.raises(InputError, match="cannot be read as NIfTI"):
            NiftiFile(tmp_path / name).read()


def test_a_file_that_does_not_say_how_it_lies_needs_to_be_told(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", ramp(), "LPS", stated=False)
    with pytest.raises(
        InputError, match="sform and qform are both empty; .* or set the orientation: unoriented LAS"
    ):
        read_volume(path)
    told = NiftiFile(path, "LPS")
    assert np.array_equal(told.read().values, ramp())
    assert told.grid().shape == SHAPE
    assert not np.array_equal(NiftiFile(path, "RAS").read().values, ramp())
    stated = save(tmp_path / "b.nii.gz", ramp(), "SRA")
    assert np.array_equal(NiftiFile(stated, "LPS").read().values, ramp())


@pytest.mark.parametrize("letters", ["", "LA", "LLS", "LRS", "xyz", "LASR"])
def test_letters_that_are_no_orientation_are_refused(tmp_path: Path, letters: str) -> None:
    path = save(tmp_path / "a.nii.gz", ramp(), stated=False)
    with pytest.raises(
        InputError, match=f"one letter each of L R, P A and I S, such as LAS, got '{letters}'"
    ):
        NiftiFile(path, letters).grid()


@pytest.mark.parametrize("broken", [np.diag([0.0, 3, 4, 1]), np.full((4, 4), np.nan)])
def test_a_matrix_without_three_directions_is_refused(tmp_path: Path, broken: np.ndarray) -> None:
    path = save(tmp_path / "a.nii", ramp())
    data = bytearray(path.read_bytes())
    data[280:328] = broken[:3].astype("<f4").tobytes()  # srow_x, srow_y, srow_z
    path.write_bytes(bytes(data))
    with pytest.raises(InputError, match="got a singular matrix; correct its header"):
        NiftiFile(path).grid()


def test_a_picture_is_shown_as_it_lies_in_its_file(tmp_path: Path) -> None:
    picture = np.arange(12, dtype=np.int16).reshape(3, 4)  # rows of a NIfTI file run along its first axis
    for name, values in (("a.nii", picture), ("b.nii.gz", picture[..., None])):
        flat = FlatFile(save(tmp_path / name, values))
        assert flat.grid().shape == (3, 4, 1)
        assert np.array_equal(flat.read().plane("axial", 0), picture.T)
    with pytest.raises(InputError, match="must have 2 axes, got 6x5x4"):
        FlatFile(save(tmp_path / "c.nii", ramp())).grid()


def test_labels_are_whole_numbers(tmp_path: Path) -> None:
    values = ramp().astype(np.float64)
    volume = NiftiFile(save(tmp_path / "a.nii", values)).read()
    assert volume.labels("axial", 1).dtype == np.uint16
    assert volume.labels("axial", 1).max() == 145
    for wrong, shown in ((0.5, "0.5"), (-1, "-1"), (70000, "70000")):
        values[0, 0, 2] = wrong
        bad = NiftiFile(save(tmp_path / "b.nii", values)).read()
        with pytest.raises(
            InputError, match=f"whole numbers of 0 to 65535, got {shown} in axial slice 2; use"
        ):
            bad.labels("axial", 2)


def test_image_and_label_must_be_one_grid(tmp_path: Path) -> None:
    image = NiftiFile(save(tmp_path / "image.nii", ramp()))
    assert check_same(image, NiftiFile(save(tmp_path / "a.nii", ramp(), "LPS"))).shape == SHAPE
    moved = AFFINE.copy()
    moved[0, 3] = 0.1
    check_same(image, NiftiFile(save(tmp_path / "b.nii", ramp(), affine=moved)))
    moved[0, 3] = 2
    with pytest.raises(InputError, match=r"c\.nii is 1 voxels away .*image\.nii; resample"):
        check_same(image, NiftiFile(save(tmp_path / "c.nii", ramp(), affine=moved)))
    with pytest.raises(InputError, match=r"got 6x5x3 for .*d\.nii and 6x5x4 for .*image\.nii, right x front"):
        check_same(image, NiftiFile(save(tmp_path / "d.nii", ramp()[..., :3])))


def test_volumes_are_listed_by_name(tmp_path: Path) -> None:
    for name in ("b.nii.gz", "a.NII", "._a.nii", "notes.txt", "sub.nii/x"):
        path = tmp_path / "root" / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert list(list_volumes(tmp_path / "root", "images")) == ["a", "b"]
    (tmp_path / "root" / "images" / "b.nii").touch()
    with pytest.raises(InputError, match="must hold one b, got .nii and .nii.gz; remove"):
        list_volumes(tmp_path / "root", "images")
    (tmp_path / "root" / "none").mkdir()
    with pytest.raises(InputError, match="none must hold volumes .*, found none; correct"):
        list_volumes(tmp_path / "root", "none")
    with pytest.raises(InputError, match="must be a folder, found none; correct the root or unpack"):
        list_volumes(tmp_path / "root", "missing")


@pytest.mark.parametrize("relative", ["../images", "/etc", "link"])
def test_nothing_outside_of_the_root_is_listed(tmp_path: Path, relative: str) -> None:
    save(tmp_path / "images" / "a.nii", ramp())
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "images")
    with pytest.raises(InputError, match="paths must stay inside"):
        list_volumes(tmp_path / "root", relative)


def test_a_link_to_a_volume_outside_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "a.nii", ramp())
    (tmp_path / "root" / "images").mkdir(parents=True)
    (tmp_path / "root" / "images" / "a.nii").symlink_to(tmp_path / "a.nii")
    with pytest.raises(InputError, match="paths must stay inside"):
        list_volumes(tmp_path / "root", "images")


def test_the_volumes_read_last_stay_on_the_shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = list[str]()
    read = NiftiFile.read

    def counted(self: NiftiFile) -> Volume:
        reads.append(self.path.stem)
        return read(self)

    monkeypatch.setattr(NiftiFile, "read", counted)
    scans: list[Scan] = [NiftiFile(save(tmp_path / f"{name}.nii", ramp())) for name in "abc"]
    shelf = VolumeCache(keep=2)
    for place in (0, 1, 0, 1, 2, 1, 0):
        shelf.volume(scans[place])
    assert reads == ["a", "b", "c", "a"]
    shelf.clear()
    shelf.volume(scans[0])
    assert len(reads) == 5
