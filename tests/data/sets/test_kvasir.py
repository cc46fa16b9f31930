from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from seg_mia.data.fingerprint import fingerprint
from seg_mia.data.sets.kvasir import DUPLICATES, Kvasir
from seg_mia.data.split_settings import Role
from seg_mia.errors import InputError

PAIR = DUPLICATES[2]
ROLES: tuple[Role, ...] = ("victim", "shadow")


def make(root: Path, count: int = 14) -> Path:
    """A folder in Kvasir-SEG's layout: JPEG files of several sizes, colour masks with JPEG's noise."""
    rng = np.random.default_rng(0)
    for number in range(count):
        name = PAIR[number] if number < 2 else f"cju{number:022d}"
        height, width = 48 + 8 * (number % 3), 64
        image = rng.integers(0, 200, (height, width, 3), dtype=np.uint8)
        mask = np.zeros((height, width, 3), np.uint8)
        mask[height // 4 : 3 * height // 4, : width // 2] = 255
        for part, pixels in (("images", image), ("masks", mask)):
            (root / part).mkdir(parents=True, exist_ok=True)
            PillowImage.fromarray(pixels).save(root / part / f"{name}.jpg", quality=90)
    return root


def small(root: Path | None, **changes: Any) -> Kvasir:
    settings = {"root": root and str(root), "size": 32, "members": 4, "nonmembers": 3}
    data = Kvasir(**(settings | changes))
    data.setup()
    return data


def sides(data: Kvasir) -> list[set[str]]:
    splits = data.splits
    return [
        {data.source.ids[i] for i in part} for part in (splits.members, splits.nonmembers, splits.reference)
    ]


def test_jpeg_masks_become_two_classes(tmp_path: Path) -> None:
    data = small(make(tmp_path / "kvasir"))
    assert (data.source.classes, data.source.channels) == (2, 3)
    for image, mask, _ in (data.dataset(np.arange(14))[0, i] for i in range(14)):
        assert image.shape == (3, 32, 32)
        expected = torch.zeros(32, 32, dtype=torch.int64)
        expected[8:24, :16] = 1  # whatever the file's size was
        assert (mask == expected).float().mean() > 0.98
        assert mask[9:23, :15].all()


def test_known_duplicates_stay_on_one_side(tmp_path: Path) -> None:
    root = make(tmp_path / "kvasir")
    for seed in range(25):
        every = [part for role in ROLES for part in sides(small(root, split_seed=seed, role=role))]
        assert sum(bool(set(PAIR) & part) for part in every) <= 1


def test_duplicates_of_which_one_is_missing_do_no_harm(tmp_path: Path) -> None:
    root = make(tmp_path / "kvasir")
    for part in ("images", "masks"):
        (root / part / f"{PAIR[1]}.jpg").unlink()
    data = small(root, members=3)
    assert data.known_duplicates() == []
    assert len(data.source) == 13


@pytest.mark.parametrize("name", ["kvasir_seg", "Kvasir-SEG"])
def test_the_data_is_found_under_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("SEG_MIA_DATA", str(tmp_path))
    with pytest.raises(InputError, match=r"none of kvasir_seg, .*datasets\.simula\.no"):
        small(None)
    make(tmp_path / name)
    assert len(small(None).source) == 14


def test_what_the_user_named_wins_over_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "kvasir_seg")
    monkeypatch.setenv("SEG_MIA_DATA", str(tmp_path))
    assert len(small(make(tmp_path / "mine", count=16)).source) == 16


def test_the_fingerprint_is_of_the_files_and_not_of_the_size(tmp_path: Path) -> None:
    root = make(tmp_path / "kvasir")
    before = small(root).fingerprint
    assert small(root, size=48).fingerprint == before
    PillowImage.new("RGB", (64, 48)).save(root / "masks" / f"{PAIR[0]}.jpg")
    assert small(root).fingerprint != before


def test_the_real_data_gives_300_members_and_200_nonmembers_to_each_role(shared: Path) -> None:
    root = shared / "data" / "kvasir_seg"
    data = [small(root, role=role, members=300, nonmembers=200) for role in ROLES]
    every = [part for each in data for part in sides(each)]
    assert [len(part) for part in every] == [300, 200, 0] * 2
    assert len(set.union(*every)) == 1000
    for pair in DUPLICATES:
        assert [set(pair) <= part for part in every].count(True) == 1
    assert data[0].fingerprint == data[1].fingerprint
    assert data[0].fingerprint == fingerprint(Kvasir(root=str(root), size=256).read_source())
