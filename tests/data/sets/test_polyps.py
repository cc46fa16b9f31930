from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from seg_mia.data.sets.kvasir import DUPLICATES
from seg_mia.data.sets.polyps import ClinicDB, Part, Polyps
from seg_mia.errors import InputError

PAIR = DUPLICATES[0]
FRAMES = range(1, 13)
CSV = "frame_id,sequence_id,png_image_path\n" + "".join(f"{n},{(n - 1) // 3 + 1},x\n" for n in FRAMES)


def save(file: Path, seed: int, *, mask: bool = False, size: tuple[int, int] = (24, 36)) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 200, (*size, 3), dtype=np.uint8)
    if mask:
        pixels = np.zeros(size, np.uint8)
        pixels[:, : size[1] // 2] = 255
    PillowImage.fromarray(pixels).save(file)


def benchmark(root: Path, images: str = "images", masks: str = "masks") -> Path:
    """Four images of Kvasir-SEG, a known pair among them, and twelve frames; two frames of CVC-300."""
    kvasir = [*PAIR, "cju000000000000000000001", "cju000000000000000000002"]
    for seed, name in enumerate([*kvasir, *map(str, FRAMES)]):
        save(root / "TrainDataset" / images / f"{name}.png", seed)
        save(root / "TrainDataset" / masks / f"{name}.png", seed, mask=True)
    for seed, name in enumerate(("149", "150"), start=50):
        save(root / "TestDataset" / "CVC-300" / "images" / f"{name}.png", seed)
        save(root / "TestDataset" / "CVC-300" / "masks" / f"{name}.png", seed, mask=True)
    (root / "sequences.csv").write_text(CSV)
    return root


def ready(root: Path, **changes: Any) -> Polyps:
    settings: dict[str, Any] = {"root": str(root), "size": 16, "members": 4, "nonmembers": 3}
    data = Polyps(**(settings | changes))
    data.setup()
    return data


@pytest.mark.parametrize(("images", "masks"), [("images", "masks"), ("image", "mask")])
def test_the_benchmark_is_read_whichever_way_its_folders_are_named(
    tmp_path: Path, images: str, masks: str
) -> None:
    data = ready(benchmark(tmp_path, images, masks))
    assert len(data.source) == 16
    assert {f"train/{PAIR[0]}", "train/12"} < set(data.source.ids)
    image, mask, _ = data.dataset(np.arange(1))[0, 0]
    assert image.shape == (3, 16, 16)
    assert mask[:, :8].all()
    assert not mask[:, 8:].any()


def test_frames_of_a_sequence_and_known_duplicates_are_never_parted(tmp_path: Path) -> None:
    root = benchmark(tmp_path)
    units = [{f"train/{3 * n + k}" for k in (1, 2, 3)} for n in range(4)] + [{f"train/{one}" for one in PAIR}]
    for seed in range(12):
        for role in ("victim", "shadow"):
            data = ready(root, split_seed=seed, role=role, nonmembers=2)
            for part in (data.splits.members, data.splits.nonmembers):
                inside = {data.source.ids[i] for i in part}
                outside = {data.source.ids[i] for i in data.splits} - inside
                assert not any(unit & inside and unit & outside for unit in units)


def test_frames_without_a_sequence_are_refused_or_said_to_be_independent(tmp_path: Path) -> None:
    root = benchmark(tmp_path)
    parts: list[Part] = ["train", "CVC-300"]
    with pytest.raises(InputError, match=r"2 of 14 are missing \(149, 150\)"):
        ready(root, sets=parts)
    (root / "all.csv").write_text(
        "part,frame_id,sequence_id\nCVC-300,149,1\nCVC-300,150,1\n" + "".join(f",{n},1\n" for n in FRAMES)
    )
    groups = ready(root, sets=parts, sequences="all.csv", shadow_share=0, nonmembers=2).source.groups
    assert sorted(set(groups))[:2] == ["CVC-300/sequence 1", "CVC-ClinicDB/sequence 1"]
    (root / "sequences.csv").unlink()
    with pytest.raises(InputError, match=r"--data\.sequences null"):
        ready(root)
    assert len(set(ready(root, sequences=None).source.groups)) == 16


@pytest.mark.parametrize(
    ("text", "telling"),
    [
        ("frame,sequence\n1,1\n", "line 2 must have values for frame_id"),
        ("frame_id,sequence_id\n1,1\n1,2\n", "line 3 must not give frame 1 another"),
        ('frame_id,sequence_id\n"1,1', "must be a CSV file"),
    ],
)
def test_a_list_of_sequences_that_does_not_fit_is_one_line(tmp_path: Path, text: str, telling: str) -> None:
    root = benchmark(tmp_path)
    (root / "sequences.csv").write_text(text)
    with pytest.raises(InputError, match=telling):
        ready(root)
    with pytest.raises(InputError, match="must stay inside"):
        ready(root, sequences="../sequences.csv")


@pytest.mark.parametrize(("inner", "suffix"), [("", ".tif"), ("PNG/", ".png")])
def test_clinicdb_in_its_own_layout_keeps_its_videos_together(
    tmp_path: Path, inner: str, suffix: str
) -> None:
    for n in FRAMES:
        save(tmp_path / f"{inner}Original" / f"{n}{suffix}", n)
        save(tmp_path / f"{inner}Ground Truth" / f"{n}{suffix}", n, mask=True)
    data = ClinicDB(root=str(tmp_path), size=16, members=3, nonmembers=3)
    with pytest.raises(InputError, match=r"metadata\.csv must give the sequence"):
        data.setup()
    (tmp_path / "metadata.csv").write_text(CSV)
    data.setup()
    assert data.source.ids == tuple(sorted(map(str, FRAMES)))
    assert len(set(data.source.groups)) == 4
    for part in (data.splits.members, data.splits.nonmembers):
        assert len({data.source.groups[i] for i in part}) == 1


def test_missing_parts_say_what_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "TrainDataset").mkdir()
    with pytest.raises(
        InputError, match=r"the images in TrainDataset/images or TrainDataset/image, found none"
    ):
        ready(tmp_path)
    with pytest.raises(InputError, match=r"github\.com/DengPingFan/PraNet"):
        Polyps().read_source()
