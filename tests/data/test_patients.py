"""Who shows one patient: by names for files, by PatientID for DICOM folders."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from seg_mia.data.base import SegmentationData
from seg_mia.data.patients import Patients, same_patients
from seg_mia.data.sets.btcv import Btcv
from seg_mia.data.sets.dicom import Dicom
from seg_mia.data.sets.folder import Folder
from seg_mia.data.sets.nifti import Nifti
from seg_mia.errors import InputError
from tests.data import scans
from tests.data.sets import test_dicom


def nifti(root: Path, **options: Any) -> Nifti:
    """Three patients at two times each."""
    for number in range(6):
        values = np.arange(256, dtype=np.int16).reshape(8, 8, 4) + np.int16(number)
        mask = np.zeros(values.shape, np.uint8)
        mask[2:6] = 1
        name = f"scan_{8 + number // 2:02d}0{number % 2}.nii.gz"
        scans.save(root / "images" / name, values)
        scans.save(root / "masks" / name, mask)
    return Nifti(root=str(root), members=1, nonmembers=1, **options)


def btcv(root: Path, **options: Any) -> Btcv:
    scans.patients(root, "img/img{:04d}.nii.gz", "label/label{:04d}.nii.gz", ids=tuple(range(1, 14)))
    return Btcv(root=str(root), members=1, nonmembers=1, **options)


def folder(root: Path, **options: Any) -> Folder:
    for number in range(6):
        for part in ("images", "masks"):
            (root / part).mkdir(parents=True, exist_ok=True)
            pixels = np.full((4, 4), number if part == "images" else 1, np.uint8)
            PillowImage.fromarray(pixels).save(root / part / f"p{number // 2}_{number}.png")
    return Folder(root=str(root), members=1, nonmembers=1, channels=1, **options)


def dicom(root: Path, identifiers: list[str | None], **options: Any) -> Dicom:
    """A folder for each identifier, of three slices."""
    for number, identifier in enumerate(identifiers):
        test_dicom.series(root / f"f{number}_{number % 2}" / "DICOM_anon", 3, PatientID=identifier)
        for place in range(3):
            path = root / f"f{number}_{number % 2}" / "Ground" / f"{place}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            PillowImage.fromarray(np.full((5, 6), 255, np.uint8)).save(path)
    return Dicom(root=str(root), members=1, nonmembers=1, **options)


def groups(data: SegmentationData) -> list[str]:
    """The group of each volume or picture, in the order of ids."""
    source = data.read_source()
    volumes = {name.partition("/")[0]: group for name, group in zip(source.ids, source.groups, strict=True)}
    return list(volumes.values())


@pytest.mark.parametrize(
    ("make", "pattern", "want"),
    [
        (nifti, None, ["scan_0800", "scan_0801", "scan_0900", "scan_0901", "scan_1000", "scan_1001"]),
        (nifti, "scan_([0-9]{2})", ["08", "08", "09", "09", "10", "10"]),
        (btcv, None, ["0001", "0002", "0003", "0004"]),
        (btcv, "(000[12]|.)", ["0001", "0002", "0", "0"]),
        (folder, None, ["p0_0", "p0_1", "p1_2", "p1_3", "p2_4", "p2_5"]),
        (folder, "(.+)_[0-9]+", ["p0", "p0", "p1", "p1", "p2", "p2"]),
    ],
)
def test_names_say_who_is_one_patient(
    tmp_path: Path, make: Callable[..., SegmentationData], pattern: str | None, want: list[str]
) -> None:
    assert groups(make(tmp_path, patient=pattern)) == want


@pytest.mark.parametrize("make", [nifti, btcv, folder])
@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(x)_", r"patient must match every name, '\(x\)_' does not match '[a-z0-9_]+'; correct it"),
        ("()", r"patient must match every name, '\(\)' does not match"),
        ("p", "must have a group in brackets, got 'p'"),
        ("(", r"must be a regular expression, got '\('"),
    ],
)
def test_a_name_without_a_patient_is_refused(
    tmp_path: Path, make: Callable[..., SegmentationData], pattern: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        make(tmp_path, patient=pattern).read_source()


def test_no_split_parts_two_volumes_of_one_patient(tmp_path: Path) -> None:
    for seed in range(4):
        data = nifti(tmp_path, patient="scan_([0-9]{2})", split_seed=seed, shadow_share=0, size=None)
        data.setup()
        members, others = (
            {data.source.groups[i] for i in part} for part in (data.splits.members, data.splits.nonmembers)
        )
        assert members
        assert others
        assert not members & others
        assert data.hparams["patient"] == "scan_([0-9]{2})"


def test_a_column_and_a_pattern_are_too_much(tmp_path: Path) -> None:
    data = folder(tmp_path, patient="(p[0-9])", manifest="list.csv")
    names = [f"p{number // 2}_{number}" for number in range(6)]
    (tmp_path / "list.csv").write_text("image\n" + "\n".join(names))
    assert groups(data) == ["p0", "p0", "p1", "p1", "p2", "p2"]
    (tmp_path / "list.csv").write_text("image,group\n" + "\n".join(f"{name},a" for name in names))
    with pytest.raises(InputError, match="patient and a group column exclude each other, .* p0_0; leave"):
        data.read_source()


def test_folders_of_one_patient_id_are_one_patient_and_that_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = dicom(tmp_path / "data", ["A1", "B2", "A1", "C3"])
    with caplog.at_level(logging.INFO, "seg_mia"):
        assert groups(data) == ["f0_0", "f1_1", "f0_0", "f3_1"]
        data.read_source()
    assert [record.message for record in caplog.records] == [
        f"4 folders of {tmp_path / 'data'} have 3 patients by their PatientID, joined are f2_0 with f0_0; "
        "--data.patient '(.+)' makes each folder a patient"
    ]
    assert groups(dicom(tmp_path / "data", ["A1", "B2", "A1", "C3"], patient="(.+)")) == [
        "f0_0",
        "f1_1",
        "f2_0",
        "f3_1",
    ]
    assert groups(dicom(tmp_path / "data", ["A1", "B2", "A1", "C3"], patient=".*(_[01])")) == [
        "_0",
        "_1",
        "_0",
        "_1",
    ]


def test_different_patient_ids_need_no_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "seg_mia"):
        assert groups(dicom(tmp_path / "data", ["A1", "B2"])) == ["f0_0", "f1_1"]
    assert not caplog.records


def test_one_number_for_all_folders_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"all 3 folders state one PatientID; .*--data.patient: '\(.\+\)' makes each folder"
    ) as caught:
        dicom(tmp_path / "data", ["4711"] * 3).read_source()
    assert "4711" not in str(caught.value)
    assert groups(dicom(tmp_path / "data", ["4711"] * 3, patient="(.+)")) == ["f0_0", "f1_1", "f2_0"]


@pytest.mark.parametrize(
    ("identifiers", "line"),
    [
        (
            ["anonymous"] * 3,
            "all 3 folders of {} state one PatientID, a word as de-identified copies have it",
        ),
        ([None] * 3, "3 of 3 folders of {} state no PatientID (f0_0, f1_1, f2_0): each counts as a patient"),
        (["A1", "", " "], "2 of 3 folders of {} state no PatientID (f1_1, f2_0): each counts as a patient"),
    ],
)
def test_what_names_nobody_joins_nobody_and_that_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, identifiers: list[str | None], line: str
) -> None:
    with caplog.at_level(logging.INFO, "seg_mia"):
        assert groups(dicom(tmp_path / "data", identifiers)) == ["f0_0", "f1_1", "f2_0"]
    assert len(caplog.records) == 1
    assert caplog.records[0].message.startswith(line.format(tmp_path / "data"))


def test_one_number_given_by_two_hospitals_is_two_patients(tmp_path: Path) -> None:
    stated = {"a": "one/1", "b": "two/1", "c": "one/1"}
    assert same_patients(stated, tmp_path) == {"a": "a", "b": "b", "c": "a"}


def test_a_long_list_of_joined_folders_is_cut(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "seg_mia"):
        found = same_patients({"z": "/2"} | {f"f{place}": "/1" for place in range(6)}, tmp_path)
    assert found == {"z": "z"} | {f"f{place}": "f0" for place in range(6)}
    assert "joined are f1 with f0, f2 with f0, f3 with f0 and 2 more" in caplog.records[0].message


def test_slices_of_two_patients_in_one_folder_are_refused(tmp_path: Path) -> None:
    series = test_dicom.series(tmp_path, 3, PatientID="4711")
    test_dicom.edit(series.slices[2], PatientID="4712")
    with pytest.raises(
        InputError, match=r"i3\.dcm states another PatientID than the first file; use"
    ) as caught:
        series.read()
    assert "471" not in str(caught.value).replace(str(tmp_path), "")


def test_without_a_pattern_names_are_patients() -> None:
    assert Patients(None).of("any name") == "any name"
