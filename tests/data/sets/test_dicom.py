import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image as PillowImage
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless

from seg_mia.data.sets.dicom import Dicom
from seg_mia.data.sets.volumes import DicomVolumes
from seg_mia.data.volumes.dicom_file import DicomSeries
from seg_mia.data.volumes.geometry import check_same
from seg_mia.data.volumes.nifti_file import NiftiFile
from seg_mia.errors import InputError
from tests.data.scans import SHAPE, ramp, save

UID = "1.2.826.0.1.3680043.8.498.1"
ROW, COLUMN, STEP = np.array([2.0, 0, 0]), np.array([0, 3.0, 0]), np.array([0, 0, 4.0])
"""The way from pixel to pixel to the patient's left, and back, and from slice to slice up, in mm."""


def write(path: Path, pixels: Any, position: Any, **changes: Any) -> Path:
    """Write one slice in HU as a scanner does: value = stored * 0.5 - 1000."""
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = changes.pop("syntax", ExplicitVRLittleEndian)
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = pydicom.uid.UID(f"{UID}.9")
    file = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    stored = np.rint((pixels.astype(float) + 1000) / 0.5).astype(np.uint16)
    values = {
        "Modality": "CT",
        "SOPClassUID": meta.MediaStorageSOPClassUID,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "SeriesInstanceUID": UID,
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
        "PixelSpacing": [3, 2],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "ImagePositionPatient": [float(each) for each in position],
        "RescaleSlope": 0.5,
        "RescaleIntercept": -1000,
        "PixelData": stored.tobytes(),
    }
    for name, value in (values | changes).items():
        if value is not None:
            setattr(file, name, value)
    file.save_as(path, enforce_file_format=True)
    return path


def series(folder: Path, count: int = SHAPE[2], **changes: Any) -> DicomSeries:
    """A ramp as axial slices, files named against their order in the patient."""
    values = ramp((*SHAPE[:2], count))
    files = [
        write(folder / f"i{count - z}.dcm", values[::-1, ::-1, z].T, 10 + z * STEP, **changes)
        for z in range(count)
    ]
    return DicomSeries(tuple(sorted(files)))


def edit(path: Path, **changes: Any) -> None:
    file = pydicom.dcmread(path)
    with warnings.catch_warnings(action="ignore"):  # what is against the rules is to be written
        for name, value in changes.items():
            if value is None:
                delattr(file, name)
            else:
                setattr(file, name, value)
        file.save_as(path)


def patients(root: Path, count: int = 4) -> Path:
    """Patients as CHAOS has them, the label on the two upper slices of six."""
    for number in range(1, count + 1):
        one = series(root / str(number) / "DICOM_anon", 6, PatientID=f"p{number}")
        assert len(one.slices) == 6
        for place in range(6):  # as the files' names: the first lies highest
            mask = np.zeros((SHAPE[1], SHAPE[0]), np.uint8)
            mask[0, 0] = 255 if place < 2 else 0
            path = root / str(number) / "Ground" / f"liver_GT_{place:03d}.png"
            path.parent.mkdir(exist_ok=True)
            PillowImage.fromarray(mask).save(path)
    return root


def small(root: Path, **options: Any) -> Dicom:
    settings: dict[str, Any] = {"root": str(root), "size": None, "members": 2, "nonmembers": 2}
    data = Dicom(**(settings | options))
    data.setup()
    return data


def test_slices_are_sorted_by_place_and_given_in_hounsfield_units(tmp_path: Path) -> None:
    volume = series(tmp_path).read()
    assert (volume.slope, volume.intercept) == (0.5, -1000)
    for number in range(SHAPE[2]):
        assert np.array_equal(volume.plane("axial", number), ramp()[::-1, ::-1, number].T)


def test_the_grid_is_that_of_the_same_volume_in_nifti(tmp_path: Path) -> None:
    affine = np.diag([2.0, 3, 4, 1])
    affine[:3, 3] = [-10 - 5 * 2, -10 - 4 * 3, 10]  # DICOM's first pixel lies right and in front
    image = series(tmp_path)
    label = NiftiFile(save(tmp_path / "a.nii.gz", ramp(), "LPS", affine=affine))
    assert check_same(image, label).shape == SHAPE
    assert np.array_equal(image.read().plane("coronal", 2), label.read().plane("coronal", 2))
    affine[0, 3] += 1
    with pytest.raises(InputError, match="label must have its image's position"):
        check_same(image, NiftiFile(save(tmp_path / "b.nii.gz", ramp(), affine=affine)))


def test_sagittal_series_are_turned_like_others(tmp_path: Path) -> None:
    files = [
        write(
            tmp_path / f"{x}.dcm",
            ramp()[x, ::-1, ::-1].T,
            [-2.0 * x, 0, 0],
            ImageOrientationPatient=[0, 1, 0, 0, 0, -1],
            PixelSpacing=[4, 3],
        )
        for x in range(SHAPE[0])
    ]
    volume = DicomSeries(tuple(files)).read()
    assert np.array_equal(volume.plane("axial", 1), ramp()[::-1, ::-1, 1].T)


def test_slopes_that_differ_from_slice_to_slice_are_applied_to_each(tmp_path: Path) -> None:
    one = series(tmp_path)
    stored = np.zeros((SHAPE[1], SHAPE[0]), np.uint16) + 7
    edit(one.slices[0], RescaleSlope=2, RescaleIntercept=-10, PixelData=stored.tobytes())  # the highest
    volume = one.read()
    assert (volume.plane("axial", 3) == 4).all()
    assert np.array_equal(volume.plane("axial", 0), ramp()[::-1, ::-1, 0].T)


def test_only_ct_needs_a_scale(tmp_path: Path) -> None:
    one = series(tmp_path / "a", RescaleSlope=None)
    with pytest.raises(InputError, match=r"i1.dcm must state RescaleSlope and RescaleIntercept to give"):
        one.read()
    other = series(tmp_path / "b", RescaleSlope=None, RescaleIntercept=None, Modality="MR").read()
    assert (other.slope, other.intercept) == (1, 0)


def test_a_single_slice_is_a_volume(tmp_path: Path) -> None:
    assert series(tmp_path, 1).grid().shape == (*SHAPE[:2], 1)


def _gap(one: DicomSeries) -> DicomSeries:
    return DicomSeries(one.slices[:2] + one.slices[3:])


def _twice(one: DicomSeries) -> DicomSeries:
    copy = one.slices[0].with_name("j.dcm")
    copy.write_bytes(one.slices[0].read_bytes())
    return DicomSeries((*one.slices, copy))


def _edited(**changes: Any) -> Callable[[DicomSeries], DicomSeries]:
    def change(one: DicomSeries) -> DicomSeries:
        edit(one.slices[1], **changes)
        return one

    return change


def _cut(part: float) -> Callable[[DicomSeries], DicomSeries]:
    def change(one: DicomSeries) -> DicomSeries:
        data = one.slices[1].read_bytes()
        one.slices[1].write_bytes(data[: int(part * len(data))])
        return one

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_gap, "equidistant slices, got 8 mm from i4.dcm to i2.dcm instead of 4 mm; add"),
        (_twice, "equidistant slices, got 0 mm from i1.dcm to j.dcm instead of 4 mm; add"),
        (
            _edited(Rows=4),
            "one series of one size, i2.dcm has another Rows than the first file, got 4 and 5; keep",
        ),
        (_edited(SeriesInstanceUID="1.2"), "i2.dcm has another SeriesInstanceUID"),
        (
            _edited(ImageOrientationPatient=[0, 1, 0, 1, 0, 0]),
            "another ImageOrientationPatient .* localisers",
        ),
        (_edited(PixelSpacing=[3, 3]), "i2.dcm has another PixelSpacing"),
        (
            _edited(ImagePositionPatient=None),
            "i2.dcm must state ImagePositionPatient, found none; remove",
        ),
        (_edited(PhotometricInterpretation="MONOCHROME1"), "i2.dcm has another PhotometricInterpretation"),
        (_edited(NumberOfFrames=3), "must be a grey slice .* got 3 frames"),
        (_edited(ImagePositionPatient=["nan", "1", "1"]), "must state the orientation of its axes"),
        (_cut(0.0), "i2.dcm cannot be read as DICOM"),
        (_cut(0.1), "i2.dcm cannot be read as DICOM"),
        (_cut(0.5), "i2.dcm (must state|cannot be read as DICOM)"),
        (_cut(0.98), "i2.dcm cannot be read as DICOM"),
    ],
)
def test_what_is_no_whole_series_is_one_clear_line(
    tmp_path: Path, change: Callable[[DicomSeries], DicomSeries], message: str
) -> None:
    broken = change(series(tmp_path, 6))
    with pytest.raises(InputError, match=message) as caught:
        broken.read()
    assert "\n" not in str(caught.value)


def test_what_needs_a_decoder_says_so(tmp_path: Path) -> None:
    one = series(tmp_path)
    file = pydicom.dcmread(one.slices[0])
    file.file_meta.TransferSyntaxUID = JPEG2000Lossless
    file.PixelData = pydicom.encaps.encapsulate([b"\0" * 20])
    file["PixelData"].is_undefined_length = True
    file.save_as(one.slices[0])
    with pytest.raises(InputError, match=r"cannot be read as DICOM \(.*\); copy it again, or decompress it"):
        one.read()


def test_jpeg_ls_without_a_decoder_names_the_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = get_decoder(JPEGLSLossless)
    monkeypatch.setattr(decoder, "_available", {})  # wherever one is installed
    scan = series(tmp_path)
    file = pydicom.dcmread(scan.slices[0])
    file.file_meta.TransferSyntaxUID = JPEGLSLossless
    file.PixelData = pydicom.encaps.encapsulate([b"\0" * 20])
    file["PixelData"].is_undefined_length = True
    file.save_as(scan.slices[0])
    with pytest.raises(
        InputError, match=r"needs a decoder .*JPEG-LS.*; install pylibjpeg, pylibjpeg-libjpeg"
    ):
        scan.read()


def test_pictures_belong_to_the_files_in_the_order_of_names(tmp_path: Path) -> None:
    source = small(patients(tmp_path / "chaos"), level=240, width=800).source
    assert source.ids[:3] == ("1/axial_004", "1/axial_005", "2/axial_004")
    assert source.groups[:3] == ("1", "1", "2")
    image, mask = source.decode(1)
    assert np.array_equal(mask.nonzero(), [[0], [0]])  # right in front, as in the picture
    assert mask[0, 0] == 1
    values = ramp((*SHAPE[:2], 6))[::-1, ::-1, 5].T.astype(float)
    assert np.abs(image[..., 0] - ((values + 160) / 800 * 255).clip(0, 255)).max() <= 0.51


def test_ids_of_pictures_are_read_whole_where_labels_are_given(tmp_path: Path) -> None:
    root = patients(tmp_path / "chaos")
    for picture in root.glob("*/Ground/*.png"):
        mask = np.array(PillowImage.open(picture)) // 255 * 63  # MRI of CHAOS: 63 is the liver
        mask[-1, -1] = 126
        PillowImage.fromarray(mask).save(picture)
    data = DicomVolumes(root=str(root), labels={0: 0, 63: 1, 126: 2}, members=1, nonmembers=1)
    data.setup()
    assert [int((data.source.decode(0)[1] == kind).sum()) for kind in (1, 2)] == [2, 6]


def test_a_nifti_label_and_other_folders_do_too(tmp_path: Path) -> None:
    root = tmp_path / "own"
    affine = np.diag([2.0, 3, 4, 1])
    affine[:3, 3] = [-20, -22, 10]
    for number in range(4):
        series(root / f"p{number}", PatientID=f"p{number}")
        label = np.zeros(SHAPE, np.uint8)
        label[0, 0, 1], label[0, 0, 2] = 3, 4
        save(root / f"p{number}" / "label.nii.gz", label, affine=affine)
    options: dict[str, Any] = {"series": ".", "label": "label.nii.gz", "organs": [[3], [4]]}
    source = small(root, **options).source
    assert source.classes == 3
    assert source.ids[:2] == ("p0/axial_001", "p0/axial_002")
    assert [int(source.decode(i)[1][-1, -1]) for i in range(2)] == [1, 2]
    with pytest.raises(InputError, match="label.nii.gz must hold only the label ids 0, 3, got 4"):
        small(root, **(options | {"organs": [[3]]}))
    assert small(root, **(options | {"organs": [[3]], "unlisted": "background"}), members=1, nonmembers=1)


def test_names_count(tmp_path: Path) -> None:
    root = patients(tmp_path / "chaos", 1)
    folder = root / "1" / "DICOM_anon"
    for number, path in enumerate(sorted(folder.iterdir())):
        path.rename(folder / f"{number + 7}.dcm")  # 7 to 12: 10 comes after 9
    with pytest.raises(InputError, match="members"):  # one patient cannot be split, but it is read
        small(root)
    data = Dicom(root=str(root), members=1, nonmembers=1)
    assert data.read_source().ids == ("1/axial_004", "1/axial_005")


def test_folders_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    root = patients(tmp_path / "chaos", 2)
    (root / "2" / "Ground" / "liver_GT_003.png").unlink()
    with pytest.raises(
        InputError, match=r"Ground must hold a PNG for each slice, got 5 for 6 slices of .*DICOM_anon; add"
    ):
        small(root)
    PillowImage.fromarray(np.zeros((3, 3), np.uint8)).save(root / "2" / "Ground" / "liver_GT_003.png")
    with pytest.raises(
        InputError, match=r"liver_GT_003.png must have the size of its slice, got 3x3 and 6x5"
    ):
        small(root)
    with pytest.raises(InputError, match=r"nothing must be a folder of .dcm files, found none; correct"):
        small(root, series="nothing")
    with pytest.raises(InputError, match="paths must stay inside"):
        small(root, series="../../chaos/..")
    with pytest.raises(InputError, match="paths must stay inside"):
        small(root, label="../../label.nii")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="must hold a folder for each patient, found none"):
        small(tmp_path / "empty")
