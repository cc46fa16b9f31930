"""Overlaps of labels that may overlap: of each label, never of a set."""

import torch
from torch.testing import assert_close

from seg_mia.metrics.certificates import certified_dice, foreground_certified_dice
from seg_mia.metrics.label_sets import LabelSets, label_masks
from seg_mia.metrics.overlap import (
    dice_per_class,
    foreground_dice,
    foreground_iou,
    foreground_names,
    mean_iou,
    pixel_accuracy,
)

SETS = LabelSets(("whole", "core", "absent"))
TRUE = torch.tensor([[[0, 1, 1, 3], [3, 3, 255, 0]]])  # whole in 5 of 7 pixels, core in 3
PREDICTED = torch.tensor([[[0, 1, 3, 3], [1, 0, 1, 2]]])  # whole in 4, core in 3, of the 7


def test_dice_and_iou_are_those_of_each_label() -> None:
    dice = dice_per_class(PREDICTED, TRUE, SETS)
    assert_close(dice, torch.tensor([[2 * 4 / (4 + 5), 2 * 1 / (3 + 3), torch.nan]]), equal_nan=True)
    assert_close(foreground_dice(PREDICTED, TRUE, SETS), torch.tensor([(8 / 9 + 1 / 3) / 2]))
    assert_close(foreground_iou(PREDICTED, TRUE, SETS), torch.tensor([(4 / 5 + 1 / 5) / 2]))
    assert foreground_names(SETS) == ("whole", "core", "absent")


def test_dice_of_sets_as_classes_is_another_number() -> None:
    assert not torch.isclose(
        foreground_dice(PREDICTED, TRUE, SETS), foreground_dice(PREDICTED, TRUE, int(SETS))
    )


def test_dice_is_that_of_a_binary_mask_for_each_label() -> None:
    draw = torch.Generator().manual_seed(0)
    pred, true = (torch.randint(0, 8, (5, 6, 7), generator=draw) for _ in range(2))
    per_label = dice_per_class(pred, true, SETS)
    for label in range(3):
        p, t = (label_masks(maps, 3)[:, label] for maps in (pred, true))
        assert_close(per_label[:, label], dice_per_class(p, t, 2)[:, 1])


def test_mean_iou_is_over_the_labels_in_the_target_and_the_pixels_without_one() -> None:
    # none: 1 of 3 pixels in either (0 and 7 in the truth, 0 and 5 in the prediction); whole 4/5; core 1/5
    assert_close(mean_iou(PREDICTED, TRUE, SETS), torch.tensor([(1 / 3 + 4 / 5 + 1 / 5) / 3]))


def test_pixel_accuracy_is_of_whole_sets() -> None:
    assert_close(pixel_accuracy(PREDICTED, TRUE, SETS), torch.tensor([3 / 7]))


def test_without_labels_it_is_1_and_ignored_images_are_undefined() -> None:
    nothing, ignored = torch.zeros_like(TRUE), torch.full_like(TRUE, 255)
    assert foreground_dice(nothing, nothing, SETS).tolist() == [1]
    assert foreground_dice(nothing, ignored, SETS).isnan().all()


def test_a_label_is_certain_if_all_possible_sets_agree_on_it() -> None:
    sets = LabelSets(("whole", "core"))
    mask = torch.tensor([[[3, 3, 0]]])
    possible = torch.zeros(1, 4, 1, 3, dtype=torch.bool)
    possible[0, [1, 3], 0, 0] = True  # whole is certain, core is not
    possible[0, 3, 0, 1] = True  # both are
    possible[0, 0, 0, 2] = True  # neither is
    assert_close(foreground_certified_dice(possible, mask, sets), torch.tensor([[1.0, 2 / 3]]))
    assert_close(certified_dice(possible, mask, sets), torch.tensor([5 / 6]))
