import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PillowImage

from seg_mia.commands.prepare import prepare
from seg_mia.data.images.folder_source import FolderSource
from seg_mia.data.images.label_ids import LabelSetting, label_table, proposed, proposed_for
from seg_mia.data.sets.folder import Folder
from seg_mia.data.unknown_labels import UnknownLabelsError
from seg_mia.errors import InputError

GREYS: LabelSetting = {0: 0, 128: 1, 255: 2}
COLOURS: LabelSetting = {"#000000": 0, "#ff0000": 1, "#00ff00": 2}
CLASSES = np.repeat(np.repeat(np.array([[0, 1], [2, 0]], np.uint8), 20, axis=0), 20, axis=1)
"""Four squares of 20 x 20."""


def save(path: Path, pixels: NDArray[Any], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PillowImage.fromarray(pixels).save(path, **options)
    return path


def read(path: Path, labels: LabelSetting, tolerance: int | None = None) -> NDArray[np.uint8]:
    table = label_table(labels, tolerance)
    assert table is not None
    return table.read(path)


def test_grey_levels_become_classes(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", np.array([0, 128, 255], np.uint8)[CLASSES])
    assert np.array_equal(read(path, GREYS), CLASSES)


def test_16_bits_hold_ids_to_65535(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", np.array([0, 1000, 65535], np.uint16)[CLASSES])
    assert np.array_equal(read(path, {0: 0, 1000: 1, "65535": 2}), CLASSES)


def test_colours_become_classes(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], np.uint8)[CLASSES])
    assert np.array_equal(read(path, COLOURS), CLASSES)


def test_a_palette_file_has_indices_and_colours(tmp_path: Path) -> None:
    image = PillowImage.fromarray(CLASSES, mode=None)
    image = image.convert("P")
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    image.save(tmp_path / "m.png")
    assert np.array_equal(read(tmp_path / "m.png", COLOURS), CLASSES)
    assert np.array_equal(read(tmp_path / "m.png", {0: 0, 1: 2, 2: 1}), np.array([0, 2, 1])[CLASSES])


def test_class_255_is_ignored_and_counts_as_no_class(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", np.array([0, 128, 255], np.uint8)[CLASSES])
    table = label_table({0: 0, 128: 1, 255: 255})
    assert table is not None
    assert table.classes == 2
    assert np.array_equal(table.read(path), np.array([0, 1, 255])[CLASSES])


def test_a_grey_jpeg_takes_the_nearest_label(tmp_path: Path) -> None:
    stored = np.array([0, 128, 255], np.uint8)[CLASSES]
    path = save(tmp_path / "m.jpg", stored, quality=95)
    values = np.asarray(PillowImage.open(path)).astype(int)
    assert 0 < np.abs(values - stored).max() <= 16  # the case is one of compression artefacts
    assert np.array_equal(read(path, GREYS), CLASSES)


def test_a_value_beyond_the_tolerance_is_refused_with_counts(tmp_path: Path) -> None:
    stored = np.array([0, 128, 255], np.uint8)[CLASSES]
    stored[0, :3] = 7
    path = save(tmp_path / "m.png", stored)
    with pytest.raises(UnknownLabelsError, match=r"labels 0, 128, 255, got 7 \(3 pixels\) as well"):
        read(path, GREYS)
    with pytest.raises(UnknownLabelsError, match=r"255, each within 6, got 7 \(3 pixels\)"):
        read(path, GREYS, 6)
    assert np.array_equal(read(path, GREYS, 7), CLASSES)


def test_close_ids_in_a_jpeg_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "m.jpg", CLASSES)
    with pytest.raises(InputError, match="at least 33 apart, as JPEG compression changes values, got 1"):
        read(path, {0: 0, 1: 1, 2: 2})


@pytest.mark.parametrize(
    ("labels", "tolerance", "message"),
    [
        ({"red": 1}, None, "whole numbers from 0 to 65535, or colours"),
        ({"#ff0000": 1, 0: 0}, None, "whole numbers from 0 to 65535, or colours"),
        ({70000: 1}, None, "whole numbers"),
        ({0: 0, 1: 3}, None, "none for 1"),
        ({0: 0}, None, "values 0 for background, further classes"),
        ({0: 0, 9: 1}, 5, "below half of the least distance of two labels, 9, got 5"),
        (None, 5, "needs labels"),
    ],
)
def test_refused_settings(labels: Any, tolerance: int | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        label_table(labels, tolerance)


def test_colours_for_labels_of_numbers_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], np.uint8)[CLASSES])
    with pytest.raises(InputError, match="give colours as labels"):
        read(path, GREYS)


def test_proposals() -> None:
    assert proposed_for({0: 90, 128: 5, 255: 5}) == "labels: {0: 0, 128: 1, 255: 2}"
    assert proposed_for({0: 90, 1: 5, 2: 5, 255: 5}) == "labels: {0: 0, 1: 1, 2: 2, 255: 255}"
    assert proposed_for({0x000000: 9, 0xFF0000: 1}, colours=True) == "labels: {'#000000': 0, '#ff0000': 1}"
    noisy = dict.fromkeys((*range(12), *range(240, 256), *range(120, 136)), 1)
    histogram = noisy | {0: 5000, 128: 600, 255: 700}
    assert proposed_for(histogram) == "labels: {0: 0, 128: 1, 255: 2}, label_tolerance: 15"
    assert proposed_for(dict.fromkeys(range(256), 1) | {0: 5000, 255: 700}) == "threshold: 127"
    assert proposed_for(dict.fromkeys(range(0, 2560, 20), 10)) == ""  # 128 ids, far from each other


def test_the_proposal_reads_all_files_as_the_settings_say(tmp_path: Path) -> None:
    paths = [
        save(tmp_path / f"{level}.png", np.array([0, level, 255], np.uint8)[CLASSES]) for level in (64, 128)
    ]
    assert proposed(paths) == "labels: {0: 0, 64: 1, 128: 2, 255: 3}"
    coloured = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], np.uint8)[CLASSES]
    paths = [save(tmp_path / "c.png", coloured)]
    assert proposed(paths) == "labels: {'#000000': 0, '#00ff00': 1, '#ff0000': 2}"


def cells(root: Path, count: int = 6) -> Path:
    """Write images and masks beside each other, as annotation tools of cell images do."""
    rng = np.random.default_rng(0)
    for number in range(count):
        save(root / f"img_{number:02}_image.png", rng.integers(0, 255, CLASSES.shape, np.uint8))
        save(root / f"img_{number:02}_mask.png", np.array([0, 128, 255], np.uint8)[CLASSES])
    save(root / "img_00_overlay.png", CLASSES)
    return root


def test_images_and_masks_in_one_folder_pair_by_ending(tmp_path: Path) -> None:
    source = FolderSource(
        cells(tmp_path),
        images=".",
        masks=".",
        channels=1,
        classes=2,
        table=label_table(GREYS),
        image_ending="_image",
        mask_ending="_mask",
    )
    assert source.ids == tuple(f"img_{number:02}" for number in range(6))
    assert source.classes == 3
    assert np.array_equal(source.decode(3)[1], CLASSES)
    assert "1 files end neither in '_image' nor in '_mask'" in source.notes[0].text
    assert "labels" in source.settings


def test_an_ending_of_masks_alone_is_enough(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save(tmp_path / f"{name}.png", CLASSES)
        save(tmp_path / f"{name}_mask.png", CLASSES)
    source = FolderSource(tmp_path, images=".", masks=".", channels=1, classes=3, mask_ending="_mask")
    assert source.ids == ("a", "b")
    with pytest.raises(InputError, match="mask names that end in '_label'"):
        FolderSource(tmp_path, images=".", masks=".", channels=1, classes=3, mask_ending="_label")


def test_prepare_proposes_the_labels(tmp_path: Path) -> None:
    os.environ["SEG_MIA_CACHE"] = str(tmp_path / "cache")
    folder = cells(tmp_path / "data")
    words = ["--data", "seg_mia.data.sets.folder.Folder", f"--data.root={folder}", "--data.images=."]
    words += ["--data.masks=.", "--data.image_ending=_image", "--data.mask_ending=_mask"]
    words += ["--data.channels=1", "--data.members=2", "--data.nonmembers=1", f"--out={tmp_path / 'out'}"]
    with pytest.raises(InputError) as error:
        prepare(words)
    fitting = str(error.value).split("the values of all masks fit: ")[1]
    assert fitting == "labels: {0: 0, 128: 1, 255: 2}"
    lines = prepare([*words, f"--data.{fitting.replace(': ', '=', 1)}"])
    assert any(line.startswith("| 2 | 25.000%") for line in lines)


def test_labels_exclude_threshold_and_other_classes() -> None:
    for options in ({"threshold": 127}, {"classes": 2}):
        with pytest.raises(InputError, match="labels exclude a threshold and make 3 classes"):
            Folder(members=1, nonmembers=1, labels=GREYS, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("labels", [{7: 3}, {"2": 1}, {0: 0, " 9 ": 254}, {2: 1}])
def test_labels_beside_regions_are_background_or_ignored(labels: LabelSetting) -> None:
    with pytest.raises(InputError, match="labels beside regions must be 0 or 255"):
        label_table(labels, regions={"whole": [1, 2], "core": [2]})


@pytest.mark.parametrize("label", [2, "2", " 02"])
def test_an_ignored_id_of_a_region_is_refused_in_any_spelling(label: int | str) -> None:
    with pytest.raises(InputError, match="must not ignore"):
        label_table({label: 255}, regions={"whole": [1, 2], "core": ["2"]})


def test_ids_of_regions_count_in_any_spelling() -> None:
    table = label_table({" 9": 255, "07": 0}, regions={"whole": [1, " 2"], "core": ["02"]})
    assert table is not None
    assert table.classes_of == {0: 0, 1: 1, 2: 3, 7: 0, 9: 255}


def test_no_labels_are_proposed_where_regions_are_set(tmp_path: Path) -> None:
    for number in range(4):
        save(tmp_path / "images" / f"{number}.png", np.full((40, 40), number, np.uint8))
        save(tmp_path / "masks" / f"{number}.png", np.array([0, 1, 7], np.uint8)[CLASSES])
    table = label_table({}, regions={"whole": [1]})
    assert FolderSource(tmp_path, channels=1, classes=2).proposed_labels()
    assert not FolderSource(tmp_path, channels=1, classes=2, table=table).proposed_labels()


def test_exact_ids_become_sets_however_large() -> None:
    table = label_table({9: 255}, regions={"whole": [300, 65535], "core": [300]})
    assert table is not None
    ids = np.array([[0, 9, 300], [65535, 7, 301]], np.int64)
    assert table.classes_for(ids).tolist() == [[0, 255, 3], [1, 0, 0]]
    colours = label_table({}, regions={"whole": ["#ff0000"]})
    assert colours is not None
    with pytest.raises(InputError, match="got regions of colours"):
        colours.classes_for(ids)
