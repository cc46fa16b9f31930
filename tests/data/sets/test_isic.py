from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from seg_mia.data.sets.isic import Isic, Part
from seg_mia.errors import InputError

NAMES = [f"ISIC_{number:07d}" for number in range(8)]


def save(images: Path, masks: Path, name: str, suffix: str) -> None:
    """A lesion in the upper half of a JPEG, and its mask."""
    for folder in (images, masks):
        folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(int(name[-3:])).integers(150, 250, (20, 32, 3), dtype=np.uint8)
    pixels[:10] //= 3
    PillowImage.fromarray(pixels).save(images / f"{name}.jpg")
    PillowImage.fromarray(np.repeat([[255], [0]], 10, axis=0).repeat(32, axis=1).astype(np.uint8)).save(
        masks / f"{name}{suffix}.png"
    )


def official(root: Path, part: str = "Training") -> None:
    images, masks = root / f"ISIC2018_Task1-2_{part}_Input", root / f"ISIC2018_Task1_{part}_GroundTruth"
    for name in NAMES:
        save(images, masks, name, "_segmentation")
    for folder in (images, masks):
        (folder / "LICENSE.txt").write_text("terms")
        (folder / "ATTRIBUTION.txt").write_text("names")


def split(root: Path) -> None:
    for number, name in enumerate(NAMES):
        part = root / ("train" if number < 6 else "test")
        save(part / "images", part / "masks", name, ("_segmentation", "_Segmentation", "")[number % 3])
    PillowImage.new("RGB", (32, 20)).save(root / "train" / "images" / "ISIC_0000000_superpixels.png")


@pytest.mark.parametrize(("make", "count"), [(official, 8), (split, 6)])
def test_both_layouts_give_images_their_masks(
    tmp_path: Path, make: Callable[[Path], None], count: int
) -> None:
    make(tmp_path)
    data = Isic(root=str(tmp_path), size=10, members=2, nonmembers=1)
    data.setup()
    assert data.source.ids == tuple(f"train/{name}" for name in NAMES[:count])
    assert data.source.groups == data.source.ids
    for image, mask, _ in (data.dataset(np.arange(count))[0, i] for i in range(count)):
        assert image.shape == (3, 10, 10)
        assert mask[:5].all()
        assert not mask[5:].any()
        assert image[:, mask == 1].max() < image[:, mask == 0].min()


def test_several_parts_are_told_apart_by_their_names(tmp_path: Path) -> None:
    split(tmp_path)
    parts: list[Part] = ["train", "test"]
    ids = Isic(root=str(tmp_path), sets=parts).read_source().ids
    assert len(ids) == 8
    assert ids[:2] == ("test/ISIC_0000006", "test/ISIC_0000007")


def test_what_is_missing_is_said_with_its_name(tmp_path: Path) -> None:
    official(tmp_path)
    (tmp_path / "ISIC2018_Task1_Training_GroundTruth" / f"{NAMES[2]}_segmentation.png").unlink()
    with pytest.raises(InputError, match=r"1 of 8 images have no mask \(ISIC_0000002\)"):
        Isic(root=str(tmp_path)).read_source()
    with pytest.raises(InputError, match="ISIC2018_Task1-2_Test_Input or test/images"):
        Isic(root=str(tmp_path), sets=["test"]).read_source()
    with pytest.raises(InputError, match=r"challenge\.isic-archive\.com"):
        Isic().read_source()


def test_two_masks_of_one_image_are_refused(tmp_path: Path) -> None:
    split(tmp_path)
    PillowImage.new("L", (32, 20)).save(tmp_path / "train" / "masks" / f"{NAMES[0]}.png")
    with pytest.raises(InputError, match="one mask, got"):
        Isic(root=str(tmp_path)).read_source()
