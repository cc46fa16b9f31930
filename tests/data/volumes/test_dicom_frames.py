"""Enhanced multi-frame CT and MR, written by hand and by SimpleITK, and MONOCHROME1 against SimpleITK."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image as PillowImage
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedCTImageStorage, EnhancedMRImageStorage, RLELossless, SegmentationStorage

from seg_mia.data.sets.dicom import Dicom
from seg_mia.data.sets.volumes import DicomVolumes
from seg_mia.data.volumes.dicom_file import DicomSeries
from seg_mia.errors import InputError
from tests.data.itk_check import ORIENTATIONS, assert_same_voxels, direction, itk_image
from tests.data.scans import SHAPE, ramp, save
from tests.data.sets.test_dicom import STEP, write

CLASSES = {"MR": EnhancedMRImageStorage, "CT": EnhancedCTImageStorage}
PER_FRAME = {"ImagePositionPatient": None, "ImageOrientationPatient": None, "PixelSpacing": None}
SCALE = {"RescaleSlope": None, "RescaleIntercept": None}


def item(**fields: Any) -> Dataset:
    """Return a data set; a mapping is a sequence of one item."""
    result = Dataset()
    for name, value in fields.items():
        setattr(result, name, [item(**value)] if isinstance(value, dict) else value)
    return result


def frame(number: int, *, slope: float = 0.5, **further: Any) -> Dataset:
    """Return the functional groups of the frame that lies at a place of the stack, in CT."""
    position = (10 + number * STEP).tolist()
    return item(
        PlanePositionSequence={"ImagePositionPatient": position},
        FrameContentSequence={"StackID": "1", "InStackPositionNumber": number + 1},
        PixelValueTransformationSequence={
            "RescaleSlope": slope,
            "RescaleIntercept": -1000,
            "RescaleType": "HU",
        },
        **further,
    )


SHARED = item(
    PlaneOrientationSequence={"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
    PixelMeasuresSequence={"PixelSpacing": [3, 2], "SliceThickness": 4},
)


def enhanced(
    path: Path, order: Sequence[int] = (2, 0, 3, 1), slopes: Sequence[float] = (0.5,) * 4, **changes: Any
) -> Path:
    """Write the ramp as frames, stored in an order of places and with a slope each."""
    flat = [ramp()[::-1, ::-1, number].T.astype(float) for number in order]
    stored = [np.rint((plane + 1000) / slope) for plane, slope in zip(flat, slopes, strict=True)]
    fields = {
        "SOPClassUID": EnhancedCTImageStorage,
        "NumberOfFrames": len(order),
        "PixelData": np.stack(stored).astype("<u2").tobytes(),
        "SharedFunctionalGroupsSequence": [SHARED],
        "PerFrameFunctionalGroupsSequence": [
            frame(number, slope=slope) for number, slope in zip(order, slopes, strict=True)
        ],
        **PER_FRAME,
        **SCALE,
    }
    return write(path, flat[0], STEP, **(fields | changes))


def by_itk(path: Path, values: Any, letters: str, kind: str, turn: float = 0.0) -> Any:
    """Write voxels as one enhanced file by SimpleITK and return the image."""
    image = itk_image(values, letters, turn=turn)
    image.SetMetaData("0008|0016", str(CLASSES[kind]))
    image.SetMetaData("0008|0060", kind)
    path.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(image, str(path))
    assert pydicom.dcmread(path).SOPClassUID == CLASSES[kind]
    return image


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)])
def test_frames_are_sorted_by_place_and_scaled_each(tmp_path: Path, order: Sequence[int]) -> None:
    scan = DicomSeries((enhanced(tmp_path / "a.dcm", order, (0.5, 1, 0.125, 0.25)),))
    volume, grid = scan.read(), scan.grid()
    assert grid.shape == volume.values.shape == SHAPE
    for number in range(SHAPE[2]):
        assert_array_equal(volume.plane("axial", number), ramp()[::-1, ::-1, number].T)
    assert grid.affine is not None
    assert_allclose(grid.affine[:3, :3], np.diag([2.0, 3, 4]))


@pytest.mark.parametrize("kind", ["MR", "CT"])
@pytest.mark.parametrize("letters", ORIENTATIONS)
def test_files_of_simpleitk_hold_the_same_voxels_at_the_same_places(
    tmp_path: Path, letters: str, kind: str
) -> None:
    image = by_itk(tmp_path / "a.dcm", ramp((5, 4, 3)), letters, kind, turn=0.2)
    scan = DicomSeries((tmp_path / "a.dcm",))
    if np.linalg.det(direction(letters)) < 0:  # DICOM has no left-handed stacks: its writer says nothing
        image = SimpleITK.ReadImage(str(tmp_path / "a.dcm"))
    assert_same_voxels(scan, image)


def test_what_is_written_by_hand_is_read_by_simpleitk_alike(tmp_path: Path) -> None:
    path = enhanced(tmp_path / "a.dcm", (0, 1, 2, 3), (0.5, 0.5, 0.5, 0.5))
    assert_same_voxels(DicomSeries((path,)), SimpleITK.ReadImage(str(path)))


def test_a_shared_field_holds_for_all_frames_and_one_of_a_frame_comes_first(tmp_path: Path) -> None:
    shared = item(
        PlaneOrientationSequence={"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
        PixelMeasuresSequence={"PixelSpacing": [3, 2]},
        PixelValueTransformationSequence={"RescaleSlope": 2, "RescaleIntercept": 7},
    )
    frames = [item(PlanePositionSequence={"ImagePositionPatient": [0, 0, float(z)]}) for z in range(3)]
    frames.append(frame(0))
    del frames[3].FrameContentSequence
    frames[3].PlanePositionSequence[0].ImagePositionPatient = [0, 0, 3.0]
    path = enhanced(
        tmp_path / "a.dcm",
        PixelData=np.full((4, 5, 6), 100, "<u2").tobytes(),
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=frames,
    )
    volume = DicomSeries((path,)).read()
    planes = [volume.plane("axial", number) for number in range(4)]
    assert [(plane.min(), plane.max()) for plane in planes] == [*[(207, 207)] * 3, (-950, -950)]


def test_compressed_frames_and_parts_of_an_object(tmp_path: Path) -> None:
    whole = enhanced(tmp_path / "a" / "a.dcm")
    file = pydicom.dcmread(whole)
    file.compress(RLELossless, generate_instance_uid=False)
    (tmp_path / "b").mkdir()
    file.save_as(tmp_path / "b" / "a.dcm")
    halves = [
        enhanced(tmp_path / "c" / f"{n}.dcm", order, (1, 1)) for n, order in enumerate([(3, 0), (1, 2)])
    ]
    for files in ([tmp_path / "b" / "a.dcm"], halves):
        assert_array_equal(
            DicomSeries(tuple(files)).read().plane("sagittal", 2),
            DicomSeries((whole,)).read().plane("sagittal", 2),
        )


def _frames(change: Callable[[list[Dataset]], object]) -> dict[str, Any]:
    frames = [frame(number) for number in (2, 0, 3, 1)]
    change(frames)
    return {"PerFrameFunctionalGroupsSequence": frames}


def _stack(frames: list[Dataset]) -> None:
    frames[1].FrameContentSequence[0].StackID = "2"


def _place(frames: list[Dataset]) -> None:
    frames[1].PlanePositionSequence[0].ImagePositionPatient = [10.0, 10.0, 10 + 3 * 4.0]


def _gap(frames: list[Dataset]) -> None:
    frames[2].PlanePositionSequence[0].ImagePositionPatient = [10.0, 10.0, 90.0]


def _nowhere(frames: list[Dataset]) -> None:
    del frames[2].PlanePositionSequence


def _turned(frames: list[Dataset]) -> None:
    frames[3].PlaneOrientationSequence = [item(ImageOrientationPatient=[0, 1, 0, 1, 0, 0])]


def _finer(frames: list[Dataset]) -> None:
    frames[3].PixelMeasuresSequence = [item(PixelSpacing=[1, 1])]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (_frames(_stack), r"a\.dcm must hold one stack of frames, got StackID 1, 2; export one stack"),
        (_frames(_place), r"a\.dcm must hold one frame at each position, frames 2 and 3 lie at the same"),
        (_frames(_gap), r"equidistant slices, got 72 mm from a\.dcm frame 1 to a\.dcm frame 3"),
        (_frames(_nowhere), r"a\.dcm frame 3 must state ImagePositionPatient"),
        (_frames(_turned), r"a\.dcm frame 4 has another ImageOrientationPatient than a\.dcm frame 1"),
        (_frames(_finer), r"a\.dcm frame 4 has another PixelSpacing than a\.dcm frame 1"),
        (_frames(list.pop), r"a\.dcm must have functional groups for each of its 4 frames, got 3"),
        ({"PerFrameFunctionalGroupsSequence": None}, r"each of its 4 frames, got 0"),
        ({"NumberOfFrames": 3}, r"each of its 3 frames, got 4"),
        ({"SOPClassUID": SegmentationStorage}, r"enhanced CT or MR object, got .* Segmentation Storage; use"),
        ({"SOPClassUID": None}, r"got functional groups of the kind unknown"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, r"must be a grey slice or .* of kind PALETTE COLOR"),
        ({"PixelData": b"\0" * 100}, r"a\.dcm cannot be read as DICOM"),
        ({"Rows": 7}, r"a\.dcm cannot be read as DICOM"),
        (
            {
                "SharedFunctionalGroupsSequence": None,
                "PerFrameFunctionalGroupsSequence": None,
                "ImagePositionPatient": [0, 0, 0],
                "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
                "PixelSpacing": [1, 1],
            },
            r"must be a grey slice or an enhanced CT or MR object .*, got 4 frames of kind MONOCHROME2",
        ),
        (
            _frames(lambda frames: delattr(frames[0], "PixelValueTransformationSequence")),
            "must state RescaleSlope",
        ),
    ],
)
def test_what_is_no_single_stack_is_one_clear_line(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = tmp_path / "a.dcm"
    with warnings.catch_warnings(action="ignore"):  # what is against the rules is to be written
        enhanced(path, **changes)
    with pytest.raises(InputError, match=message) as caught:
        DicomSeries((path,)).read()
    assert "\n" not in str(caught.value)


def test_slices_and_volumes_of_enhanced_files(tmp_path: Path) -> None:
    """With a label of pictures in stored order, and one in NIfTI."""
    affine = np.diag([2.0, 3, 4, 1])
    affine[:3, 3] = [-20, -22, 10]
    label = np.zeros(SHAPE, np.uint8)
    label[5, 4, 2] = 1  # right in front
    for number in range(4):
        folder = tmp_path / "root" / f"p{number}"
        enhanced(folder / "DICOM_anon" / "a.dcm", PatientID=f"p{number}")
        save(folder / "label.nii.gz", label, affine=affine)
        for place, z in enumerate((2, 0, 3, 1)):
            (folder / "Ground").mkdir(exist_ok=True)
            mask = np.zeros((SHAPE[1], SHAPE[0]), np.uint8)
            mask[0, 0] = 255 * (z == 2)
            PillowImage.fromarray(mask).save(folder / "Ground" / f"{place}.png")
    options: dict[str, Any] = {
        "root": str(tmp_path / "root"),
        "members": 1,
        "nonmembers": 1,
        "level": 250,
        "width": 510,
    }
    results = []
    for name in ("label.nii.gz", "Ground"):
        flat = Dicom(**options, label=name, size=None).read_source()
        whole = DicomVolumes(**options, label=name).read_source()
        assert flat.ids[0] == "p0/axial_002"
        image, mask = whole.decode(0)
        assert_array_equal(flat.decode(0)[0], image[2])
        assert_array_equal(flat.decode(0)[1], mask[2])
        assert np.argwhere(mask).tolist() == [[2, 0, 0]]
        results.append(image)
    assert_array_equal(results[0], results[1])


@pytest.mark.parametrize(
    ("stored", "signed"), [(8, False), (8, True), (12, False), (12, True), (16, False), (16, True)]
)
@pytest.mark.parametrize("modality", ["CR", "CT"])
def test_monochrome1_is_inverted_as_by_simpleitk(
    tmp_path: Path, stored: int, signed: bool, modality: str
) -> None:
    random = np.random.default_rng(stored)
    low = -(2 ** (stored - 1)) if signed else 0
    numbers = random.integers(low, low + 2**stored, (5, 6))
    words = numbers.astype("<i2" if signed else "<u2")
    path = write(
        tmp_path / "a.dcm",
        np.zeros((5, 6)),
        STEP,
        Modality=modality,
        PhotometricInterpretation="MONOCHROME1",
        PresentationLUTShape="INVERSE",
        BitsStored=stored,
        HighBit=stored - 1,
        PixelRepresentation=int(signed),
        PixelData=words.tobytes(),
        RescaleSlope=2,
    )
    scan = DicomSeries((path,))
    flat = scan.read().plane("axial", 0)
    assert_array_equal(flat, 2 * (2 * low + 2**stored - 1 - numbers) - 1000)
    if (stored, signed) != (12, True):  # which GDCM refuses
        assert_array_equal(flat, SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))[0])
    assert flat.ravel()[numbers.argmin()] == flat.max()
    (remark,) = scan.remarks()
    assert remark.startswith("series are MONOCHROME1 and read inverted")
    assert ("no Hounsfield units" in remark) == (modality == "CT")


def test_padding_of_monochrome1_is_never_brighter_than_the_rest(tmp_path: Path) -> None:
    numbers = np.tile(np.arange(10, 16), (5, 1))
    numbers[:, 0] = 4  # shown as white: the lowest
    fields = {"PixelPaddingValue": 4, "PhotometricInterpretation": "MONOCHROME1", "Modality": "MR"}
    fields |= {"RescaleSlope": 1, "RescaleIntercept": 0}
    words = numbers.astype("<u2").tobytes()
    path = write(tmp_path / "a.dcm", numbers, STEP, PixelData=words, **fields)
    flat = DicomSeries((path,)).read().plane("axial", 0)
    assert_array_equal(flat[0], 65535 - np.array([15, 11, 12, 13, 14, 15]))


def test_an_inverted_series_is_noted_and_a_mixed_one_refused(tmp_path: Path) -> None:
    for number in range(4):
        for z in range(2):
            write(
                tmp_path / "root" / f"p{number}" / "DICOM_anon" / f"{z}.dcm",
                ramp()[:, :, z].T,
                z * STEP,
                PhotometricInterpretation="MONOCHROME1" if number == 1 else "MONOCHROME2",
                Modality="MR",
                PatientID=f"p{number}",
            )
            (tmp_path / "root" / f"p{number}" / "Ground").mkdir(exist_ok=True)
            PillowImage.fromarray(np.eye(5, 6, dtype=np.uint8) * 255).save(
                tmp_path / "root" / f"p{number}" / "Ground" / f"{z}.png"
            )
    options: dict[str, Any] = {"root": str(tmp_path / "root"), "members": 1, "nonmembers": 1}
    for kind in (Dicom, DicomVolumes):
        (note,) = kind(**options).read_source().notes
        assert note.line.startswith("1 series are MONOCHROME1 and read inverted")
        assert note.names == (str(tmp_path / "root" / "p1" / "DICOM_anon"),)
    file = pydicom.dcmread(tmp_path / "root" / "p1" / "DICOM_anon" / "1.dcm")
    file.PhotometricInterpretation = "MONOCHROME2"
    file.save_as(tmp_path / "root" / "p1" / "DICOM_anon" / "1.dcm")
    with pytest.raises(InputError, match=r"1\.dcm has another PhotometricInterpretation"):
        Dicom(**options).read_source()
