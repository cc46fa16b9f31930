"""Signals of parts of an image, by hand."""

import math

import numpy as np
import pytest
import torch

from seg_mia.membership.fleet.confidences import confidences
from seg_mia.membership.fleet.regions import REGIONS, borders, logit_gap, regions, worst_patches


def test_a_band_of_three_pixels_lies_on_each_side_of_a_border() -> None:
    mask = torch.zeros(1, 1, 12, dtype=torch.int64)
    mask[..., 6:] = 1
    assert borders(mask)[0, 0].tolist() == [False] * 3 + [True] * 6 + [False] * 3
    mask[..., 5] = 255  # an ignored pixel is neither class, nor in the band
    assert borders(mask)[0, 0].tolist() == [False] * 3 + [True] * 2 + [False] + [True] * 2 + [False] * 4
    assert not borders(torch.ones(1, 4, 4, 4, dtype=torch.int64)).any()


def test_the_signals_of_parts_by_hand() -> None:
    masks = np.zeros((1, 1, 12), dtype=np.int64)
    masks[..., 6:] = 1
    masks[..., 11] = 255
    z = np.arange(12.0)[None, None, None] / 4 - 1.5
    found = dict(zip(REGIONS, regions(z, masks)[0], strict=True))
    phi = np.where(masks[0, 0] == 1, z[0, 0, 0], -z[0, 0, 0])[:11]
    loss = np.log1p(np.exp(-phi)).mean()
    assert found["image_logit"] == pytest.approx(-loss - math.log(1 - math.exp(-loss)))
    assert found["foreground_margin"] == pytest.approx(phi[6:].mean())
    assert found["border_margin"] == pytest.approx(phi[3:9].mean())
    assert found["worst_margin"] == pytest.approx(phi.min())  # a twentieth of 11 pixels is one
    p = 1 / (1 + np.exp(-z[0, 0, 0]))[:11]
    dice = 2 * p[6:].sum() / (p.sum() + 5)
    assert found["logit_present_dice"] == pytest.approx(math.log(dice / (1 - dice)))


def test_an_absent_class_is_undefined_instead_of_perfect() -> None:
    empty, logits = np.zeros((1, 8, 8), dtype=np.int64), np.full((1, 1, 8, 8), -9.0)
    found = dict(zip(REGIONS, regions(logits, empty)[0], strict=True))
    undefined = {name for name, value in found.items() if math.isnan(value)}
    assert undefined == {"foreground_margin", "border_margin", "logit_present_dice", "worst_lesion"}
    # Smoothing alone counts it as nearly perfect.
    assert confidences(logits, empty)[0, 1] > 4
    # Of three classes one is absent: the other's Dice is the mean.
    masks = np.ones((1, 4, 4), dtype=np.int64)
    three = np.zeros((1, 3, 4, 4))
    three[:, 1] = 20
    assert regions(three, masks)[0, 4] > 13
    three[0, 2, 0, 0] = 40  # predicted once, where it is not
    assert regions(three, masks)[0, 4] < 1


def test_the_worst_patches_are_eighths_of_the_side_with_a_valid_pixel() -> None:
    maps, valid = np.zeros((2, 16, 16)), np.ones((2, 16, 16), dtype=np.bool_)
    for number, (row, column) in enumerate([(0, 0), (2, 4), (14, 14), (6, 0), (8, 8)], start=1):
        maps[0, row : row + 2, column : column + 2] = number
    assert worst_patches(maps, valid)[0] == pytest.approx((5 + 4 + 3 + 2) / 4)
    maps[0, 8, 8] = 1e9  # an ignored pixel; the patch's others remain
    valid[0, 8, 8] = False
    assert worst_patches(maps, valid)[0] == pytest.approx((5 + 4 + 3 + 2) / 4)
    valid[0, 8:10, 8:10] = False
    valid[1] = False
    assert worst_patches(maps, valid)[0] == pytest.approx((4 + 3 + 2 + 1) / 4)
    assert math.isnan(worst_patches(maps, valid)[1])
    valid[1, 0, 0], maps[1, 0, 0] = True, 7.0  # fewer than four patches
    assert worst_patches(maps, valid)[1] == 7
    volume = np.zeros((1, 2, 16, 16))  # two slices: a patch is one slice deep
    volume[0, 1, :2, :2] = 8
    assert worst_patches(volume, np.ones(volume.shape, dtype=np.bool_))[0] == 2


@pytest.mark.parametrize("depth", [None, 3])
def test_the_lesion_of_lowest_margin_by_hand(depth: int | None) -> None:
    masks, z = np.zeros((1, 8, 8), dtype=np.int64), np.full((1, 1, 8, 8), -2.0)
    masks[0, 0:2, 0:2], z[0, 0, 0:2, 0:2] = 1, 4
    masks[0, 2, 2], z[0, 0, 2, 2] = 1, 3  # touches at a corner: another lesion
    masks[0, 5, 5:7], z[0, 0, 5, 5:7] = 1, [-1, 2]
    masks[0, 5, 4], z[0, 0, 5, 4] = 255, -99  # ignored, does not count
    if depth:  # the same in each slice: three lesions, each three slices deep
        masks, z = (np.repeat(array[..., None, :, :], depth, axis=-3) for array in (masks, z))
    found = dict(zip(REGIONS, regions(z, masks)[0], strict=True))
    assert found["worst_lesion"] == pytest.approx(0.5)
    assert found["balanced_margin"] == pytest.approx((2 + (4 * 4 + 3 - 1 + 2) / 7) / 2)
    assert found["logit_gap"] == pytest.approx((2 * 56 + 4 * 4 + 3 + 1 + 2) / 63)


def test_lesions_of_several_classes_are_apart_and_absent_ones_undefined() -> None:
    masks = np.array([[[0, 1, 1, 2]], [[0, 0, 0, 0]]], dtype=np.int64)
    z = np.zeros((2, 3, 1, 4))
    z[:, 0, 0, 0] = 6
    z[:, 1, 0, 1:3] = [4, 2]
    z[:, 2, 0, 3] = -1
    found = [dict(zip(REGIONS, row, strict=True)) for row in regions(z, masks)]
    two = math.log(2)  # logsumexp of two logits of 0
    assert found[0]["worst_lesion"] == pytest.approx(-1 - two)
    assert found[0]["balanced_margin"] == pytest.approx((6 + (4 + 2) / 2 - 1) / 3 - two)
    assert found[0]["logit_gap"] == pytest.approx((6 + 4 + 2 + 0) / 4)
    assert math.isnan(found[1]["worst_lesion"])
    rivals = [math.log(math.exp(value) + 1) for value in (4, 2)]
    others = math.log(1 + math.exp(-1))
    margins_of_background = [6 - two, -rivals[0], -rivals[1], -others]
    assert found[1]["balanced_margin"] == pytest.approx(np.mean(margins_of_background))


def test_the_worst_patches_of_an_image_are_a_log() -> None:
    masks, z = np.zeros((1, 16, 16), dtype=np.int64), np.full((1, 1, 16, 16), -3.0)
    z[0, 0, :2, :2] = 1
    loss = (math.log1p(math.exp(1)) + 3 * math.log1p(math.exp(-3))) / 4
    assert regions(z, masks)[0, REGIONS.index("worst_patches")] == pytest.approx(-math.log(loss))


def test_a_gap_needs_no_mask_and_has_a_limit() -> None:
    assert logit_gap(np.array([3.0, -1])[None, None, None])[0] == 2
    assert logit_gap(np.array([3.0, -90])[None, None, None])[0] == (3 + 20) / 2
    only = np.array([[[True, False]]])
    assert logit_gap(np.array([3.0, -90])[None, None, None], only)[0] == 3
    assert math.isnan(logit_gap(np.array([3.0, -90])[None, None, None], only & False)[0])
