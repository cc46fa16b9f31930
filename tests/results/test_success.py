"""Success rates and their curves from values whose sums are known by heart."""

from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import beta, binomtest
from torch import Tensor

from seg_mia.results.perturbation import SuccessRow
from seg_mia.results.success import COLUMNS, cells_of, success_curves, success_rows
from seg_mia.results.tables import success_table


def values(**changed: Any) -> dict[str, Tensor]:
    """Six images: four count, one was skipped, one a success before any step."""
    found: dict[str, list[float]] = {
        "counted": [1, 1, 1, 1, 0, 0],
        "skipped": [0, 0, 0, 0, 1, 0],
        "clean_success": [0, 0, 0, 0, 0, 1],
        "no_gradient": [0, 0, 0, 0, 0, 0],
        "success": [1, 1, 1, 0, 1, 1],
        "steps": [2, 3, 4, 5, 1, 0],
        "mean_iou": [0.5, 0.6, 0.7, 0.2, 1.0, 1.0],
        "a.success": [1, 0, 1, 0, 1, 1],
        "a.steps": [2, 5, 4, 5, 1, 0],
        "a.mean_iou": [0.5, 0.1, 0.7, 0.1, 1.0, 1.0],
        "a.zero_gradient": [0, 1, 0, 0.99, 0, 0],
        "b.success": [0, 1, 0, 0, 1, 1],
        "b.steps": [5, 3, 5, 5, 1, 0],
        "b.mean_iou": [0.3, 0.6, 0.1, 0.2, 1.0, 1.0],
        "b.zero_gradient": [0, 0, 0, 0, 0, 0],
    }
    return {name: torch.tensor(value).double() for name, value in (found | changed).items()}


def rows(*, fusion: bool = True, **changed: Any) -> list[SuccessRow]:
    made = values(**changed)
    groups = [str(number) for number in range(len(made["counted"]))]
    return success_rows(made, ["a", "b"], groups=groups, target_kind="random", fusion=fusion)


def test_rows_by_hand() -> None:
    expected = {
        # loss: successes, distortion, mean IoU of those that count, images without a gradient, which do not
        "a": (2, (2 + 4) / 2, 1.3 / 3, 1),
        "b": (1, 3.0, 1.2 / 4, 0),
        "fused": (3, (2 + 3 + 4) / 3, 2.0 / 4, 0),
    }
    for row, (name, (successes, distortion, iou, stuck)) in zip(rows(), expected.items(), strict=True):
        tried = 4 - stuck
        assert len(cells_of(row)) == len(COLUMNS)
        assert (row.target_kind, row.loss, row.images) == ("random", name, 6)
        assert (row.skipped, row.clean_success, row.counted) == (1, 1, tried)
        assert (row.successes, row.no_gradient) == (successes, stuck)
        assert row.rate == successes / tried
        interval = binomtest(successes, tried).proportion_ci(0.95, "exact")
        assert (row.low, row.high) == pytest.approx((interval.low, interval.high))
        assert row.distortion == pytest.approx(distortion)
        assert row.mean_iou == pytest.approx(iou)
        assert row.transferred is None


def test_without_fusion_there_is_no_row_of_it() -> None:
    assert [row.loss for row in rows(fusion=False)] == ["a", "b"]
    assert rows(fusion=False) == rows()[:2]


def test_what_carries_over_belongs_to_the_image_that_was_kept() -> None:
    carried: dict[str, Any] = {"transfer_success": [1, 0, 0, 0, 1, 1]}
    assert [row.transferred for row in rows(**carried)] == [None, None, 0.25]
    assert [row.transferred for row in rows(fusion=False, **carried)] == [0.25, None]  # the first loss's


def test_no_success_has_no_distortion() -> None:
    nothing: dict[str, Any] = {name: [0.0] * 6 for name in ("success", "a.success", "b.success")}
    for row in rows(**nothing):
        assert (row.successes, row.rate, row.low, row.distortion) == (0, 0, 0, None)
        assert row.high == pytest.approx(1 - 0.025 ** (1 / row.counted))


@pytest.mark.parametrize("stuck", [0.0, 1.0])
def test_where_nothing_counts_there_is_no_rate(stuck: float) -> None:
    changed: dict[str, Any] = {
        "counted": [0.0] * 6,
        "no_gradient": [stuck] * 6,
        "transfer_success": [1.0] * 6,
    }
    for row in rows(**changed):
        assert (row.counted, row.successes) == (0, 0)
        for name in ("rate", "low", "high", "distortion", "mean_iou", "transferred"):
            assert getattr(row, name) is None
    assert rows(**changed)[-1].no_gradient == 6 * stuck
    assert [line[7] for line in success_table(rows(**changed))[1:]] == ["none"] * 3
    assert success_curves(values(**changed), ["a", "b"], 5, fusion=True).ndim == 3


def test_a_table_says_it_in_words() -> None:
    header, first, _, fused = success_table(rows(transfer_success=[1, 1, 0, 0, 0, 0]))
    assert header[-1] == "rate on the victim from the surrogate"
    assert first == ["random", "a", "6", "1", "1", "1", "3", "0.667 [0.094, 0.992]", "3.00", "0.433", ""]
    assert fused[7:] == ["0.750 [0.194, 0.994]", "3.00", "0.500", "0.500"]
    assert len(success_table(rows())[0]) == len(header) - 1


@pytest.mark.parametrize("fusion", [True, False])
def test_curves_rise_where_an_image_is_won(fusion: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []

    def keep(figure: Figure) -> NDArray[np.uint8]:
        drawn.append(figure)
        return np.zeros((1, 1, 3), np.uint8)

    monkeypatch.setattr("seg_mia.results.success.rendered", keep)
    success_curves(values(), ["a", "b"], 5, fusion=fusion)
    (axes,) = drawn[0].axes
    lines = {str(line.get_label()): line for line in axes.lines}
    shares = {"a": [0, 0, 1, 1, 2, 2], "b": [0, 0, 0, 1, 1, 1], "fused": [0, 0, 1, 2, 3, 3]}
    assert list(lines) == list(shares)[: 2 + fusion]
    for name, line in lines.items():
        assert np.asarray(line.get_xdata()).tolist() == list(range(6))
        assert (np.asarray(line.get_ydata()) * 4).tolist() == shares[name]
    assert axes.get_ylabel() == "successes of 4 images"


def test_curves_are_a_picture() -> None:
    picture = success_curves(values(), ["a", "b"], 5, fusion=True)
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 3  # two lines and a black one, on white


def test_images_of_one_patient_are_one_trial() -> None:
    # Three of four images succeeded, of two patients: 1.5 of 2.
    made = values()
    alike = success_rows(
        made, ["a", "b"], groups=["x", "x", "y", "y", "x", "z"], target_kind="random", fusion=True
    )
    fused = alike[-1]
    assert (fused.rate, fused.counted) == (0.75, 4)
    assert fused.low == pytest.approx(beta.ppf(0.025, 1.5, 1.5))
    assert fused.high == pytest.approx(beta.ppf(0.975, 2.5, 0.5))
    unlike = rows()[-1]
    assert fused.low is not None
    assert unlike.low is not None
    assert fused.low < unlike.low
