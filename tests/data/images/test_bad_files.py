"""Each way in which a file is wrong: one line with the file, what must be and what came."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from seg_mia.data.base import SegmentationData
from seg_mia.data.sets.cityscapes import Cityscapes
from seg_mia.data.sets.dicom import Dicom
from seg_mia.data.sets.folder import Folder
from seg_mia.data.sets.nifti import Nifti
from seg_mia.errors import InputError
from tests.data.scans import AFFINE, patients, save
from tests.data.sets import test_cityscapes, test_dicom

Change = Callable[[Path], object]
SHAPE = (16, 16, 6)


def nifti(root: Path) -> Nifti:
    patients(root, "images/{}.nii.gz", "masks/{}.nii.gz", ids=(1,))
    return Nifti(root=str(root), members=2, nonmembers=2, size=8)


def folder(root: Path) -> Folder:
    rng = np.random.default_rng(0)
    for number in range(4):
        for part, pixels in (("images", rng.integers(0, 255, (12, 8, 3), dtype=np.uint8)), ("masks", mask())):
            (root / part).mkdir(parents=True, exist_ok=True)
            PillowImage.fromarray(pixels).save(root / part / f"{number}.png")
    return Folder(root=str(root), members=1, nonmembers=1, size=8, shadow_share=0)


def mask() -> Any:
    return (np.arange(96).reshape(12, 8) > 40).astype(np.uint8)


def dicom(root: Path) -> Dicom:
    test_dicom.patients(root)
    return Dicom(root=str(root), members=2, nonmembers=2, size=None)


def cityscapes(root: Path) -> Cityscapes:
    return test_cityscapes.small(test_cityscapes.make(root))


def half(name: str) -> Change:
    return lambda root: (root / name).write_bytes((root / name).read_bytes()[:-40])


def remove(*names: str) -> Change:
    def change(root: Path) -> None:
        for name in names:
            (root / name).unlink()

    return change


def volume(name: str, values: Any, **options: Any) -> Change:
    return lambda root: save(root / name, values, **options)


def picture(name: str, pixels: Any, mode: str | None = None) -> Change:
    def change(root: Path) -> None:
        made = PillowImage.fromarray(pixels)
        (made if mode is None else made.convert(mode)).save(root / name)

    return change


def edited(name: str, **changes: Any) -> Change:
    return lambda root: test_dicom.edit(root / name, **changes)


LABEL, ID = "masks/2.nii.gz", "gtFine/train/ulm/ulm_000001_000019_gtFine_labelIds.png"
CLEAR = np.dstack([mask()] * 3 + [np.full((12, 8), 9, np.uint8)])
WRONG: list[tuple[Callable[[Path], SegmentationData], Change, str]] = [
    (
        nifti,
        half("images/2.nii.gz"),
        r"images/2\.nii\.gz cannot be read as NIfTI \(.+\); check that it is complete",
    ),
    (nifti, half(LABEL), r"masks/2\.nii\.gz cannot be read as NIfTI \(.+\); check that it is complete"),
    (nifti, remove(LABEL), r"1 of 4 images have no mask \(2\); rename or remove"),
    (
        nifti,
        volume(LABEL, np.ones((16, 16, 5), np.uint8)),
        r"image's shape, got 16x16x5 for .*masks/2\.nii\.gz and 16x16x6 for .*images/2\.nii\.gz",
    ),
    (
        nifti,
        volume(LABEL, np.ones(SHAPE, np.uint8), affine=AFFINE @ np.diag([1, 1, 1.5, 1])),
        r"masks/2\.nii\.gz is 5 voxels away from .*images/2\.nii\.gz; resample",
    ),
    (
        nifti,
        volume("images/2.nii.gz", np.zeros((*SHAPE, 3), np.int16)),
        r"images/2\.nii\.gz must have 3 axes, got 16x16x6x3; use one time point",
    ),
    (
        nifti,
        volume(LABEL, np.full(SHAPE, 0.5, np.float32)),
        r"masks/2\.nii\.gz must hold label ids, whole numbers of 0 to 65535, got 0\.5 in axial slice 0",
    ),
    (
        nifti,
        volume(LABEL, np.full(SHAPE, 7, np.uint8)),
        r"masks/2\.nii\.gz must hold only the label ids 0, 1, got 7",
    ),
    (
        nifti,
        volume("images/2.nii.gz", np.zeros(SHAPE, np.int16), stated=False),
        r"images/2\.nii\.gz must state the orientation of its axes, its sform and qform are both empty",
    ),
    (
        nifti,
        volume("masks/2.nii", np.ones(SHAPE, np.uint8)),
        r"masks must hold one 2, got \.nii and \.nii\.gz",
    ),
    (cityscapes, picture(ID, np.full((32, 64), 77, np.uint8)), rf"{ID} must hold label ids 0 to 33, got 77"),
    (
        dicom,
        remove("3/DICOM_anon/i4.dcm", "3/Ground/liver_GT_003.png"),
        r"3/DICOM_anon must hold equidistant slices, got 8 mm from i5\.dcm to i3\.dcm instead of 4 mm",
    ),
    (
        dicom,
        edited("3/DICOM_anon/i4.dcm", Rows=4),
        r"3/DICOM_anon must hold .* one size, i4\.dcm has another Rows than the first file, got 4 and 5",
    ),
    (
        folder,
        picture("masks/1.bmp", mask()),
        r"masks must hold one 1, got 1\.(png|bmp) and 1\.(png|bmp); remove one",
    ),
    (folder, picture("masks/1.png", CLEAR), r"masks/1\.png must be opaque, got transparent pixels; flatten"),
    (folder, remove("masks/1.png"), r"1 of 4 images have no mask \(1\); rename or remove"),
    (
        folder,
        half("images/1.png"),
        r"images/1\.png must be a whole PNG, JPEG, TIFF or BMP file, got: .+; replace",
    ),
    (
        folder,
        picture("masks/1.png", mask().astype(np.uint16) * 999),
        r"masks/1\.png must hold class ids below 2 or 255 \(ignore\), got 999",
    ),
    (
        folder,
        picture("masks/1.png", np.stack([mask(), mask() * 0, mask() * 9], axis=2) * np.uint8(20)),
        r"masks/1\.png must be a grey or palette mask, got a colour one; save class ids",
    ),
    (
        folder,
        picture("masks/1.png", mask()[:6]),
        r"one size, got 8x12 for .*images/1\.png and 8x6 for .*masks/1\.png; replace one",
    ),
]


@pytest.mark.parametrize(("make", "change", "message"), WRONG)
def test_one_line_names_the_file_what_must_be_and_what_came(
    tmp_path: Path, make: Callable[[Path], SegmentationData], change: Change, message: str
) -> None:
    data = make(tmp_path / "root")
    change(tmp_path / "root")
    with pytest.raises(InputError, match=message) as caught:
        data.prepare_data()
    assert len(str(caught.value).splitlines()) == 1


def test_letters_for_axes_are_checked(tmp_path: Path) -> None:
    patients(tmp_path, "images/{}.nii.gz", "masks/{}.nii.gz", ids=(1,))
    for kind in ("images", "masks"):
        values = np.ones(SHAPE, np.uint8)
        save(tmp_path / kind / "2.nii.gz", values, stated=False)
    data = Nifti(root=str(tmp_path), members=2, nonmembers=2, unoriented="LLS")
    with pytest.raises(
        InputError, match="unoriented must have one letter each of L R, P A and I S, .* got 'LLS'"
    ):
        data.prepare_data()


def test_sixteen_bits_palettes_and_rotated_jpegs_are_read_as_they_are_meant(tmp_path: Path) -> None:
    data = folder(tmp_path)
    wide = np.arange(96, dtype=np.uint16).reshape(12, 8) * 600
    PillowImage.fromarray(wide).save(tmp_path / "images" / "0.png")
    palette = PillowImage.fromarray(mask() * np.uint8(200), "P")
    palette.putpalette([0, 0, 0] + [9, 200, 30] * 255)
    indices = PillowImage.fromarray(mask(), "P")
    indices.putpalette([7, 8, 9, 200, 100, 50])
    indices.save(tmp_path / "masks" / "0.png")
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    shown = np.zeros((12, 8, 3), np.uint8)
    shown[:6] = 250
    (tmp_path / "images" / "1.png").unlink()
    PillowImage.fromarray(np.rot90(shown).copy()).save(tmp_path / "images" / "1.jpg", exif=exif, quality=95)
    data.size = None
    data.prepare_data()
    image, first = data.cached.images[0], data.cached.masks[0]
    assert np.abs(image[..., 0] - wide / 65535).max() < 1e-6
    assert np.array_equal(first, mask())
    upright = data.cached.images[1][..., 0]
    assert upright[:5].min() > 0.8
    assert upright[7:].max() < 0.2
