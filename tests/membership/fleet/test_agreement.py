"""Agreement of predictions with those of changed copies, by hand."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from seg_mia.errors import InputError
from seg_mia.membership.fleet.agreement import agreements, label_agreement


def test_predictions_agree_by_labels() -> None:
    first = torch.tensor([[1.0, 2, -1, -2], [-1, -1, -1, -1]])[:, None, None]
    second = torch.tensor([[9.0, -2, 5, -2], [-1, -1, -1, -1]])[:, None, None]
    agreement = label_agreement(first, second)
    assert agreement[0] == pytest.approx(2 * 1 / (2 + 2))
    assert math.isnan(agreement[1])
    valid = torch.tensor([[[True, True, False, True]]]).expand(2, 1, 4)
    assert label_agreement(first, second, valid)[0] == pytest.approx(2 / 3)
    with pytest.raises(InputError, match="must have one shape"):
        label_agreement(first, second[..., :2])


def test_the_classes_in_either_prediction_count_alike() -> None:
    first, second = (
        torch.nn.functional.one_hot(torch.tensor([[labels]]), 4).movedim(-1, 1).double()
        for labels in ([0, 1, 1, 2], [0, 1, 1, 1])
    )
    # Class 1: 4 / 5, class 2: 0, class 3 is in neither.
    assert label_agreement(first, second)[0] == pytest.approx((4 / 5 + 0) / 2)


def squares(*shape: int) -> Tensor:
    """Return one image of zeros with a square of ones off the centre."""
    image = torch.zeros(1, 1, *shape)
    image[..., 1:4, 2:5] = 1
    return image


@pytest.mark.parametrize("shape", [(9, 9), (3, 9, 9)])
def test_a_network_that_moves_with_the_image_agrees_with_itself(shape: tuple[int, ...]) -> None:
    np.testing.assert_array_equal(agreements(lambda image: image - 0.5, squares(*shape)), [[1, 1, 1]])


def test_a_network_that_sees_places_disagrees_by_hand() -> None:
    def upper_left(image: Tensor) -> Tensor:
        """Foreground in the first two columns and rows of any image."""
        logits = torch.full_like(image, -1.0)
        logits[..., :2, :2] = 1
        return logits

    mirror, turn, shift = agreements(upper_left, torch.zeros(1, 1, 4, 4))[0]
    assert (mirror, turn) == (0, 0)
    # Down and right by 2: mapped back, the foreground has left the image, and rows and columns from 2 do
    # not count. Up and left: it lies in the other corner, and the first two rows and columns do not count.
    assert shift == 0
    logits = torch.arange(16.0).view(1, 1, 4, 4)
    mirror, turn, shift = agreements(lambda image: logits.expand(len(image), -1, -1, -1) - 7.5, logits)[0]
    assert mirror == 1  # the two lower rows, at any column
    assert turn == pytest.approx(2 * 4 / (8 + 8))  # the lower half and the right or left one share a quarter
    # Of the 2 x 2 pixels that count, the plain prediction has none (first shift) or all (second) as
    # foreground. Mapped back, the first has all, the second none.
    assert shift == 0


def test_undefined_where_nothing_is_predicted_or_sides_differ() -> None:
    values = agreements(lambda image: image - 0.5, torch.zeros(1, 1, 4, 4))
    assert np.isnan(values).all()
    wide = agreements(lambda image: image - 0.5, squares(6, 9))
    np.testing.assert_array_equal(wide, [[1, math.nan, 1]])


def test_ignored_pixels_do_not_count() -> None:
    def upper_left(image: Tensor) -> Tensor:
        logits = image - 0.5
        logits[..., 0, 0] = 1  # wherever the image is turned
        return logits

    image, valid = squares(9, 9), torch.ones(1, 9, 9, dtype=torch.bool)
    assert (agreements(upper_left, image) < 1).all()
    for row, column in ((0, 0), (0, 8), (8, 0), (2, 2)):
        valid[0, row, column] = False
    assert agreements(upper_left, image, valid)[0, :2].tolist() == [1, 1]
