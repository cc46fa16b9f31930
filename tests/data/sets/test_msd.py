from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seg_mia.cli import main
from seg_mia.data.sets.msd import MsdLiver
from seg_mia.data.split_settings import Role
from seg_mia.errors import InputError
from tests.data.scans import patients, save

ROLES: tuple[Role, ...] = ("victim", "shadow")


def decathlon(root: Path, count: int = 8) -> Path:
    """Volumes as Task03_Liver is unpacked, with what macOS left in its archive."""
    name = "liver_{}.nii.gz"
    patients(root, f"imagesTr/{name}", f"labelsTr/{name}", count=count)
    (root / "imagesTr" / "._liver_1.nii.gz").write_bytes(b"\0")
    (root / "imagesTs").mkdir()
    (root / "dataset.json").write_text("{}")
    return root


def export(root: Path) -> Path:
    """Pictures as the membership paper's code reads them: NIfTI files of two axes."""
    for number in range(8):
        values = np.arange(12 * 16).reshape(16, 12).astype(np.int16) + number
        label = (values > 100).astype(np.uint8) + (values > 150).astype(np.uint8)
        save(root / "imgs" / f"p{number // 2}_{number}.nii", values)
        save(root / "lbls" / f"p{number // 2}_{number}.nii", label)
    return root


def small(root: Path | None, **options: Any) -> MsdLiver:
    settings: dict[str, Any] = {"root": root and str(root), "size": 16, "members": 4, "nonmembers": 4}
    data = MsdLiver(**(settings | options))
    data.setup()
    return data


@pytest.mark.parametrize(
    ("target", "classes", "kinds"),
    [
        ("liver", 2, (1, 1)),
        ("parenchyma", 2, (1, 0)),
        ("tumour", 2, (0, 1)),
        ("liver_and_tumour", 3, (1, 2)),
    ],
)
def test_the_target_says_what_a_tumour_is(
    tmp_path: Path, target: str, classes: int, kinds: tuple[int, int]
) -> None:
    source = small(decathlon(tmp_path / "msd"), target=target).source
    assert source.classes == classes
    assert source.ids[:4] == tuple(f"liver_1/axial_00{number}" for number in (2, 3, 4, 5))
    expected = np.zeros((6, 16, 16), np.uint8)
    expected[:, :, :][2:, 15, 4:12], expected[2:, 14, 4:12] = kinds  # back rows come last
    for index in range(4):
        assert np.array_equal(source.decode(index)[1], expected[2 + index][:, ::-1])


def test_patients_stay_on_one_side(tmp_path: Path) -> None:
    root = decathlon(tmp_path / "msd")
    patient = [
        {data.source.groups[i] for i in part}
        for data in (small(root, role=role) for role in ROLES)
        for part in (data.splits.members, data.splits.nonmembers, data.splits.reference)
    ]
    assert sum(map(len, patient)) == len(set().union(*patient)) == 8


def test_the_window_is_the_usual_one_of_the_abdomen(tmp_path: Path) -> None:
    data = small(decathlon(tmp_path / "msd"))
    assert data.source.settings["level"] == 40
    image = data.source.decode(0)[0]
    assert image.min() == 0
    assert image.max() == 255


@pytest.mark.parametrize("name", ["Task03_Liver", "msd_liver"])
def test_the_data_is_found_under_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    decathlon(tmp_path / "all" / name)
    monkeypatch.setenv("SEG_MIA_DATA", str(tmp_path / "all"))
    assert len(small(None).source) == 32


def test_its_absence_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="get Task03_Liver from medicaldecathlon.com, arrange it as imagesTr/NAME"
    ):
        small(None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="imagesTr must be a folder, found none; correct the root or unpack"):
        small(tmp_path / "empty")


def test_a_volume_without_label_and_an_unknown_id_are_refused(tmp_path: Path) -> None:
    root = decathlon(tmp_path / "msd", count=2)
    save(root / "labelsTr" / "liver_2.nii.gz", np.full((16, 16, 6), 3, np.uint8))
    with pytest.raises(InputError, match=r"liver_2.nii.gz must hold only the label ids 0, 1, 2, got 3"):
        small(root)
    (root / "labelsTr" / "liver_2.nii.gz").unlink()
    with pytest.raises(
        InputError, match=r"images and masks must pair by name, 1 of 2 images have no mask \(liver_2\)"
    ):
        small(root)


def test_the_export_is_read_as_it_lies(tmp_path: Path) -> None:
    data = small(
        export(tmp_path / "liver"), layout="export", size=None, level=50, width=100, members=2, nonmembers=2
    )
    assert data.source.ids[0] == "p0_0/axial_000"
    assert len(data.source) == len(set(data.source.groups)) == 8
    image, mask = data.source.decode(0)
    values = np.arange(12 * 16).reshape(16, 12).T
    assert np.abs(image[..., 0] - values.clip(0, 100) * 2.55).max() <= 0.51
    assert np.array_equal(mask, values > 100)


def test_the_exports_patients_are_in_its_names(tmp_path: Path) -> None:
    root = export(tmp_path / "liver")
    assert small(root, layout="export", patient="(p[0-9])_", members=2, nonmembers=2).source.groups[:3] == (
        "p0",
        "p0",
        "p1",
    )
    for pattern, message in (
        ("(x)_", r"must match every name, '\(x\)_' does not match 'p0_0'"),
        ("p_", "must have a group in brackets, got 'p_'"),
        ("(", r"must be a regular expression, got '\('"),
    ):
        with pytest.raises(InputError, match=message):
            small(root, layout="export", patient=pattern)
    with pytest.raises(InputError, match="layout export has only axial slices, got axis=coronal"):
        small(root, layout="export", axis="coronal")
    with pytest.raises(InputError, match="patient applies to layout export"):
        small(root, patient="(p)")


def test_a_training_runs_on_it_from_the_command_line(tmp_path: Path, tiny: Path) -> None:
    root = decathlon(tmp_path / "msd", count=4)
    words = ["fit", "--config", str(tiny), "--data.root", str(root)]
    words += ["--data", "seg_mia.data.sets.msd.MsdLiver"]
    words += ["--model.network.channels", "1", "--data.size", "32", "--data.batch_size", "2"]
    assert main([*words, "--data.members", "3", "--data.nonmembers", "3"]) == 0
    assert list(Path("runs").rglob("*.ckpt"))
