from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image as PillowImage
from torch.testing import assert_close

from seg_mia.data.sets.fundus import Fundus, FundusSource
from seg_mia.errors import InputError

ROWS, COLUMNS = 569, 428
SEEN_ROWS, SEEN_COLUMNS = (80, 468), (20, 408)


def save(root: Path, name: str, image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> None:
    for part, pixels in (("image_samples", image), ("mask_samples", mask)):
        (root / part).mkdir(parents=True, exist_ok=True)
        PillowImage.fromarray(pixels).save(root / part / f"{name}.png")


def blank() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    return np.full((ROWS, COLUMNS, 3), 40, np.uint8), np.zeros((ROWS, COLUMNS), np.uint8)


def gradient() -> NDArray[np.uint8]:
    """An image whose pixels tell their own row and column: (row mod 256, row div 256, column mod 256)."""
    row, column = np.indices((ROWS, COLUMNS))
    return np.stack([row % 256, row // 256, column % 256], axis=2).astype(np.uint8)


def read(root: Path, *, published_crop: bool = False) -> FundusSource:
    return FundusSource(root / "image_samples", root / "mask_samples", published_crop=published_crop)


@pytest.mark.parametrize("mark", [(80, 20), (467, 407), (300, 111), (80, 407)])
def test_a_mark_comes_out_at_the_same_place_in_image_and_mask(tmp_path: Path, mark: tuple[int, int]) -> None:
    image, mask = blank()
    image[mark] = (255, 0, 9)
    mask[mark] = 255
    save(tmp_path, "a", image, mask)
    picture, labels = read(tmp_path).decode(0)
    assert picture.shape == (572, 572, 3)
    assert labels.shape == (388, 388)
    assert picture.dtype == labels.dtype == np.uint8
    found = np.argwhere(labels == 1)
    assert found.tolist() == [[mark[0] - SEEN_ROWS[0], mark[1] - SEEN_COLUMNS[0]]]
    # An unpadded network predicts the centre of its input, 92 pixels inside.
    assert np.argwhere((picture == (255, 0, 9)).all(2)).tolist() == (found + 92).tolist()


@pytest.mark.parametrize("mark", [(79, 100), (468, 100), (100, 19), (100, 408)])
def test_what_lies_outside_the_predicted_part_is_not_in_the_mask(
    tmp_path: Path, mark: tuple[int, int]
) -> None:
    image, mask = blank()
    mask[mark] = 255
    save(tmp_path, "a", image, mask)
    assert not read(tmp_path).decode(0)[1].any()


def test_the_edge_of_the_crop_is_repeated_around_it(tmp_path: Path) -> None:
    save(tmp_path, "a", gradient(), blank()[1])
    picture = read(tmp_path).decode(0)[0]
    expected = np.empty_like(picture)
    for out_row in range(572):
        row = min(max(out_row - 82, 0), 407) + 70
        for part, columns in ((0, [10] * 82), (82, range(10, 418)), (490, [417] * 82)):
            expected[out_row, part : part + len(columns), 2] = [column % 256 for column in columns]
        expected[out_row, :, 0], expected[out_row, :, 1] = row % 256, row // 256
    assert np.array_equal(picture, expected)


def test_the_published_cut_takes_the_mask_ten_rows_above(tmp_path: Path) -> None:
    image, mask = gradient(), blank()[1]
    mask[200:240, 100:150] = 255
    save(tmp_path, "a", image, mask)
    (own_image, own), (image_again, published) = (
        read(tmp_path, published_crop=cut).decode(0) for cut in (False, True)
    )
    assert np.array_equal(own_image, image_again)
    assert np.array_equal(np.roll(own, 10, axis=0), published)
    assert np.argwhere(own)[0].tolist() == [120, 80]
    assert read(tmp_path).settings != read(tmp_path, published_crop=True).settings


def test_grey_levels_of_the_mask_count_above_twenty(tmp_path: Path) -> None:
    image, mask = blank()
    mask[100, 100:104] = (20, 21, 128, 255)
    save(tmp_path, "a", image, mask)
    assert read(tmp_path).decode(0)[1][20, 80:84].tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize("part", ["image", "mask"])
def test_another_size_is_refused_with_what_to_use(tmp_path: Path, part: str) -> None:
    image, mask = blank()
    save(tmp_path, "a", *((image[:-1], mask) if part == "image" else (image, mask[:, :-1])))
    with pytest.raises(InputError, match=r"569 rows by 428 columns.*Folder"):
        read(tmp_path).decode(0)


def loaded(root: Path, *, published_crop: bool = False) -> Fundus:
    data = Fundus(root=str(root), published_crop=published_crop)
    data.setup()
    return data


def test_two_files_make_one_member_and_one_nonmember(tmp_path: Path) -> None:
    image, mask = gradient(), blank()[1]
    mask[200:240, 100:150] = 255
    for number in range(2):
        save(tmp_path, f"s{number}", image // np.uint8(1 + number), mask)
    data = loaded(tmp_path)
    assert sorted([*data.splits.members, *data.splits.nonmembers]) == [0, 1]
    (batch,) = data.train_dataloader()
    assert batch.image.shape == (1, 3, 572, 572)
    assert batch.mask.shape == (1, 388, 388)
    assert batch.mask.sum() == 40 * 50
    assert loaded(tmp_path, published_crop=True).fingerprint == data.fingerprint


def test_the_data_is_found_under_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, mask = gradient(), blank()[1]
    mask[200:240, 100:150] = 255
    for name in ("a", "b"):
        image[0, 0] += 1
        save(tmp_path / "rim_one", name, image, mask)
    monkeypatch.setenv("SEG_MIA_DATA", str(tmp_path))
    data = Fundus()
    data.setup()
    assert data.source.ids == ("a", "b")


def test_the_papers_samples_load_and_show_a_bright_disc(shared: Path) -> None:
    root = shared / "data" / "fundus"
    data = loaded(root)
    assert len(data.source) == 2
    for number, name in enumerate(data.source.ids):
        image, mask, _ = data.dataset(np.arange(2))[0, number]
        (file,) = (root / "image_samples").glob(f"{name}.*")
        with PillowImage.open(file) as picture:
            seen = np.asarray(picture.convert("RGB"))[slice(*SEEN_ROWS), slice(*SEEN_COLUMNS)]
        inside = image[:, 92:480, 92:480]
        assert_close(inside, torch.from_numpy(seen / np.float32(255)).permute(2, 0, 1))
        assert 0.02 < mask.float().mean() < 0.2
        assert inside.mean(0)[mask == 1].mean() > inside.mean(0)[mask == 0].mean()
