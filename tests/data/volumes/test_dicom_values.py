"""DICOM: each header field that changes what the stored numbers mean, against a reading by hand."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from seg_mia.data.volumes.dicom_file import DicomSeries
from seg_mia.errors import InputError
from tests.data.sets.test_dicom import STEP, write

random = np.random.default_rng(0)
SIZE = (5, 6)
UNSIGNED = random.integers(0, 4096, SIZE)
SIGNED = random.integers(-2048, 2048, SIZE)


def slice_of(path: Path, words: NDArray[Any], **changes: Any) -> Path:
    """Write words as they are in one slice, of Hounsfield units without a scale if nothing else is said."""
    fields = {"PixelData": words.tobytes(), "RescaleSlope": 1, "RescaleIntercept": 0, **changes}
    with warnings.catch_warnings(action="ignore"):  # what is against the rules is to be written
        return write(path, np.zeros(SIZE), STEP, **fields)


def read(path: Path) -> NDArray[Any]:
    """The slice as it lies in its file, with slope and intercept."""
    flat: NDArray[Any] = DicomSeries((path,)).read().plane("axial", 0)
    return flat


def by_hand(value: int, *, stored: int, high: int, signed: bool) -> int:
    """The number in a word, bit by bit: PS3.5, 8.1.1."""
    bits = [(value >> place) & 1 for place in range(high - stored + 1, high + 1)]
    whole = sum(bit << place for place, bit in enumerate(bits))
    return whole - (1 << stored) if signed and bits[-1] else whole


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("junk", [False, True])
@pytest.mark.parametrize(
    ("allocated", "stored", "high"),
    [
        (16, 12, 11),
        (16, 12, 15),
        (16, 12, 13),
        (16, 16, 15),
        (16, 10, 9),
        (8, 8, 7),
        (8, 6, 7),
        (32, 20, 19),
        (32, 32, 31),
    ],
)
def test_numbers_lie_where_bits_stored_and_high_bit_say(
    tmp_path: Path, allocated: int, stored: int, high: int, junk: bool, signed: bool
) -> None:
    """Whatever else the words hold, such as old overlays above, or nothing where a sign would go on."""
    numbers = random.integers(-(2 ** (stored - 1)) if signed else 0, 2 ** (stored - 1), SIZE)
    words = (numbers % 2**stored) << (high - stored + 1)
    others = (2**allocated - 1) ^ ((2**stored - 1) << (high - stored + 1))
    if junk:
        words |= random.integers(0, 2**allocated, SIZE) & others
    path = slice_of(
        tmp_path / "a.dcm",
        words.astype(f"<u{allocated // 8}"),
        BitsAllocated=allocated,
        BitsStored=stored,
        HighBit=high,
        PixelRepresentation=int(signed),
    )
    hand = [by_hand(int(w), stored=stored, high=high, signed=signed) for w in words.ravel()]
    assert hand == numbers.ravel().tolist()
    assert np.array_equal(read(path), numbers.astype(np.float32))
    if high == stored - 1 and not junk and not signed:
        assert np.array_equal(pydicom.dcmread(path).pixel_array, numbers)


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless]
)
@pytest.mark.parametrize("high", [11, 15])
def test_transfer_syntaxes_give_the_same_numbers(tmp_path: Path, syntax: Any, high: int) -> None:
    words = ((SIGNED % 4096) << (high - 11)).astype("<u2")
    fields = {"BitsStored": 12, "HighBit": high, "PixelRepresentation": 1}
    path = slice_of(tmp_path / "a.dcm", words, **fields)
    file = pydicom.dcmread(path)
    if syntax == RLELossless:
        file.compress(RLELossless, generate_instance_uid=False)
        file.save_as(path)
    else:
        with warnings.catch_warnings(action="ignore"):
            slice_of(path, words, syntax=syntax, **fields)
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == syntax
    assert np.array_equal(read(path), SIGNED.astype(np.float32))


@pytest.mark.parametrize(("bits", "kind"), [(8, "u1"), (16, ">u2"), (32, ">u4")])
def test_big_endian_words(tmp_path: Path, bits: int, kind: str) -> None:
    numbers = random.integers(0, 2**bits, SIZE) if bits < 32 else random.integers(0, 2**20, SIZE)
    file = pydicom.dcmread(slice_of(tmp_path / "a.dcm", numbers.astype("<u2")))
    file.BitsAllocated, file.BitsStored, file.HighBit = bits, bits, bits - 1
    words = numbers.astype(kind).tobytes()
    if bits == 8:  # bytes stand in 16-bit words, the lower first
        words = np.frombuffer(words, "<u2").astype(">u2").tobytes()
    file.PixelData = words
    file["PixelData"].VR = "OW"
    file.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    with warnings.catch_warnings(action="ignore"):
        pydicom.dcmwrite(tmp_path / "b.dcm", file, implicit_vr=False, little_endian=False)
    assert np.array_equal(read(tmp_path / "b.dcm"), numbers.astype(np.float32))


def test_a_high_bit_elsewhere_in_compressed_pixels_is_refused(tmp_path: Path) -> None:
    path = slice_of(tmp_path / "a.dcm", UNSIGNED.astype("<u2"), BitsStored=12, HighBit=15)
    file = pydicom.dcmread(path)
    file.file_meta.TransferSyntaxUID = JPEG2000Lossless
    file.PixelData = pydicom.encaps.encapsulate([b"\0" * 20])
    file["PixelData"].is_undefined_length = True
    file.save_as(path)
    with pytest.raises(InputError, match=r"a\.dcm must have its highest bit at 11, got HighBit 15"):
        read(path)


SEQUENCE = Sequence([Dataset()])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"HighBit": 10, "BitsStored": 12}, "BitsStored 12 and HighBit 10; export it again"),
        ({"HighBit": 16}, "BitsAllocated 16, BitsStored 16 and HighBit 16"),
        ({"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0}, "must have 8, 16 or 32 bits .*BitsAllocated 1"),
        ({"BitsStored": None}, "must state BitsAllocated, BitsStored and PixelRepresentation"),
        (
            {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "IDENTITY"},
            "must state once which value is white, .* MONOCHROME1 and PresentationLUTShape IDENTITY",
        ),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "must be a grey slice .*PALETTE COLOR"),
        ({"PhotometricInterpretation": "YBR_FULL", "SamplesPerPixel": 3}, "must be a grey slice .*YBR_FULL"),
        (
            {"PresentationLUTShape": "INVERSE"},
            "must state once which value is white, .* PresentationLUTShape INVERSE",
        ),
        ({"ModalityLUTSequence": SEQUENCE}, "got ModalityLUTSequence, a table instead of RescaleSlope"),
        (
            {"SharedFunctionalGroupsSequence": SEQUENCE},
            "must be a plain slice or an enhanced .* CT Image Storage",
        ),
        ({"PerFrameFunctionalGroupsSequence": SEQUENCE}, "must be a plain slice or an enhanced .* CT Image"),
        ({"NumberOfFrames": 2}, "must be a grey slice .*2 frames"),
        ({"RescaleType": "ED"}, "must give Hounsfield units, got RescaleType ED"),
        ({"RescaleSlope": 0}, "must state a RescaleSlope other than 0"),
        ({"RescaleSlope": None}, "must state RescaleSlope and RescaleIntercept"),
        ({"DoseGridScaling": "0.5", "Modality": "RTDOSE"}, "got DoseGridScaling, a dose"),
        (
            {"Modality": "MR", "RescaleSlope": None, "RealWorldValueMappingSequence": SEQUENCE},
            "must state RescaleSlope, got RealWorldValueMappingSequence alone",
        ),
        ({"FloatPixelData": b"\0" * 120}, "got FloatPixelData, floats"),
    ],
)
def test_what_says_otherwise_what_the_numbers_are_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = slice_of(tmp_path / "a.dcm", UNSIGNED.astype("<u2"), **changes)
    with pytest.raises(
        InputError, match=rf"a\.dcm {message}" if "must" in message else rf"a\.dcm .*{message}"
    ) as caught:
        read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"WindowCenter": 40, "WindowWidth": 80, "VOILUTFunction": "SIGMOID"},
        {"SmallestImagePixelValue": 7, "LargestImagePixelValue": 8},
        {"PresentationLUTShape": "IDENTITY"},
        {"RescaleType": "HU"},
        {"RescaleType": "US"},
        {"RescaleType": "ED", "Modality": "MR"},
        {"RealWorldValueMappingSequence": SEQUENCE},
        {"PixelAspectRatio": [1, 2]},
        {"PatientPosition": "FFP"},
        {"SpacingBetweenSlices": 9, "GantryDetectorTilt": 12},
        {"PlanarConfiguration": 1},
        {"LossyImageCompression": "01"},
        {"BurnedInAnnotation": "YES"},
        {"ShutterShape": "RECTANGULAR"},
        {"NumberOfFrames": 1},
    ],
)
def test_fields_that_say_nothing_of_the_numbers_change_nothing(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    path = slice_of(tmp_path / "a.dcm", UNSIGNED.astype("<u2"), **changes)
    assert np.array_equal(read(path), UNSIGNED.astype(np.float32))


@pytest.mark.parametrize(
    ("slope", "intercept", "modality"), [(0.5, -1000, "CT"), (-1, 20, "MR"), (3, 0, "PT")]
)
def test_scales(tmp_path: Path, slope: float, intercept: float, modality: str) -> None:
    fields = {"RescaleSlope": slope, "RescaleIntercept": intercept, "Modality": modality}
    path = slice_of(tmp_path / "a.dcm", UNSIGNED.astype("<u2"), **fields)
    assert np.array_equal(read(path), UNSIGNED.astype(np.float32) * slope + intercept)


def padded(value: int) -> NDArray[Any]:
    """Numbers of 10 to 14, and the left column of padding."""
    numbers = np.tile(np.arange(10, 15), (6, 1)).T
    numbers[:, 0] = value
    return numbers


@pytest.mark.parametrize(
    ("value", "stated", "limit", "slope", "want"),
    [
        (4095, 4095, None, 1, 10),  # white padding is shown as the darkest number
        (4090, 4095, 4090, 1, 10),
        (3, 3, None, 1, 3),  # dark padding stays
        (3, 3, None, -1, 14),  # where low numbers are bright, it is the bright one
        (4095, 4095, None, -1, 4095),
        (4095, 7, None, 1, 4095),  # no pixel has it
    ],
)
def test_padding_is_never_brighter_than_the_rest(
    tmp_path: Path, value: int, stated: int, limit: int | None, slope: int, want: int
) -> None:
    fields = {"PixelPaddingValue": stated, "PixelPaddingRangeLimit": limit, "RescaleSlope": slope}
    path = slice_of(tmp_path / "a.dcm", padded(value).astype("<u2"), Modality="MR", **fields)
    numbers = padded(value)
    numbers[:, 0] = want
    assert np.array_equal(read(path), slope * numbers.astype(np.float32))


def test_padding_of_another_sign_and_among_the_values(tmp_path: Path) -> None:
    words = padded(-2000).astype("<i2")
    path = slice_of(tmp_path / "a.dcm", words, PixelRepresentation=1, PixelPaddingValue=-2000)
    assert np.array_equal(read(path), padded(-2000))
    words = (padded(0) - 1024).astype("<i2")
    words[0, 1] = -2000
    path = slice_of(tmp_path / "c.dcm", words, PixelRepresentation=1, PixelPaddingValue=-1024)
    assert np.array_equal(read(path), words)  # air amid air
    path = slice_of(tmp_path / "b.dcm", padded(12).astype("<u2"), PixelPaddingValue=12)
    with pytest.raises(InputError, match=r"b\.dcm must have padding that .*PixelPaddingValue 12 between 10"):
        read(path)
