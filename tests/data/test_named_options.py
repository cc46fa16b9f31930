"""An error names no option that the data set at hand does not have."""

import importlib
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

import seg_mia.data
from seg_mia.data.base import SegmentationData
from seg_mia.errors import InputError
from tests.data import scans
from tests.data.sets import test_btcv, test_cityscapes, test_dicom

FOLDER = Path(*seg_mia.data.__path__)
MODULES = [
    ".".join(path.relative_to(FOLDER).with_suffix("").parts)
    for path in sorted(FOLDER.rglob("*.py"))
    if path.stem != "__init__"
]


def options_of(kind: type) -> set[str]:
    """Every argument of a data set and of those that it derives from."""
    signatures = [inspect.signature(each.__init__) for each in kind.__mro__ if each is not object]  # type: ignore[misc]
    return {name for signature in signatures for name in signature.parameters}


@pytest.mark.parametrize("name", MODULES)
def test_modules_name_options_of_their_own_data_sets(name: str) -> None:
    module = importlib.import_module(f"seg_mia.data.{name}")
    named = set(re.findall(r"--data\.([a-z_]+)", inspect.getsource(module)))
    kinds = [
        kind
        for kind in vars(module).values()
        if inspect.isclass(kind) and issubclass(kind, SegmentationData) and kind.__module__ == module.__name__
    ]
    base: Any = SegmentationData
    for kind in kinds or [base]:
        if name not in {
            "cache",
            "images.grey_values",
            "volumes.dicom_file",
            "volumes.windows",
            "checks",
            "images.paired",
            "root",
            "patients",
            "reference_masks",
            "volumes.resampling",
        }:  # these serve data sets that have the option
            assert named <= options_of(kind), kind


def refusal(data: SegmentationData) -> str:
    with pytest.raises(InputError) as caught:
        data.setup()
    return str(caught.value)


def unknown(path: Path) -> None:
    scans.save(path, np.full((16, 16, 6), 77, np.uint8))


@pytest.mark.parametrize("named", [True, False])
def test_label_ids_without_a_class(tmp_path: Path, named: bool) -> None:
    from seg_mia.data.sets.nifti import Nifti

    if named:
        scans.patients(tmp_path, "images/{}.nii.gz", "masks/{}.nii.gz", ids=(1,))
        unknown(tmp_path / "masks" / "2.nii.gz")
        line = refusal(Nifti(root=str(tmp_path), members=1, nonmembers=1))
        assert (
            "assign them a class (organs, labels), make them background (unlisted) or correct the file"
            in line
        )
    else:
        root = test_btcv.make(tmp_path)
        unknown(root / "label" / "label0002.nii.gz")
        with pytest.raises(
            InputError, match=r"got 77 \(1536 pixels\) as well, in 1 of 4 volumes; correct the file$"
        ):
            test_btcv.small(root)


def test_a_mask_of_other_ids(tmp_path: Path) -> None:
    root = test_cityscapes.make(tmp_path / "a")
    wide = np.full((32, 64), 300, np.uint16)
    PillowImage.fromarray(wide).save(root / "gtFine/train/ulm/ulm_000001_000019_gtFine_labelIds.png")
    line = refusal(test_cityscapes.small(root))
    assert "got 300 (2048 pixels); use the original files that end in _gtFine_labelIds.png" in line
    root = test_dicom.patients(tmp_path / "b")
    PillowImage.fromarray(np.full((5, 6), 300, np.uint16)).save(root / "1" / "Ground" / "liver_GT_001.png")
    with pytest.raises(
        InputError, match=r"got 300 \(30 pixels\); set threshold for a black-and-white mask, or correct"
    ):
        test_dicom.small(root, threshold=None)


def pictures(root: Path, suffix: str) -> Any:
    for number in range(4):
        for part, value in (("images", number), ("masks", 0)):
            (root / part).mkdir(parents=True, exist_ok=True)
            pixels = np.full((8, 8, 3) if part == "images" else (8, 8), value, np.uint8)
            PillowImage.fromarray(pixels).save(root / part / f"{number}{suffix}")
    return {"root": str(root), "members": 1, "nonmembers": 1, "size": 8}


def empty_folder(root: Path) -> SegmentationData:
    from seg_mia.data.sets.folder import Folder

    return Folder(**pictures(root, ".png"))


def empty_kvasir(root: Path) -> SegmentationData:
    from seg_mia.data.sets.kvasir import Kvasir

    return Kvasir(**pictures(root, ".png"))


def empty_volumes(root: Path) -> SegmentationData:
    from seg_mia.data.sets.nifti import Nifti

    for number in range(4):
        scans.save(root / "images" / f"{number}.nii", scans.ramp() + np.int16(number))
        scans.save(root / "masks" / f"{number}.nii", np.zeros(scans.SHAPE, np.uint8))
    return Nifti(root=str(root), members=1, nonmembers=1, size=None, minimum=0)


@pytest.mark.parametrize(
    ("make", "end"),
    [
        (empty_folder, " and check the masks' values and --data.threshold, --data.classes"),
        (empty_kvasir, " and check the masks' values"),
        (empty_volumes, " and check the masks' values and --data.organs"),
    ],
)
def test_masks_that_are_all_empty(tmp_path: Path, make: Callable[[Path], SegmentationData], end: str) -> None:
    line = refusal(make(tmp_path))
    assert "training masks are empty, so a network cannot learn a foreground; inspect" in line
    assert line.endswith(end)
