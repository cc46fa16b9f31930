"""Tables and heatmaps of several strengths from values whose means are known by heart."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from seg_mia.results.strengths import COLUMNS, heatmaps, strength_means, strength_rows

YELLOW, VIOLET = (253, 231, 37), (68, 1, 84)  # viridis at 1 and at 0


def curves() -> dict[str, Tensor]:
    """Three strengths of two images."""
    return {
        "noise_mu": torch.tensor([[0.3, 0.3], [1.0, 1.0], [1.0, 1.0]], dtype=torch.float64),
        "noise_sigma": torch.tensor([[0.3, 0.3], [0.3, 0.3], [0.5, 0.5]], dtype=torch.float64),
        "dice": torch.tensor([[0.25, 0.75], [0.0, 1.0], [1 / 3, 1 / 3]], dtype=torch.float64),
        "ssim": torch.tensor([[0.5, 0.7], [0.1, 0.2], [-0.2, 0.0]], dtype=torch.float64),
        # the second image has no organ
        **{f"{what}_inside": torch.tensor([[0.5, torch.nan]] * 3) for what in ("ssim", "change")},
        **{f"{what}_outside": torch.tensor([[0.5, 1.0]] * 3) for what in ("ssim", "change")},
    }


def grid(mus: list[float], sigmas: list[float], high: tuple[float, float]) -> list[dict[str, float]]:
    """Dice and SSIM are 0 but for one pair."""
    return [
        {"noise_mu": mu, "noise_sigma": sigma, "dice": float(hit), "ssim": float(hit)}
        for mu in mus
        for sigma in sigmas
        for hit in [(mu, sigma) == high]
    ]


def where(sheet: NDArray[np.uint8], colour: tuple[int, int, int]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = (np.abs(sheet.astype(int) - np.array(colour)) <= 2).all(-1)
    return found


def test_a_row_for_each_image_and_strength() -> None:
    assert [row[:5] for row in strength_rows(["one", "two"], curves())] == [
        ["one", "0.3", "0.3", "0.25", "0.5"],
        ["one", "1", "0.3", "0", "0.1"],
        ["one", "1", "0.5", "0.333333", "-0.2"],
        ["two", "0.3", "0.3", "0.75", "0.7"],
        ["two", "1", "0.3", "1", "0.2"],
        ["two", "1", "0.5", "0.333333", "0"],
    ]
    assert COLUMNS[:5] == ("id", "noise_mu", "noise_sigma", "dice", "ssim")
    assert all(len(row) == len(COLUMNS) for row in strength_rows(["one", "two"], curves()))


def test_means_over_images() -> None:
    expected = [(0.3, 0.3, 0.5, 0.6), (1.0, 0.3, 0.5, 0.15), (1.0, 0.5, 1 / 3, -0.1)]
    found = strength_means(curves())
    for row, values in zip(found, expected, strict=True):
        assert tuple(row) == COLUMNS[1:]
        assert tuple(row.values())[:4] == pytest.approx(values)
        assert row["ssim_inside"] == row["change_inside"] == 0.5
        assert row["ssim_outside"] == row["change_outside"] == 0.75


@pytest.mark.parametrize("images", [3, 7, 10])
def test_a_strength_is_said_as_it_was_asked_for(images: int) -> None:
    # and not as 0.30000000000000004, which a mean over images may be
    asked = [0.1, 0.3, 0.7, 1.1]
    values = torch.tensor(asked, dtype=torch.float64).unsqueeze(1).expand(-1, images)
    own = dict.fromkeys(COLUMNS[1:], values)
    assert [row["noise_mu"] for row in strength_means(own)] == asked
    assert [row["noise_sigma"] for row in strength_means(own)] == asked


@pytest.mark.parametrize("mu", [0.3, 0.6, 1.0])
@pytest.mark.parametrize("sigma", [0.5, 1.0])
def test_mu_runs_to_the_right_and_sigma_upwards(mu: float, sigma: float) -> None:
    mus, sigmas = [0.3, 0.6, 1.0], [0.5, 1.0]
    sheet = heatmaps(grid(mus, sigmas, (mu, sigma)))
    assert sheet.dtype == np.uint8
    for half in np.array_split(sheet, 2, axis=1):  # Dice left, SSIM right
        cell, others = np.argwhere(where(half, YELLOW)), np.argwhere(where(half, VIOLET))
        assert len(cell) > 500
        assert len(others) / len(cell) == pytest.approx(5, rel=0.2)
        pane = np.concatenate([cell, others])
        low, high = pane.min(0), pane.max(0) + 1
        up, right = (cell.mean(0) - low) / (high - low)
        assert right == pytest.approx((mus.index(mu) + 0.5) / 3, abs=0.05)
        assert up == pytest.approx(1 - (sigmas.index(sigma) + 0.5) / 2, abs=0.05)


def test_the_order_of_the_strengths_does_not_matter() -> None:
    rows = grid([0.3, 1.0], [0.3, 1.0], (1.0, 0.3))
    np.testing.assert_array_equal(heatmaps(rows), heatmaps(rows[::-1]))
    np.testing.assert_array_equal(heatmaps(rows), heatmaps([rows[2], rows[0], rows[3], rows[1]]))


def test_dice_stands_left_and_ssim_right() -> None:
    (row,) = grid([0.3], [0.3], (0.3, 0.3))
    left, right = np.array_split(heatmaps([row | {"ssim": 0.0}]), 2, axis=1)
    assert where(left, YELLOW).any()
    assert not where(left, VIOLET).any()
    assert where(right, VIOLET).any()
    assert not where(right, YELLOW).any()


def test_values_beyond_the_scale_keep_its_ends() -> None:
    (row,) = grid([0.3], [0.3], (0.3, 0.3))
    sheet = heatmaps([row | {"ssim": -0.4}])  # SSIM may be below 0
    assert where(sheet, VIOLET).any()
    assert where(sheet, YELLOW).any()


def test_pairs_that_were_not_tried_stay_empty() -> None:
    rows = [row for row in grid([0.3, 1.0], [0.3, 1.0], (1.0, 1.0)) if row["noise_mu"] == row["noise_sigma"]]
    left = np.array_split(heatmaps(rows), 2, axis=1)[0]
    assert where(left, VIOLET).sum() == pytest.approx(where(left, YELLOW).sum(), rel=0.2)


def test_a_larger_grid_has_a_larger_sheet() -> None:
    small, wide, tall = (
        heatmaps(grid(mus, sigmas, (1.0, 1.0)))
        for mus, sigmas in (([1.0], [1.0]), ([0.3, 0.6, 1.0], [1.0]), ([1.0], [0.3, 0.6, 1.0]))
    )
    assert wide.shape[1] > small.shape[1]
    assert tall.shape[0] > small.shape[0]
