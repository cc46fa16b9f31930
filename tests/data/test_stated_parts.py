"""A split that a file states: for a network whose members are known."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from seg_mia.cli import main
from seg_mia.config.spec import parameters
from seg_mia.data.base import SegmentationData
from seg_mia.data.sets.btcv import Btcv
from seg_mia.data.sets.cityscapes import Cityscapes
from seg_mia.data.sets.dicom import Dicom
from seg_mia.data.sets.folder import Folder
from seg_mia.data.sets.fundus import Fundus
from seg_mia.data.sets.isic import Isic
from seg_mia.data.sets.kvasir import Kvasir
from seg_mia.data.sets.msd import MsdLiver
from seg_mia.data.sets.nifti import Nifti
from seg_mia.data.sets.nnunet import NnUNetRaw, NnUNetVolumes
from seg_mia.data.sets.phantom import Phantom
from seg_mia.data.sets.phantom_volumes import PhantomVolumes
from seg_mia.data.sets.polyps import ClinicDB, Polyps
from seg_mia.data.sets.stacked import StackedSlices
from seg_mia.data.sets.volumes import DicomVolumes, VolumeFiles
from seg_mia.data.splits import stated_split
from seg_mia.data.stated_parts import unmixed
from seg_mia.errors import InputError
from tests.data.scans import patients

PARTS = ["train"] * 4 + ["test"] * 3 + ["reference"] * 1 + ["shadow"] * 4
STATED_SHADOW = [*PARTS[:8], "shadow_train", "shadow_train", "shadow_test", "shadow"]
FOLDS = [{"train": ["1", "2"], "val": ["3"]}, {"train": ["3"], "val": ["1", "2"]}]


def write(root: Path, parts: Sequence[str], **columns: Sequence[str]) -> None:
    """Write a CSV file with a part for each case, by default the images of the folder."""
    names = sorted(file.stem for file in (root / "images").iterdir())
    table = columns or {"case": names}
    with (root / "parts.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*table, "part"])
        writer.writerows(zip(*table.values(), parts, strict=True))


def data(root: Path, *, members: int | None = 4, nonmembers: int | None = 3, **settings: Any) -> Folder:
    known: dict[str, Any] = {"root": str(root), "threshold": 127, "parts": "parts.csv"}
    return Folder(members=members, nonmembers=nonmembers, **(known | settings))


def ready(module: SegmentationData) -> Any:
    module.setup()
    return module


def names(module: SegmentationData, part: str) -> list[str]:
    return [module.source.ids[i] for i in getattr(module.splits, part)]


def test_the_victims_half_is_what_the_file_says(folder: Callable[..., Path]) -> None:
    root = folder()
    write(root, PARTS)
    victim = ready(data(root))
    every = list(victim.source.ids)
    assert names(victim, "members") == every[:4]
    assert names(victim, "nonmembers") == every[4:7]
    assert names(victim, "reference") == every[7:8]
    assert victim.states_members
    shadow = ready(data(root, members=2, nonmembers=1, role="shadow"))
    drawn = names(shadow, "members") + names(shadow, "nonmembers") + names(shadow, "reference")
    assert sorted(drawn) == every[8:]
    assert len(names(shadow, "members")) == 2
    assert not shadow.states_members


def test_the_shadows_half_may_be_stated_too(folder: Callable[..., Path]) -> None:
    root = folder()
    write(root, STATED_SHADOW)
    shadow = ready(data(root, members=None, nonmembers=None, role="shadow"))
    every = list(shadow.source.ids)
    assert names(shadow, "members") == every[8:10]
    assert names(shadow, "nonmembers") == every[10:11]
    assert names(shadow, "reference") == every[11:]
    assert shadow.states_members
    numbered = ready(data(root, members=2, nonmembers=1, role="shadow", shadow=0))
    assert not numbered.states_members  # its members are drawn from these three
    assert set(names(numbered, "members")) <= set(every[8:11])
    with pytest.raises(InputError, match="2 samples are in the part shadow_train and 1 in shadow_test, but"):
        ready(data(root, role="shadow"))


def test_what_the_file_says_is_part_of_the_fingerprint(folder: Callable[..., Path]) -> None:
    root, prints = folder(), set()
    for parts in (PARTS, PARTS[::-1]):
        write(root, parts)
        prints.add(ready(data(root, members=None, nonmembers=None)).fingerprint)
    drawn = ready(data(root, nonmembers=2, parts=None))
    assert len(prints | {drawn.fingerprint}) == 3


def test_patients_are_independent_of_files(folder: Callable[..., Path]) -> None:
    root = folder()
    write(root, PARTS)
    every = list(ready(data(root)).source.ids)
    write(root, PARTS, case=[f"{name}.png" for name in every], patient=list("aabbccdeffgh"))
    victim = ready(data(root))
    assert victim.source.groups == tuple("aabbccdeffgh")
    assert names(victim, "nonmembers") == every[4:7]
    (root / "groups.csv").write_text(
        "image,group\n"
        + "".join(f"{name},{group}\n" for name, group in zip(every, "aabbccdeffgh", strict=True))
    )
    parts = ["train", "train", "test", "test", "reference", "shadow", "shadow", "shadow"]
    write(root, parts, patient=list("abcdefgh"))
    again = ready(data(root, manifest="groups.csv"))
    assert [names(again, part) for part in ("members", "nonmembers")] == [every[:4], every[4:7]]
    write(root, PARTS, case=every, patient=list("abbbccdeffgh"))
    with pytest.raises(InputError, match="the patients 'a' and 'b', but the data has them as one, 'a'"):
        ready(data(root, manifest="groups.csv"))


def test_patients_in_several_parts_are_refused_or_left_out(folder: Callable[..., Path]) -> None:
    root = folder()
    write(root, PARTS)
    every = list(ready(data(root)).source.ids)
    write(root, PARTS, case=every, patient=["p" if i in (3, 4) else f"p{i}" for i in range(12)])
    with pytest.raises(InputError, match="in train and .* in test, .* set --data.mixed_patients reference"):
        ready(data(root))
    victim = ready(data(root, members=None, nonmembers=None, mixed_patients="reference"))
    assert names(victim, "members") == every[:3]
    assert names(victim, "nonmembers") == every[5:7]
    assert names(victim, "reference") == [every[3], every[4], every[7]]
    assert victim.notes[-1].line == "1 patients lie in several stated parts and count as reference (p)"
    with pytest.raises(InputError, match="mixed_patients applies to stated parts"):
        data(root, parts=None, mixed_patients="reference")


@pytest.mark.parametrize(
    ("parts", "settings", "message"),
    [
        (["val", *PARTS[1:]], {}, r"line 2 must have a part of train, test, reference, .*'val'"),
        (
            PARTS,
            {"members": 3},
            "4 samples are in the part train and 3 in test, .* nonmembers are 3",
        ),
        (PARTS, {"parts": "no.csv"}, "must be a CSV file in UTF-8, got: no file"),
        (PARTS, {"parts": "../parts.csv"}, "paths must stay inside"),
        (PARTS, {"parts": {}}, "a mapping of train, test, .* got none of these"),
        (PARTS, {"parts": {"trian": "parts.csv"}}, "got trian; correct it"),
        (PARTS, {"parts": {"train": "parts.csv", "fold": 0}}, "fold and validation belong to nnunet"),
        (PARTS, {"parts": {"nnunet": "parts.csv", "fold": 0}}, "must be nnU-Net's splits_final.json"),
        (PARTS, {"role": "shadow", "members": 9}, "samples are needed, 4 in 4 groups"),
        (PARTS, {"role": "shadow", "members": None}, "members must be a number where they are drawn"),
        (["test"] * 12, {"members": None, "nonmembers": None}, "the part train must have a sample"),
    ],
)
def test_what_a_stated_split_may_not_be(
    folder: Callable[..., Path], parts: list[str], settings: dict[str, Any], message: str
) -> None:
    root = folder()
    write(root, parts)
    with pytest.raises(InputError, match=message) as caught:
        ready(data(root, **settings))
    assert len(str(caught.value).splitlines()) == 1


def test_cases_are_those_of_the_data(folder: Callable[..., Path]) -> None:
    root = folder(4)
    for cases, message in (
        (["s00", "s01", "s02", "s99"], r"must name cases of this data, such as 's00', got s99"),
        (["s00", "s01", "s02"], r"1 of 4 have none \(s03\); add them"),
        (["s00", "s00", "s02", "s03"], r"line 3 must list a case once, got 's00'"),
        (["", "s01", "s02", "s03"], r"line 2 must have a value for 'case'"),
    ):
        write(root, ["train"] * len(cases), case=cases)
        with pytest.raises(InputError, match=message):
            ready(data(root))


def test_duplicates_are_in_one_part() -> None:
    ids, parts = ["a", "b", "c"], ["train", "test", "shadow"]
    assert unmixed(parts, ids, ids) == tuple(parts)
    half = stated_split(parts, "victim", members=1, nonmembers=1)
    assert half is not None
    assert (half.members, half.nonmembers, half.reference) == ((0,), (1,), ())
    assert stated_split(parts, "shadow", members=None, nonmembers=None) is None
    with pytest.raises(InputError, match="got a in train and b in test"):
        unmixed(parts, ids, ids, duplicates=[["a", "b"]])
    assert unmixed(parts, ids, ids, duplicates=[["a", "b"]], mixed="reference") == (
        "reference", "reference", "shadow",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"nnunet": "s.json", "fold": 0, "others": "test"}, ("train", "train", "reference", "test")),
        ({"nnunet": "s.json", "fold": 1, "validation": "test", "others": "shadow"},
         ("test", "test", "train", "shadow")),
        ({"nnunet": "s.json", "fold": "all", "test": "imagesTs"}, ("train", "train", "train", "test")),
        ({"train": "r.txt", "test": "t.txt", "others": "shadow"}, ("train", "shadow", "shadow", "test")),
    ],
)  # fmt: skip
def test_volumes_take_the_part_of_their_case(
    tmp_path: Path, parts: dict[str, Any], expected: tuple[str, ...]
) -> None:
    root = patients(tmp_path / "own", "images/{}.nii.gz", "masks/{}.nii.gz", ids=(1,))
    (root / "s.json").write_text(json.dumps(FOLDS))
    (root / "t.txt").write_text("4.nii.gz\n\n")
    (root / "r.txt").write_text("1\n")
    (root / "imagesTs").mkdir()
    (root / "imagesTs" / "4_0000.nii.gz").touch()
    nifti = ready(Nifti(root=str(root), size=16, members=None, nonmembers=None, parts=parts))
    stated = dict(zip(nifti.source.case_names, nifti.source.predefined_split, strict=True))
    assert tuple(stated[case] for case in "1234") == expected
    assert len(nifti.splits.members) == 4 * expected.count("train")  # each has four slices with the organ


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"nnunet": "s.json", "fold": 2}, "fold must be 0 to 1 of .*s.json, or all, got 2"),
        ({"nnunet": "s.json", "fold": 0}, r"1 of 4 have none \(4\); .*, or state others: PART"),
        ({"nnunet": "s.json", "fold": 0, "validation": "val"}, "validation must have a part of train"),
        ({"nnunet": "s.json", "fold": 0, "test": "t.txt"}, "'1' in train and in test; remove one"),
        ({"train": "no.txt"}, "must be a text file with a case in each line"),
    ],
)
def test_what_lists_and_folds_may_not_say(tmp_path: Path, parts: dict[str, Any], message: str) -> None:
    root = patients(tmp_path / "own", "images/{}.nii.gz", "masks/{}.nii.gz", ids=(1,))
    (root / "s.json").write_text(json.dumps(FOLDS))
    (root / "t.txt").write_text("1\n")
    with pytest.raises(InputError, match=message):
        ready(Nifti(root=str(root), size=16, members=None, nonmembers=None, parts=parts))


def test_a_volume_without_the_organ_may_be_listed(tmp_path: Path) -> None:
    root = patients(tmp_path / "own", "images/{}.nii.gz", "masks/{}.nii.gz", count=2, ids=(1,))
    patients(tmp_path / "other", "images/{}.nii.gz", "masks/{}.nii.gz", count=1, ids=(2,))
    for kind in ("images", "masks"):
        (tmp_path / "other" / kind / "1.nii.gz").rename(root / kind / "3.nii.gz")
    (root / "parts.csv").write_text("case,patient,part\n1,a,train\n2,b,test\n3,c,test\n")
    settings: dict[str, Any] = {"members": None, "nonmembers": None, "unlisted": "background"}
    nifti = ready(Nifti(root=str(root), size=16, parts="parts.csv", **settings))
    assert nifti.source.empty_cases == ("3",)
    assert set(nifti.source.groups) == {"a", "b"}


READERS = (
    Btcv, Cityscapes, ClinicDB, Dicom, Folder, Fundus, Isic, Kvasir, MsdLiver, Nifti, NnUNetRaw,
    NnUNetVolumes, Phantom, Polyps, DicomVolumes, PhantomVolumes, StackedSlices, VolumeFiles,
)  # fmt: skip


def test_every_reader_takes_a_stated_split() -> None:
    assert set(READERS) == {
        kind for kind in every(SegmentationData) if kind.__module__.startswith("seg_mia.")
    } - {kind for kind in every(SegmentationData) if kind.__name__ in {"Slices", "Volumes"}}
    for kind in READERS:
        declared = parameters(kind)
        assert {"parts", "mixed_patients"} <= declared.keys()
        assert declared["members"] == int | None


def every(kind: type) -> set[type]:
    direct: list[type] = kind.__subclasses__()
    return {found for each in direct for found in (each, *every(each))}


@pytest.mark.parametrize(
    ("kind", "images", "labels"),
    [
        (MsdLiver, "imagesTr/liver_{}.nii.gz", "labelsTr/liver_{}.nii.gz"),
        (Btcv, "img/img{}.nii.gz", "label/label{}.nii.gz"),
    ],
)
def test_readers_of_volumes_take_it(tmp_path: Path, kind: Any, images: str, labels: str) -> None:
    root = patients(tmp_path / "own", images, labels, ids=(1,))
    start = "liver_" if kind is MsdLiver else ""
    (root / "parts.csv").write_text(
        "case,part\n"
        + "".join(f"{start}{n},{part}\n" for n, part in enumerate(("train", "train", "test", "shadow"), 1))
    )
    read = ready(kind(root=str(root), size=16, members=None, nonmembers=None, parts="parts.csv"))
    assert [len(part) for part in (read.splits.members, read.splits.nonmembers)] == [8, 4]


def test_data_without_a_folder_has_no_stated_split() -> None:
    with pytest.raises(InputError, match="a folder, which Phantom has not"):
        ready(Phantom(patients=4, size=32, parts="parts.csv"))


def test_prepare_shows_the_parts_as_they_are_used(
    tiny: Path, folder: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root = folder()
    every_name = [f"s{number:02d}" for number in range(12)]
    write(
        root,
        STATED_SHADOW,
        case=every_name,
        patient=["p" if i in (3, 4) else f"p{i // 2}" for i in range(12)],
    )
    words = ["--data.parts=parts.csv", "--data.members=null", "--data.nonmembers=null"]
    assert main(["prepare", "--config", str(tiny), *words, "--data.mixed_patients=reference"]) == 0
    out = capsys.readouterr().out
    assert "- split: 3 members, " in out
    assert "- stated part train: 3 samples of 3 cases, 2 patients" in out
    assert "- stated part shadow_train: 2 samples of 2 cases, 1 patients" in out


@pytest.mark.usefixtures("undrawn")
def test_a_membership_attack_on_a_stated_split(tiny: Path, folder: Callable[..., Path]) -> None:
    write(folder(), PARTS)
    text = tiny.read_text().replace("members: 4, nonmembers: 2", "members: 4, nonmembers: 3")
    tiny.write_text(text.replace("threshold: 127,", "threshold: 127, parts: parts.csv,"))
    assert main(["fit", "--config", str(tiny)]) == 0
    shadow = ["--data.role=shadow", "--data.members=2", "--data.nonmembers=2"]
    assert main(["fit", "--config", str(tiny), *shadow]) == 0
    assert main(["test", "--attack", "mia-global-loss"]) == 0
    with next(Path("runs/tiny/version_0/mia-global-loss").glob("*/scores.csv")).open() as file:
        found = {row["id"]: row["member"] for row in csv.DictReader(file)}
    assert list(found.values()) == ["1"] * 4 + ["0"] * 3
