import io

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.testing import assert_close

from seg_mia.metrics.labels import IGNORE
from seg_mia.results.curves import trajectories
from seg_mia.results.pictures import (
    COLOURS,
    GAP,
    TILE,
    Tile,
    centre,
    certified_overlay,
    colour_of,
    draw,
    magnified,
    overlay,
    picture,
    png,
)


def coordinates(height: int = 12, width: int = 10) -> torch.Tensor:
    """An image whose red is its row and whose green its column, in hundredths."""
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([row, column, torch.zeros_like(row)]) / 100


def test_a_picture_is_the_image_with_channels_last() -> None:
    pixels = picture(coordinates())
    assert pixels.shape == (12, 10, 3)
    np.testing.assert_allclose(pixels[7, 4], [0.07, 0.04, 0], atol=1e-7)
    grey = picture(torch.tensor([[[0.2, 1.5], [-1.0, 0.5]]]))
    np.testing.assert_allclose(grey[..., 0], [[0.2, 1], [0, 0.5]], atol=1e-7)
    assert (grey[..., 0] == grey[..., 2]).all()


@pytest.mark.parametrize("channels", [2, 3])
def test_two_and_three_channels_are_colours(channels: int) -> None:
    image = torch.arange(1, channels + 1).view(-1, 1, 1).expand(-1, 2, 5) / 10
    pixels = picture(image)
    assert pixels.shape == (2, 5, 3)
    np.testing.assert_allclose(pixels[1, 3], [0.1, 0.2, 0.3 if channels > 2 else 0], atol=1e-7)
    assert overlay(image, torch.zeros(2, 5, dtype=torch.int64)).shape == (2, 5, 3)


@pytest.mark.parametrize(("channels", "rows", "columns"), [(4, 2, 2), (5, 2, 3), (7, 3, 3)])
def test_each_of_more_channels_is_a_grey_panel_with_the_mask(channels: int, rows: int, columns: int) -> None:
    image = torch.arange(1, channels + 1).view(-1, 1, 1).expand(-1, 8, 10) / 10
    mask = torch.zeros(6, 8, dtype=torch.int64)
    mask[2:4, 2:4] = 1
    unsure = torch.zeros(6, 8, dtype=torch.bool)
    unsure[0, 0] = True
    sheets = picture(image), overlay(image, mask), certified_overlay(image, mask, unsure)
    for pixels, (height, width) in zip(sheets, [(8, 10), (6, 8), (6, 8)], strict=True):
        assert pixels.shape == (rows * (height + 1) - 1, columns * (width + 1) - 1, 3)
        for number in range(channels):
            top, left = number // columns * (height + 1), number % columns * (width + 1)
            np.testing.assert_allclose(pixels[top + 5, left + 5], [(number + 1) / 10] * 3, atol=1e-6)
            if height == 6:
                np.testing.assert_allclose(pixels[top + 2, left + 2], COLOURS[1], atol=1e-6)
        assert rows * columns == channels or (pixels[-1, -1] == 1).all()
    np.testing.assert_allclose(sheets[2][0, 0], 0.3 * 0.1 + 0.7 * np.array([1, 0, 1]), atol=1e-6)


def test_many_classes_have_colours_of_their_own() -> None:
    colours = np.array([colour_of(kind) for kind in range(64)])
    assert np.array_equal(colours[: len(COLOURS)], COLOURS)
    distances = np.abs(colours[:, None] - colours[None]).max(axis=2) + np.eye(64)
    assert distances.min() > 0.02
    assert colour_of(IGNORE) == (1, 1, 1)


def test_a_legend_lists_classes_by_colour_where_there_is_room() -> None:
    rows = [[Tile(np.ones((4, 4, 3), np.float32))] * 2]
    legend = {"liver": 1, "liver + tumour": 3}
    without, drawn = draw(["", ""], rows, [""]), draw(["", ""], rows, [""], legend=legend)
    assert drawn.shape == without.shape
    for kind in legend.values():
        wanted = np.round(np.array(colour_of(kind)) * 255)
        assert (np.abs(drawn.astype(int) - wanted).max(axis=2) <= 1).sum() > 10
    narrow = draw([""], [rows[0][:1]], [""], legend=dict.fromkeys(["a very long name of a class"] * 2, 2))
    assert narrow.shape[1] < drawn.shape[1]
    wide = draw(["", ""], rows, [""], side=4)
    assert wide.shape[1] > 1.8 * drawn.shape[1]


def test_a_smaller_mask_lies_over_the_centre() -> None:
    shown = overlay(coordinates(12, 10), torch.zeros(6, 4, dtype=torch.int64))
    assert shown.shape == (6, 4, 3)
    np.testing.assert_allclose(shown[0, 0], [0.03, 0.03, 0], atol=1e-7)
    np.testing.assert_allclose(shown[5, 3], [0.08, 0.06, 0], atol=1e-7)
    assert np.array_equal(shown, centre(picture(coordinates(12, 10)), 6, 4))


def test_the_inside_is_tinted_the_outline_is_drawn_and_the_rest_left() -> None:
    mask = torch.zeros(12, 10, dtype=torch.int64)
    mask[2:9, 2:9] = 1
    shown, image = overlay(coordinates(), mask), picture(coordinates())
    outside = (mask == 0).numpy()
    assert np.array_equal(shown[outside], image[outside])
    np.testing.assert_allclose(shown[2, 5], COLOURS[1], atol=1e-6)
    np.testing.assert_allclose(shown[5, 2], COLOURS[1], atol=1e-6)
    np.testing.assert_allclose(shown[5, 5], 0.65 * image[5, 5] + 0.35 * COLOURS[1], atol=1e-6)


def test_classes_have_colours_of_their_own_and_ignored_pixels_are_white() -> None:
    mask = torch.full((12, 10), IGNORE)
    for number in range(1, 8):
        mask[number] = number
    shown = overlay(torch.zeros(3, 12, 10), mask)
    rows = {tuple(np.round(shown[number, 5] / shown[number, 5].max(), 3).tolist()) for number in range(1, 8)}
    assert len(rows) == 7
    assert np.ptp(shown[10, 5]) == 0
    assert shown[10, 5, 0] >= 0.35 - 1e-6


@pytest.mark.parametrize("scale", [1e-4, 0.25, 0.5, 1.0])
def test_a_perturbation_is_magnified_to_fill_the_range(scale: float) -> None:
    change = torch.tensor([[[0.0, 0.5], [-1.0, 0.25]]]) * scale
    pixels, factor = magnified(change)
    assert factor == pytest.approx(0.5 / scale)
    np.testing.assert_allclose(pixels[..., 0], [[0.5, 0.75], [0, 0.625]], atol=1e-6)


def test_no_perturbation_is_grey() -> None:
    pixels, factor = magnified(torch.zeros(3, 4, 4))
    assert factor == 1
    assert (pixels == 0.5).all()


def sheet(rows: int, columns: int = 2) -> NDArray[np.uint8]:
    tile = Tile(picture(coordinates()), "a note")
    titles = [f"column {number}" for number in range(columns)]
    return draw(titles, [[tile] * columns] * rows, [f"sample {number}" for number in range(rows)])


def test_a_sheet_grows_by_the_same_with_each_row_and_column() -> None:
    one, two, three, wide = sheet(1), sheet(2), sheet(3), sheet(1, columns=3)
    assert one.dtype == np.uint8
    assert one.shape[2] == 3
    assert one.shape[1] == two.shape[1] == three.shape[1]
    assert abs((two.shape[0] - one.shape[0]) - (three.shape[0] - two.shape[0])) <= 1
    assert two.shape[0] - one.shape[0] > 100
    assert wide.shape[0] == one.shape[0]
    assert wide.shape[1] - one.shape[1] > 100


def test_rows_of_flat_pictures_are_lower() -> None:
    square, flat = (
        draw(["a"], [[Tile(np.zeros((lines, 40, 3), np.float32), "x")]], ["x"]) for lines in (40, 20)
    )
    assert square.shape[1] == flat.shape[1]
    assert square.shape[0] - flat.shape[0] == pytest.approx(110 * (TILE - GAP) / 2, abs=2)


def test_tiles_appear_in_their_rows_and_columns() -> None:
    colours = np.array([[[1, 0, 0], [0, 1, 0]], [[0, 0, 1], [1, 1, 0]]], np.float32)
    tiles = [[Tile(np.broadcast_to(colour, (4, 4, 3))) for colour in row] for row in colours]
    drawn = draw(["a", "b"], tiles, ["x", "y"])
    centres = {}
    for colour in colours.reshape(4, 3):
        where = np.argwhere((drawn == (colour * 255).astype(np.uint8)).all(2))
        assert len(where) > 10000
        centres[tuple(colour.tolist())] = where.mean(0)
    red, green, blue, yellow = centres.values()
    assert red[0] == pytest.approx(green[0], abs=2)
    assert red[1] == pytest.approx(blue[1], abs=2)
    assert blue[0] - red[0] > 100
    assert yellow[1] - blue[1] > 100


def test_a_png_gives_back_its_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    for array in (pixels, pixels[..., 0]):
        with Image.open(io.BytesIO(png(array))) as image:
            assert np.array_equal(np.asarray(image), array)


def test_curves_have_a_pane_for_each_measure_and_one_for_the_trade_off() -> None:
    values = torch.rand(4, 3, generator=torch.Generator().manual_seed(0))
    one = trajectories([0, 1, 2, 3], {"iou": values})
    two = trajectories([0, 1, 2, 3], {"iou": values, "linf": values})
    traded = trajectories([0, 1, 2, 3], {"iou": values, "l2": values})
    assert_close(two.shape[1] / one.shape[1], 2.0, rtol=0.01, atol=0)
    assert_close(traded.shape[1] / one.shape[1], 3.0, rtol=0.01, atol=0)
    assert one.shape[0] == two.shape[0] == traded.shape[0]
