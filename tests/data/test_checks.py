"""What a data set may hold that teaches or measures nothing: refused or told by name."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PillowImage

from seg_mia.data.base import Subset
from seg_mia.data.images.mask_coding import largest_lost
from seg_mia.data.sample_facts import sample_facts
from seg_mia.data.sets.folder import Folder
from seg_mia.data.sets.nifti import Nifti
from seg_mia.errors import InputError

SIDE = 12


def square(value: int = 255, rest: int = 0) -> NDArray[np.uint8]:
    mask = np.full((SIDE, SIDE), rest, np.uint8)
    mask[3:7, 3:7] = value
    return mask


def picture(number: int) -> NDArray[np.uint8]:
    return np.random.default_rng(number).integers(0, 200, (SIDE, SIDE), dtype=np.uint8)


def save(
    root: Path, masks: list[NDArray[Any]], images: list[NDArray[Any]] | None = None, part: str = ""
) -> Path:
    for number, mask in enumerate(masks):
        own = picture(number) if images is None else images[number]
        for folder, array in (("images", own), ("masks", mask)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            PillowImage.fromarray(array).save(root / folder / f"{part}s{number}.png")
    return root


def opened(root: Path, **options: Any) -> Folder:
    count = len(list((root / "images").iterdir()))
    settings: dict[str, Any] = {
        "root": str(root), "channels": 1, "threshold": 127, "members": count // 2,
        "nonmembers": count - count // 2, "shadow_share": 0.0,
    }  # fmt: skip
    data = Folder(**(settings | options))
    data.setup()
    return data


def test_samples_without_fault_are_not_spoken_of(tmp_path: Path) -> None:
    assert opened(save(tmp_path, [square()] * 6)).notes == ()


def test_masks_that_an_option_emptied_are_not_spoken_of(tmp_path: Path) -> None:
    data = opened(save(tmp_path, [square()] * 20), altered=0.5)
    assert data.source.columns["altered"].count("mask empty") == 2
    assert data.facts.empty.sum() == 2
    assert data.notes == ()


def test_most_images_of_one_grey_are_refused_and_few_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    greys = [np.full((SIDE, SIDE), 7 * number, np.uint8) for number in range(6)]
    root = save(tmp_path / "all", [square()] * 6, greys)
    with pytest.raises(
        InputError, match=r"3 of 3 members .* constant images, of one grey level each \(s\d, s\d, s\d\)"
    ):
        opened(root)
    few = [greys[1], *(picture(number) for number in range(5))]
    (note,) = opened(save(tmp_path / "one", [square()] * 6, few)).notes
    assert note.names == ("s0",)
    assert "1 of 6 images are constant" in note.text
    assert "[0.02745, 0.02745] of [0, 1]" in note.text  # 7 of 255
    assert "(s0)" in caplog.text


def test_images_that_show_next_to_one_grey_are_told(tmp_path: Path) -> None:
    narrow = (100 + picture(0) % 17).astype(np.uint8)  # 17 levels from 100 to 116
    wide = (100 + picture(0) % 18).astype(np.uint8)
    dot = np.zeros((SIDE, SIDE), np.uint8)
    dot[0, 0] = 255  # 143 of 144 pixels are of one value
    deep = picture(1).astype(np.uint16) * 20  # 12 bits in a file of 16: below 3980 of 65535
    images = [narrow, wide, dot, picture(3), picture(4), picture(5)]
    (note,) = opened(save(tmp_path / "eight", [square()] * 6, images)).notes
    assert note.names == ("s0", "s2")
    (note,) = opened(save(tmp_path / "sixteen", [square()] * 6, [deep, *images[3:], *images[3:5]])).notes
    assert note.names == ("s0",)
    assert "almost constant" in note.text


def test_a_colour_alone_is_constant_and_two_are_not(tmp_path: Path) -> None:
    blue = np.zeros((SIDE, SIDE, 3), np.uint8)
    blue[..., 2] = 200
    half = blue.copy()
    half[: SIDE // 2] = 0
    images = [blue, half, *(np.stack([picture(i)] * 3, 2) for i in range(4))]
    (note,) = opened(save(tmp_path, [square()] * 6, images), channels=3).notes
    assert note.names == ("s0",)


@pytest.mark.parametrize("odd", [1, 3, 15])
def test_masks_of_ids_among_black_and_white_ones_are_refused_by_name(tmp_path: Path, odd: int) -> None:
    masks = [square(odd if number < 2 else 255) for number in range(6)]
    with pytest.raises(InputError, match=rf"2 of 6 masks .*count as empty \(s0, s1; largest value {odd}\)"):
        opened(save(tmp_path, masks))


def test_grey_levels_below_the_threshold_and_empty_masks_stay_possible_and_are_told(tmp_path: Path) -> None:
    masks = [square(100), square(0), *[square()] * 4]
    soft, empty = opened(save(tmp_path, masks)).notes
    assert (soft.names, empty.names) == (("s0",), ("s1",))
    assert "none above the threshold" in soft.text
    assert "1 of 6 masks are empty" in empty.text


def test_all_masks_of_another_coding_empty_or_full_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="6 of 6 masks hold .* none above the threshold"):
        opened(save(tmp_path / "ids", [square(1)] * 6))
    with pytest.raises(InputError, match=r"all 3 training masks are empty.*--data.threshold"):
        opened(save(tmp_path / "empty", [square(0)] * 6))
    with pytest.raises(InputError, match="every labelled pixel of the 3 training masks is foreground"):
        opened(save(tmp_path / "full", [square(2, rest=1)] * 6), threshold=0)


def test_white_that_is_read_as_ignored_is_told(tmp_path: Path) -> None:
    masks = [square(255), *[square(1)] * 5]
    (note,) = opened(save(tmp_path, masks), threshold=None).notes
    assert note.names == ("s0",)
    assert "255, which is ignored" in note.text


def test_a_class_that_no_member_shows_is_told(tmp_path: Path) -> None:
    (note,) = opened(save(tmp_path, [square(1)] * 6), threshold=None, classes=4).notes
    assert note.text.startswith("no training mask has a pixel of class 2, class 3:")


def test_unlabelled_samples_are_told_and_left_out_of_what_is_scored(tmp_path: Path) -> None:
    nothing = np.full((SIDE, SIDE), 255, np.uint8)
    data = opened(save(tmp_path / "one", [nothing, *[square(1)] * 5]), threshold=None)
    (note,) = data.notes
    assert note.names == ("s0",)
    part: Subset = "members" if 0 in data.splits.members else "nonmembers"
    assert len(data.indices(part)) == 3
    assert 0 not in data.scored(part)
    assert len(data.scored(part)) == 2
    with pytest.raises(InputError, match="none of the 3 members of the victim's half has a labelled pixel"):
        opened(save(tmp_path / "all", [nothing] * 6), threshold=None)


def test_facts_are_kept_beside_the_cache_and_found_again_where_they_are_damaged(tmp_path: Path) -> None:
    data = opened(save(tmp_path, [square(100), *[square()] * 5]))
    (file,) = data.cached.folder.glob("contents_*.npy")
    seen = list[int]()
    again = sample_facts(data.cached, data.source, lambda done, _: seen.append(done))
    assert seen == []
    assert again.lost.tolist() == [100, 0, 0, 0, 0, 0]
    assert again.pixels[1].tolist() == [128, 16, 0]
    file.write_bytes(b"damaged")
    assert sample_facts(data.cached, data.source, lambda done, _: seen.append(done)).lost.tolist()[0] == 100
    assert seen == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("value", "threshold", "lost"), [(1, 127, 1), (127, 127, 127), (128, 127, 0), (0, 9, 0)]
)
def test_the_largest_value_that_a_threshold_loses(
    tmp_path: Path, value: int, threshold: int, lost: int
) -> None:
    save(tmp_path, [square(value)])
    assert largest_lost(tmp_path / "masks" / "s0.png", threshold) == lost
    assert largest_lost(tmp_path / "masks" / "s0.png", None) == 0


def volumes(root: Path, values: list[NDArray[Any]], labels: list[NDArray[np.uint8]]) -> Path:
    affine = np.diag([2.0, 2.0, 5.0, 1.0])
    for number, pair in enumerate(zip(values, labels, strict=True)):
        for folder, array in zip(("images", "masks"), pair, strict=True):
            (root / folder).mkdir(parents=True, exist_ok=True)
            image: Any = nibabel.Nifti1Image(array, affine)  # type: ignore[no-untyped-call]
            image.set_sform(affine, 1)
            nibabel.save(image, root / folder / f"v{number}.nii.gz")
    return root


def label(number: int = 1) -> NDArray[np.uint8]:
    found = np.zeros((SIDE, SIDE, 3), np.uint8)
    found[3:7, 3:7] = number
    return found


def hounsfield(number: int) -> NDArray[np.float32]:
    return np.random.default_rng(number).uniform(-200, 240, (SIDE, SIDE, 3)).astype(np.float32)


def sliced(root: Path, **options: Any) -> Nifti:
    settings: dict[str, Any] = {
        "root": str(root), "unlisted": "background", "size": None, "members": 6, "nonmembers": 3,
        "shadow_share": 0.0,
    }  # fmt: skip
    data = Nifti(**(settings | options))
    data.setup()
    return data


@pytest.mark.parametrize(
    ("scale", "shift", "said"),
    [(1, 0, r"lie in \[0\.00\d+, (1|0\.99\d*)\]"), (400, 600, r"lie in \[60\d\.\d, (1000|99\d\.\d)\]")],
    ids=["normalised", "mr"],
)
def test_a_window_that_makes_volumes_one_grey_is_refused_with_the_range_and_the_option(
    tmp_path: Path, scale: float, shift: float, said: str
) -> None:
    values = [(hounsfield(i) + 200) / 440 * scale + shift for i in range(3)]
    root = volumes(tmp_path, values, [label()] * 3)
    with pytest.raises(
        InputError, match=rf"constant images.*v\d/axial_00\d.*{said}.*--data.level"
    ) as refused:
        sliced(root)
    assert "level 40 with width 400 shows -160 to 240" in str(refused.value)
    words = str(refused.value).rsplit("such as ", 1)[1].split()
    assert sliced(root, level=float(words[1]), width=float(words[3])).notes == ()  # what it advises does


def test_a_window_that_makes_the_body_white_is_told(tmp_path: Path) -> None:
    values = [hounsfield(i) + 1024 for i in range(3)]
    for volume in values:
        volume[: SIDE // 2] = np.random.default_rng(0).uniform(0, 30, (SIDE // 2, SIDE, 3))  # air
    (note,) = sliced(volumes(tmp_path, values, [label()] * 3)).notes
    assert note.text.startswith("9 of 9 images are white on more than 40% of their pixels")
    assert "--data.level" in note.text


def test_volumes_that_give_nothing_are_named_with_what_their_labels_hold(tmp_path: Path) -> None:
    labels = [label(255), label(0), *[label()] * 3]
    root = volumes(tmp_path, [hounsfield(i) for i in range(5)], labels)
    other, empty = sliced(root).notes
    assert (other.names, empty.names) == (("v0",), ("v1",))
    assert "1 of 5 volumes give no sample" in other.text
    assert "none of the ids 1, but 255" in other.text
    assert empty.text == "1 of 5 volumes give no sample: their labels are empty"
    notes = sliced(root, minimum=0, members=9, nonmembers=6).notes
    assert notes[0].text.startswith("1 of 5 volumes give only empty masks")
    (other, empty, few) = sliced(
        volumes(tmp_path / "few", [hounsfield(i) for i in range(5)], [*labels[:4], dot()]),
        minimum=4, members=3, nonmembers=3,
    ).notes  # fmt: skip
    assert few.names == ("v4",)
    assert few.text.endswith("none of their slices has 4 pixels of the ids 1")


def dot() -> NDArray[np.uint8]:
    found = np.zeros((SIDE, SIDE, 3), np.uint8)
    found[0, 0, 1] = 1
    return found
