from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from seg_mia.cli import main
from seg_mia.data.images.file_pairs import Sample
from seg_mia.data.sets.cityscapes import CLASSES, Cityscapes, CityscapesSource
from seg_mia.errors import InputError

CITIES = ("aachen", "bochum", "ulm")
# The ids and training ids of Cityscapes' own table of labels.
TRAIN_IDS = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12,
             26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18}  # fmt: skip


def make(root: Path, count: int = 4) -> Path:
    """Each city's images, 64x32: the left half road, a car in it, the right half void."""
    for number, city in enumerate(CITIES):
        for frame in range(count):
            stem = f"{city}_{frame:06d}_000019"
            images, labels = (root / kind / "train" / city for kind in ("leftImg8bit", "gtFine"))
            for folder in (images, labels):
                folder.mkdir(parents=True, exist_ok=True)
            rng = np.random.default_rng([number, frame])
            PillowImage.fromarray(rng.integers(0, 256, (32, 64, 3), dtype=np.uint8)).save(
                images / f"{stem}_leftImg8bit.png"
            )
            ids = np.full((32, 64), 7, np.uint8)
            ids[8:16, 8:16], ids[:, 32:] = 26, 3
            PillowImage.fromarray(ids).save(labels / f"{stem}_gtFine_labelIds.png")
            for kind in ("color", "instanceIds"):
                PillowImage.new("RGB", (64, 32)).save(labels / f"{stem}_gtFine_{kind}.png")
            (labels / f"{stem}_gtFine_polygons.json").write_text("{}")
    return root


def small(root: Path, **changes: object) -> Cityscapes:
    settings: dict[str, object] = {"width": 16, "height": 8, "members": 3, "nonmembers": 2}
    return Cityscapes(root=str(root), **(settings | changes))  # type: ignore[arg-type]


def labelled(root: Path, ids: list[int]) -> CityscapesSource:
    """A source of one picture, a pixel high, with these label ids."""
    image, mask = root / "image.png", root / "mask.png"
    PillowImage.new("RGB", (len(ids), 1)).save(image)
    PillowImage.fromarray(np.array([ids], np.uint8)).save(mask)
    sample = Sample("one", image, mask, "one")
    return CityscapesSource([sample], channels=3, classes=19, threshold=None, width=len(ids), height=1)


def test_every_label_id_becomes_its_class_or_void(tmp_path: Path) -> None:
    _, mask = labelled(tmp_path, list(range(34))).decode(0)
    assert mask[0].tolist() == [TRAIN_IDS.get(number, 255) for number in range(34)]
    assert len(CLASSES) == 19
    assert (CLASSES[TRAIN_IDS[26]], CLASSES[TRAIN_IDS[11]]) == ("car", "building")


@pytest.mark.parametrize(("unknown", "said"), [([34, 7], "34"), ([0, 255, 254], "254, 255")])
def test_unknown_label_ids_are_refused_in_one_line(tmp_path: Path, unknown: list[int], said: str) -> None:
    with pytest.raises(InputError, match=rf"mask\.png must hold label ids 0 to 33, got {said};") as caught:
        labelled(tmp_path, unknown).decode(0)
    assert "\n" not in str(caught.value)


def test_images_are_wider_than_high_and_void_is_ignored(tmp_path: Path) -> None:
    data = small(make(tmp_path))
    data.setup()
    assert (data.source.classes, data.source.channels, len(data.source)) == (19, 3, 12)
    assert data.source.ids[0] == "train/aachen/aachen_000000_000019"
    image, mask, _ = data.dataset(np.arange(1))[0, 0]
    assert image.shape == (3, 8, 16)
    expected = torch.zeros(8, 16, dtype=torch.int64)
    expected[2:4, 2:4], expected[:, 8:] = 13, 255
    assert (mask == expected).all()


def test_cities_stay_on_one_side_on_request(tmp_path: Path) -> None:
    root = make(tmp_path)
    assert len(set(small(root).read_source().groups)) == 12
    assert set(small(root, group="city").read_source().groups) == {f"train/{city}" for city in CITIES}
    for seed in range(6):
        data = small(root, group="city", split_seed=seed, shadow_share=0.3)
        data.setup()
        members, others = (
            {data.source.groups[i] for i in part} for part in (data.splits.members, data.splits.nonmembers)
        )
        assert not members & others


def test_what_is_missing_is_said_with_its_place(tmp_path: Path) -> None:
    root = make(tmp_path)
    with pytest.raises(InputError, match="must hold the val part in leftImg8bit/val"):
        small(root, sets=["val"]).read_source()
    (root / "gtFine/train/ulm/ulm_000000_000019_gtFine_labelIds.png").unlink()
    with pytest.raises(InputError, match=r"1 of 12 images have no mask \(ulm/ulm_000000_000019\)"):
        small(root).read_source()
    with pytest.raises(InputError, match=r"www\.cityscapes-dataset\.com"):
        Cityscapes().read_source()


def test_a_network_trains_on_images_that_are_not_square(tmp_path: Path) -> None:
    root = make(tmp_path)
    words = ["fit", "--config", "cityscapes_victim", f"--data.root={root}", "--data.members=3"]
    words += ["--data.nonmembers=2", "--data.width=64", "--data.height=32", "--data.batch_size=2"]
    words += ["--model.network.encoder=tu-test_resnet", "--model.network.depth=3", "--trainer.max_epochs=1"]
    assert main([*words, "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]) == 0
    assert main(["predict", "--trainer.enable_progress_bar=false"]) == 0
    mask = next(Path("runs").glob("*/*/predict/*/masks/*.png"))
    with PillowImage.open(mask) as picture:
        assert picture.size == (64, 32)
