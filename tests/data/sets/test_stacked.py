"""Slices stored as pictures, stacked to volumes again."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image as PillowImage

from seg_mia.data.sets.stacked import StackedSlices
from seg_mia.errors import InputError


def written(root: Path, *, skipped: tuple[int, ...] = (), line: str = "") -> Path:
    """Write four patients of two frames with slices 1 to 11, listed in another order."""
    rng, lines = np.random.default_rng(0), ["file,patient,frame,slice"]
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for patient in range(4):
        for frame in (1, 2):
            for number in (10, 2, 1, 11, *range(3, 10)):
                if number in skipped and patient == 0:
                    continue
                name = f"p{patient}_{frame}_{number}.png"
                image = rng.integers(0, 256, (6, 5)).astype(np.uint8)
                image[0, 0] = number
                mask = (image > 128).astype(np.uint8) * 2
                PillowImage.fromarray(image).save(root / "images" / name)
                PillowImage.fromarray(mask).save(root / "masks" / name)
                lines.append(f"{name},{patient},{frame},{number}")
    (root / "index.csv").write_text("\n".join([*lines, *([line] if line else [])]))
    return root


def opened(root: Path, **options: Any) -> StackedSlices:
    settings: dict[str, Any] = {"volume_columns": ["frame"], "classes": 3, "members": 2, "nonmembers": 2}
    data = StackedSlices(root=str(root), **(settings | options))
    data.setup()
    return data


def test_slices_are_stacked_by_their_numbers(tmp_path: Path) -> None:
    source = opened(written(tmp_path)).source
    assert source.ids == tuple(f"{patient}_frame{frame}" for patient in range(4) for frame in (1, 2))
    assert source.groups == tuple(str(patient) for patient in range(4) for _ in (1, 2))
    image, mask = source.decode(3)
    assert image[:, 0, 0, 0].tolist() == list(range(1, 12))
    for number in range(1, 12):
        name = f"p1_2_{number}.png"
        assert_array_equal(image[number - 1, ..., 0], np.array(PillowImage.open(tmp_path / "images" / name)))
        assert_array_equal(mask[number - 1], np.array(PillowImage.open(tmp_path / "masks" / name)))


def test_grids_and_missing_slices(tmp_path: Path) -> None:
    data = opened(written(tmp_path, skipped=(4, 5)), voxel=[10, 2, 2], spacing=[10, 1, 1], size=[12, 12, 8])
    assert data.cached.masks.shape == (8, 12, 12, 8)
    assert data.source.spacing(0) == (10, 1, 1)
    assert "2 of 8 volumes lack slices between others" in data.notes[0].text
    # Pixels of 2 mm at 1 mm: 12 rows and 10 columns, of which 8 stay.
    assert "8 of 8 volumes are larger than size 12x12x8" in data.notes[1].text
    assert "11x12x10 would hold all" in data.notes[1].text


def test_slices_name_what_a_threshold_loses_and_labels_that_fit(tmp_path: Path) -> None:
    data = StackedSlices(
        root=str(written(tmp_path)), volume_columns=["frame"], threshold=127, members=2, nonmembers=2
    )
    source = data.read_source()
    assert source.lost(0) == 2
    assert "2: 1" in source.proposed_labels()
    other = tmp_path / "masks" / "p0_1_4.png"
    PillowImage.fromarray(np.full((6, 5), 255, np.uint8)).save(other)
    with pytest.raises(InputError, match=r"p0_1_1\.png must hold values above the threshold 127 or only 0"):
        source.decode(0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"volume_columns": ["scan"]}, "must have a column 'scan'"),
        ({"slice_column": "file"}, "must have a column 'file'"),
        ({"volume_columns": []}, "each slice number once"),
        ({"spacing": [1, 1, 1]}, "got no voxel"),
        ({"classes": 2}, "must hold class ids below 2"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        opened(written(tmp_path), **options)
