from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PillowImage

from seg_mia.data.fingerprint import fingerprint
from seg_mia.data.images.folder_source import FolderSource
from seg_mia.data.source import Image
from seg_mia.data.splits import divide, victim_shadow_split
from seg_mia.errors import InputError

GREY = np.arange(48, dtype=np.uint8).reshape(6, 8)
MASK = (GREY > 20).astype(np.uint8)


def write(root: Path, name: str, pixels: NDArray[Any]) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    PillowImage.fromarray(pixels).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with the samples b, p/a and c, whose masks have another suffix."""
    folder = tmp_path / "root"
    for name in ("b", "p/a", "c"):
        write(folder, f"images/{name}.png", GREY + len(name))
        write(folder, f"masks/{name}.bmp", MASK * np.uint8(255))
    return folder


def grey(root: Path | str, **options: Any) -> FolderSource:
    return FolderSource(root, **({"channels": 1, "classes": 2, "threshold": 127} | options))


def listed(root: Path, text: str, **options: Any) -> FolderSource:
    (root / "list.csv").write_text(text, encoding="utf-8")
    return grey(root, manifest="list.csv", **options)


def test_files_of_one_name_are_samples_and_their_own_groups(root: Path) -> None:
    source = grey(root)
    assert source.ids == source.groups == ("b", "c", "p/a")
    assert (len(source), source.channels, source.classes) == (3, 1, 2)
    image, mask = source.decode(2)
    assert np.array_equal(image, GREY[..., None] + 3)
    assert np.array_equal(mask, MASK)


def test_folders_can_have_other_names_and_be_one(root: Path) -> None:
    (root / "images").rename(root / "CT scans")
    assert grey(str(root), images="CT scans").ids == ("b", "c", "p/a")
    assert np.array_equal(grey(root, images="masks").decode(0)[0][..., 0], MASK * 255)


def test_the_settings_are_what_decides_pixels(root: Path) -> None:
    assert grey(root, size=4).settings == {"channels": 1, "classes": 2, "threshold": 127, "size": 4}


def test_the_digest_follows_the_bytes_of_both_files(root: Path) -> None:
    source = grey(root)
    before = [source.digest(i) for i in range(3)]
    assert before[0] == before[1] != before[2]
    whole = fingerprint(source)
    write(root, "masks/c.bmp", MASK)
    write(root, "images/p/a.png", GREY)
    after = [source.digest(i) for i in range(3)]
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, False, False]
    assert fingerprint(source) != whole
    assert fingerprint(grey(root, size=3)) == fingerprint(source)


@pytest.mark.parametrize(
    ("shape", "size", "want"),
    [
        ((2, 4), 2, [[15, 35], [55, 75]]),  # width halved by area, height kept
        ((4, 4), 2, [[35, 55], [115, 135]]),
        ((1, 2), 4, [[10, 12.5, 17.5, 20]] * 4),  # bilinear
        ((1, 4), 2, [[15, 35]] * 2),  # width halved by area, height doubled
    ],
)
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_shrink_by_area_and_grow_bilinearly(
    tmp_path: Path, shape: tuple[int, int], size: int, want: list[list[float]], kind: Any, channels: int
) -> None:
    pixels = (np.arange(shape[0] * shape[1]).reshape(shape) + 1) * 10
    write(tmp_path, "images/a.png", pixels.astype(kind) * kind(257 if kind is np.uint16 else 1))
    write(tmp_path, "masks/a.png", np.zeros(shape, np.uint8))
    image, mask = grey(tmp_path, size=size, channels=channels).decode(0)
    assert image.shape == (size, size, channels)
    assert mask.shape == (size, size)
    assert image.dtype == (np.uint8 if kind is np.uint8 else np.float32)
    levels = image.astype(float) * (1 if kind is np.uint8 else 255)
    assert abs(levels - np.array(want)[..., None]).max() <= (0.5 if kind is np.uint8 else 1e-4)


def test_masks_keep_their_ids_when_resized(tmp_path: Path) -> None:
    ids = np.array([[0, 3], [255, 1]], np.uint8)
    write(tmp_path, "images/a.png", np.zeros((2, 2), np.uint8))
    write(tmp_path, "masks/a.png", ids)
    source = grey(tmp_path, size=6, threshold=None, classes=4)
    assert np.array_equal(source.decode(0)[1], ids.repeat(3, 0).repeat(3, 1))


def test_white_floats_stay_in_range_when_resized(tmp_path: Path) -> None:
    write(tmp_path, "images/a.png", np.full((89, 68), 65535, np.uint16))
    write(tmp_path, "masks/a.png", np.zeros((89, 68), np.uint8))
    image: Image = grey(tmp_path, size=11).decode(0)[0]
    assert image.dtype == np.float32
    assert 1 - 1e-6 < image.min() <= image.max() <= 1


def test_image_and_mask_of_two_sizes_are_refused(root: Path) -> None:
    write(root, "masks/b.bmp", MASK[:5])
    with pytest.raises(InputError, match=r"one size, got 8x6 for .*b\.png and 8x5 for .*b\.bmp; replace one"):
        grey(root, size=4).decode(0)


@pytest.mark.parametrize("header", ["image,group", "\ufeffimage,group", "x,image,group"])
def test_a_manifest_chooses_samples_and_groups(root: Path, header: str) -> None:
    x = "," if header.startswith("x") else ""
    source = listed(root, f'{header}\n{x}"p/a.png",one\n{x}b,two\n')
    assert source.ids == ("b", "p/a")
    assert source.groups == ("two", "one")
    assert np.array_equal(source.decode(1)[0], GREY[..., None] + 3)


def test_a_manifest_without_groups_makes_each_sample_its_own(root: Path) -> None:
    assert listed(root, "image\nc.png\n").groups == ("c",)


def test_columns_can_have_other_names(root: Path) -> None:
    source = listed(
        root, "file,patient,group\nb.png,7,x\nc.png,7,y\n", image_column="file", group_column="patient"
    )
    assert source.groups == ("7", "7")


def test_a_mask_column_makes_paths_relative_to_the_root(root: Path) -> None:
    write(root, "elsewhere/b_seg.png", (GREY > 30) * np.uint8(255))
    source = listed(root, "image,truth\nimages/b.png,elsewhere/b_seg.png\n", mask_column="truth")
    assert source.ids == ("images/b",)
    assert np.array_equal(source.decode(0)[1], GREY > 30)
    assert listed(root, "image,mask\nimages/b.png,masks/b.bmp\n").ids == ("images/b",)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("file\nb.png\n", {}, "must have a column 'image', got file; set image_column"),
        ("", {}, "must have a column 'image', got none; set"),
        ("image\nb.png\n", {"group_column": "patient"}, "must have a column 'patient', got image; set"),
        ("image\nb.png\n", {"mask_column": "truth"}, "must have a column 'truth', got image; set"),
        ("image,group\n", {}, "must list samples, got none; add"),
        (
            "image,group\nb.png,1\nc.png, \n",
            {},
            r"list\.csv line 3 must have a value for 'group', got none; fill",
        ),
        ("image,group\n,1\n", {}, "line 2 must have a value for 'image', got none; fill"),
        (
            "image,group\nb.png\n",
            {},
            "line 2 must have as many cells as the header, .*; quote",
        ),
        ("image,group\nb,png,1\n", {}, "line 2 must have as many cells as the header"),
        (
            'image\n"b.png\n',
            {},
            r"list\.csv must be a CSV file in UTF-8, got: unexpected end of data; correct",
        ),
        ("image\nb.png\nb\n", {}, "line 3 must list an image once, got b again; remove"),
        ("image\nx.png\n", {}, "line 2 must name an image and a mask, found no image x; correct"),
        ("image\nonly.png\n", {}, "line 2 must name an image and a mask, found no mask only; correct"),
        ("image\n../images/b.png\n", {}, r"found no image \.\./images/b; correct"),
        (
            "image,mask\nb.png,masks/b.bmp\n",
            {},
            r"line 2 must name files below .*, found no .*b\.png; correct",
        ),
        (
            "image,mask\nimages/b.png,masks\n",
            {},
            "line 2 must name files below .*, found no .*masks; correct",
        ),
        (
            "image,mask\n../secret.png,masks/b.bmp\n",
            {},
            r"paths must stay inside .*, got '\.\./secret\.png'; move",
        ),
        (
            "image,mask\n/etc/hostname,masks/b.bmp\n",
            {},
            "paths must stay inside .*, got '/etc/hostname'; move",
        ),
        ("image,mask\nlink.png,masks/b.bmp\n", {}, "paths must stay inside .*, got 'link.png'; move"),
        (
            "image,mask\nimages/b.png,masks/b.bmp\nmasks/../images/b.png,masks/b.bmp\n",
            {},
            r"line 3 must list an image once, got masks/\.\./images/b\.png again; remove",
        ),
    ],
)
def test_manifests_that_do_not_fit_are_refused(
    root: Path, text: str, options: dict[str, str], message: str
) -> None:
    write(root, "images/only.png", GREY)
    write(root.parent, "secret.png", GREY)
    (root / "link.png").symlink_to(root.parent / "secret.png")
    with pytest.raises(InputError, match=message):
        listed(root, text, **options)


def test_a_manifest_that_is_no_text_or_missing_is_refused(root: Path) -> None:
    for name in ("images/b.png", "missing.csv", "images"):
        with pytest.raises(InputError, match=r"must be a CSV file in UTF-8, got: .*; correct manifest"):
            grey(root, manifest=name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 0}, r"channels must be 1 \(grey\), 3 \(RGB\) or a number of bands, got 0; set"),
        ({"classes": 1}, "classes must be 2 to 255, background included, got 1; change"),
        ({"classes": 256}, "classes must be 2 to 255"),
        ({"classes": 3}, "threshold must .* makes 2 classes, got threshold=127, classes=3; leave"),
        ({"threshold": -1}, "threshold must be 0 or more .*, got threshold=-1"),
        ({"size": 0}, "size must be at least 1 pixel, got 0; change"),
        ({"group_column": "patient"}, "group_column=patient needs a manifest, got none; set manifest"),
        ({"images": "../root2"}, r"paths must stay inside .*, got '\.\./root2'; move"),
        ({"masks": "/"}, "paths must stay inside .*, got '/'; move"),
        ({"manifest": "../list.csv"}, r"paths must stay inside .*, got '\.\./list\.csv'; move"),
        ({"masks": "none"}, "none must be a folder, found none; correct"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(root: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        grey(root, **options)


def test_kvasir_is_a_thousand_pairs(shared: Path) -> None:
    source = FolderSource(shared / "data" / "kvasir_seg", channels=3, classes=2, threshold=127, size=64)
    assert len(source) == 1000
    image, mask = source.decode(0)
    assert image.dtype == np.uint8
    assert (image.shape, mask.shape) == ((64, 64, 3), (64, 64))
    assert 0.05 < mask.mean() < 0.9


def test_liver_patients_stay_on_one_side(shared: Path) -> None:
    source = FolderSource(
        shared / "data" / "liver_ct",
        channels=1,
        classes=2,
        threshold=127,
        manifest="index.csv",
        image_column="file",
        group_column="patient",
    )
    assert (len(source), len(set(source.groups))) == (623, 122)
    sides = victim_shadow_split(source.ids, source.groups, seed=0)
    assert [len(side) for side in sides] == [312, 311]
    seen = Counter[str]()
    for side in sides:
        half = divide(side, source.ids, source.groups, seed=0, members=180, nonmembers=100)
        assert (len(half.members), len(half.nonmembers)) == (180, 100)
        for part in (half.members, half.nonmembers, half.reference):
            seen.update({source.groups[i] for i in part})
    assert set(seen.values()) == {1}
    image, mask = source.decode(0)
    assert (image.shape, mask.max()) == ((256, 256, 1), 1)


def test_acdc_has_four_classes(shared: Path) -> None:
    source = FolderSource(
        shared / "data" / "acdc",
        channels=1,
        classes=4,
        manifest="index.csv",
        image_column="file",
        group_column="patient",
    )
    assert (len(source), len(set(source.groups))) == (622, 100)
    ids = {int(i) for index in range(30) for i in np.unique(source.decode(index)[1])}
    assert ids == {0, 1, 2, 3}
