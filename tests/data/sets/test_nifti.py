from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seg_mia.data.sets.nifti import Nifti
from seg_mia.errors import InputError
from tests.data.scans import patients


def small(root: Path, **options: Any) -> Nifti:
    settings: dict[str, Any] = {"root": str(root), "size": 16, "members": 4, "nonmembers": 4}
    data = Nifti(**(settings | options))
    data.setup()
    return data


@pytest.mark.parametrize(
    ("options", "classes", "kinds"),
    [
        ({"organs": [[1]], "unlisted": "background"}, 2, [1, 0, 0]),
        ({"organs": [[3, 1], [2]]}, 3, [1, 2, 1]),
        ({"organs": [[2]], "unlisted": "background"}, 2, [0, 1, 0]),
    ],
)
def test_organs_are_classes(tmp_path: Path, options: dict[str, Any], classes: int, kinds: list[int]) -> None:
    root = patients(tmp_path / "own", "images/{}.nii", "masks/{}.nii.gz", ids=(1, 2, 3))
    source = small(root, **options).source
    assert source.classes == classes
    mask = source.decode(0)[1]
    assert [int(mask[15 - place, 8]) for place in range(3)] == kinds
    assert set(source.groups) == {"1", "2", "3", "4"}


def test_ids_without_a_class_are_refused_unless_told_otherwise(tmp_path: Path) -> None:
    root = patients(tmp_path / "own", "images/{}.nii", "masks/{}.nii")
    with pytest.raises(
        InputError,
        match=r"ids 0, 1, got 2 \(\d+ pixels\) as well, in 4 of 4 volumes; assign them a class",
    ):
        small(root)
    with pytest.raises(InputError, match="paths must stay inside"):
        small(root, images="..")
    with pytest.raises(InputError, match="organs must be lists of label ids"):
        small(root, organs=[])


def test_labels_with_gaps_become_classes_and_255_is_ignored(tmp_path: Path) -> None:
    root = patients(tmp_path / "own", "images/{}.nii", "masks/{}.nii", ids=(128, 200))
    data = small(root, labels={0: 0, 128: 1, 200: 255})
    assert data.source.classes == 2
    assert set(np.unique(data.cached.masks)) == {0, 1, 255}
    with pytest.raises(InputError, match=r"got 200 .*; all ids: labels: \{0: 0, 128: 1, 200: 2\}"):
        small(root, labels={0: 0, 128: 1})
    with pytest.raises(InputError, match="exclude organs"):
        Nifti(members=1, nonmembers=1, labels={1: 1}, organs=[[1]])
    with pytest.raises(InputError, match=r"got 200 .*") as refused:
        small(root, regions={"whole": [128]})
    assert "labels: {" not in str(refused.value)
