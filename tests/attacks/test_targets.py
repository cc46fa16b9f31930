import pytest
import torch
from torch.testing import assert_close

from seg_mia.attacks.targets import mean_iou_matrix, nearest_other, random_other
from seg_mia.errors import InputError
from seg_mia.metrics.label_sets import LabelSets
from seg_mia.metrics.overlap import mean_iou


def test_random_is_another_one_for_each_and_seeded() -> None:
    draws = random_other(50, seed=3)
    assert (draws != torch.arange(50)).all()
    assert draws.min() >= 0
    assert draws.max() < 50
    assert_close(draws, random_other(50, seed=3))
    assert (draws != random_other(50, seed=4)).any()
    assert len(set(draws.tolist())) > 20


def test_random_reaches_every_other_sample_equally_often() -> None:
    counts = torch.stack([random_other(4, seed) for seed in range(3000)])
    for own in range(4):
        share = torch.bincount(counts[:, own], minlength=4) / 3000
        assert share[own] == 0
        assert (share[torch.arange(4) != own] - 1 / 3).abs().max() < 0.04


def test_the_matrix_agrees_with_the_metric_pair_by_pair() -> None:
    masks = torch.randint(0, 3, (6, 8, 8), generator=torch.Generator().manual_seed(0))
    masks[4] = 0
    matrix = mean_iou_matrix(masks, 3)
    for row in range(6):
        for column in range(6):
            expected = mean_iou(masks[column : column + 1], masks[row : row + 1], 3)
            assert_close(matrix[row, column], expected[0].to(matrix.dtype))


def test_the_matrix_of_label_sets_agrees_with_the_metric_pair_by_pair() -> None:
    sets = LabelSets(("whole", "core"))
    masks = torch.randint(0, 4, (6, 8, 8), generator=torch.Generator().manual_seed(0))
    masks[4], masks[5, 2], masks[1] = 0, 255, masks[1] & 1
    matrix = mean_iou_matrix(masks, sets)
    assert (matrix - mean_iou_matrix(masks, 4)).abs().max() > 0.01
    for row in range(6):
        for column in range(6):
            expected = mean_iou(masks[column : column + 1], masks[row : row + 1], sets)
            assert_close(matrix[row, column], expected[0].to(matrix.dtype))


def test_nearest_is_the_most_alike_other() -> None:
    masks = torch.zeros(3, 4, 4, dtype=torch.int64)
    masks[0, :2], masks[1, :3], masks[2, :, 3] = 1, 1, 1
    assert nearest_other(mean_iou_matrix(masks, 2)).tolist() == [1, 0, 0]


@pytest.mark.parametrize("count", [0, 1])
def test_another_mask_needs_another_sample(count: int) -> None:
    with pytest.raises(InputError, match="another sample"):
        random_other(count, 0)
    with pytest.raises(InputError, match="another sample"):
        nearest_other(torch.zeros(count, count))
