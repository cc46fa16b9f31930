"""Nothing outside of a data set's folder is read, whichever reader reads it, and no archive is unpacked."""

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as PillowImage

import seg_mia
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
from seg_mia.data.sets.polyps import ClinicDB, Polyps
from seg_mia.errors import InputError
from tests.data.scans import patients
from tests.data.sets import (
    test_btcv,
    test_cityscapes,
    test_dicom,
    test_isic,
    test_kvasir,
    test_msd,
    test_polyps,
)

Made = Callable[[Path], object]


def folder(root: Path) -> None:
    for part in ("images", "masks"):
        for name in ("a", "b"):
            picture(root / part / f"{name}.png")


def fundus(root: Path) -> None:
    for part in ("image_samples", "mask_samples"):
        for name in ("a", "b"):
            picture(root / part / f"{name}.png", (428, 569))


def clinicdb(root: Path) -> None:
    for number in range(4):
        for part in ("Original", "Ground Truth"):
            test_polyps.save(root / part / f"{number}.png", number, mask=part != "Original")
    (root / "metadata.csv").write_text("frame_id,sequence_id\n" + "".join(f"{n},{n}\n" for n in range(4)))


def nifti(root: Path) -> None:
    patients(root, "images/{}.nii.gz", "masks/{}.nii.gz", ids=(1,))


def picture(file: Path, size: tuple[int, int] = (12, 9)) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    PillowImage.new("L", size, 200).save(file)


CITY = "leftImg8bit/train/ulm"
ISIC = "ISIC2018_Task1-2_Training_Input"
SOURCES: list[tuple[type[SegmentationData], Made, str, str]] = [
    (Folder, folder, "images", "images/a.png"),
    (Folder, folder, "masks", "masks/b.png"),
    (Kvasir, test_kvasir.make, "images", "images/cju0000000000000000000003.jpg"),
    (Fundus, fundus, "mask_samples", "image_samples/a.png"),
    (Polyps, test_polyps.benchmark, "TrainDataset/images", "TrainDataset/masks/1.png"),
    (Polyps, test_polyps.benchmark, "TrainDataset", "sequences.csv"),
    (ClinicDB, clinicdb, "Original", "Original/1.png"),
    (ClinicDB, clinicdb, "Ground Truth", "metadata.csv"),
    (Isic, test_isic.official, ISIC, f"{ISIC}/ISIC_0000001.jpg"),
    (Isic, test_isic.split, "train", "train/masks/ISIC_0000002.png"),
    (Cityscapes, test_cityscapes.make, "gtFine", f"{CITY}/ulm_000000_000019_leftImg8bit.png"),
    (Cityscapes, test_cityscapes.make, CITY, "gtFine/train/ulm/ulm_000001_000019_gtFine_labelIds.png"),
    (Nifti, nifti, "images", "images/2.nii.gz"),
    (Nifti, nifti, "masks", "masks/3.nii.gz"),
    (MsdLiver, test_msd.decathlon, "imagesTr", "labelsTr/liver_2.nii.gz"),
    (Btcv, test_btcv.make, "label", "img/img0001.nii.gz"),
    (Dicom, test_dicom.patients, "1", "1/DICOM_anon/i3.dcm"),
    (Dicom, test_dicom.patients, "2/DICOM_anon", "1/Ground/liver_GT_002.png"),
]


def read(kind: type[SegmentationData], root: Path) -> SegmentationData:
    options: dict[str, Any] = {"root": str(root), "members": 1, "nonmembers": 1}
    if kind is Folder:
        options["threshold"] = 127
    data = kind(**options)
    data.prepare_data()
    return data


@pytest.mark.parametrize(("kind", "make", "inner", "file"), SOURCES)
def test_what_lies_outside_is_refused_by_name(
    tmp_path: Path, kind: type[SegmentationData], make: Made, inner: str, file: str
) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    make(root)
    whole = read(kind, root)
    assert len(whole.source)
    for moved in (inner, file):
        (root / moved).rename(outside)
        (root / moved).symlink_to(outside)
        with pytest.raises(InputError) as caught:
            read(kind, root)
        line = str(caught.value)
        assert "must stay inside" in line or "must not be a link out of" in line, line
        assert Path(moved).name in line
        (root / moved).unlink()
        outside.rename(root / moved)
    assert read(kind, root).fingerprint == whole.fingerprint


def test_a_root_that_is_a_link_is_the_users_choice(tmp_path: Path) -> None:
    folder(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert len(read(Folder, tmp_path / "link").source) == 2


def test_no_module_unpacks_archives() -> None:
    """Data sets are unpacked by their users: an archive could name files outside of any folder."""
    unpackers = {"zipfile", "tarfile", "rarfile", "py7zr", "unpack_archive", "extractall", "allow_pickle"}
    root = Path(str(seg_mia.__file__)).parent
    for file in root.rglob("*.py"):
        # These look inside or name an error of a damaged file, and write nothing.
        readers = {"models/state_files.py", "models/file_guard.py", "errors.py"}
        looking = {"zipfile"} if file.relative_to(root).as_posix() in readers else set()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            named = _named(node)
            assert named.isdisjoint(unpackers - looking), f"{file.name}: {named & unpackers}"


def _named(node: ast.AST) -> set[str]:
    """Return the modules, functions and truthy options that a piece of code names."""
    match node:
        case ast.Import(names) | ast.ImportFrom(names=names):
            module = getattr(node, "module", None) or ""
            return {part for name in names for part in (*module.split("."), *name.name.split("."))}
        case ast.Name(name) | ast.Attribute(attr=name):
            return {name}
        case ast.keyword(arg=str(name), value=ast.Constant(False)):
            return set() if name == "allow_pickle" else {name}
        case ast.keyword(arg=str(name)):
            return {name}
        case _:
            return set()
