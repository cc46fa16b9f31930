from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seg_mia.data.sets.btcv import ORGANS, Btcv
from seg_mia.errors import InputError
from tests.data.scans import patients, save

IDS = tuple(range(1, 14))


def make(root: Path, count: int = 4) -> Path:
    return patients(root, "img/img{:04d}.nii.gz", "label/label{:04d}.nii.gz", ids=IDS, count=count)


def small(root: Path, **options: Any) -> Btcv:
    settings: dict[str, Any] = {"root": str(root), "size": 16, "members": 4, "nonmembers": 4}
    data = Btcv(**(settings | options))
    data.setup()
    return data


def rows(data: Btcv) -> list[int]:
    """The classes of ids 1 to 13, which lie on rows of their own, the first at the bottom."""
    mask = data.source.decode(0)[1]
    return [int(mask[15 - place, 8]) for place in range(len(IDS))]


@pytest.mark.parametrize("inner", ["", "RawData/Training", "Training"])
def test_thirteen_organs_are_fourteen_classes_wherever_it_was_unpacked(tmp_path: Path, inner: str) -> None:
    make(tmp_path / "btcv" / inner)
    data = small(tmp_path / "btcv")
    assert data.source.classes == 14 == len(ORGANS) + 1
    assert rows(data) == list(IDS)
    assert data.source.ids[0] == "0001/axial_002"
    assert set(data.source.groups) == {"0001", "0002", "0003", "0004"}
    assert (data.source.settings["level"], data.source.settings["width"]) == (75, 400)


def test_targets_leave_organs_to_the_background(tmp_path: Path) -> None:
    root = make(tmp_path / "btcv")
    assert rows(small(root, target="eight")) == [7, 4, 3, 2, 0, 5, 8, 1, 0, 0, 6, 0, 0]
    assert rows(small(root, target="liver")) == [0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]


def test_other_names_and_ids_are_refused(tmp_path: Path) -> None:
    root = make(tmp_path / "btcv")
    save(root / "label" / "label0002.nii.gz", np.full((16, 16, 6), 14, np.uint8))
    with pytest.raises(InputError, match=r"label0002.nii.gz must hold only the label ids 0, .*, 13, got 14"):
        small(root)
    (root / "label" / "label0002.nii.gz").rename(root / "label" / "img0002.nii.gz")
    with pytest.raises(
        InputError, match=r"img0002.nii.gz must be named label and a number, such as label0001"
    ):
        small(root)
    with pytest.raises(InputError, match="img must be a folder, found none"):
        small(tmp_path)
