"""Signals of parts of an image, by hand."""

import math

import numpy as np
import pytest
import torch

from seg_mia.errors import InputError
from seg_mia.membership.fleet.confidences import confidences
from seg_mia.membership.fleet.regions import REGIONS, borders, mirror_agreement, regions


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
    assert undefined == {"foreground_margin", "border_margin", "logit_present_dice"}
    # Smoothing alone counts it as nearly perfect.
    assert confidences(logits, empty)[0, 1] > 4
    # Of three classes one is absent: the other's Dice is the mean.
    masks = np.ones((1, 4, 4), dtype=np.int64)
    three = np.zeros((1, 3, 4, 4))
    three[:, 1] = 20
    assert regions(three, masks)[0, 4] > 13
    three[0, 2, 0, 0] = 40  # predicted once, where it is not
    assert regions(three, masks)[0, 4] < 1


def test_predictions_agree_with_their_mirror_images_by_labels() -> None:
    first = torch.tensor([[1.0, 2, -1, -2], [-1, -1, -1, -1]])[:, None, None]
    second = torch.tensor([[9.0, -2, 5, -2], [-1, -1, -1, -1]])[:, None, None]
    agreement = mirror_agreement(first, second)
    assert agreement[0] == pytest.approx(2 * 1 / (2 + 2))
    assert math.isnan(agreement[1])
    valid = torch.tensor([[[True, True, False, True]]]).expand(2, 1, 4)
    assert mirror_agreement(first, second, valid)[0] == pytest.approx(2 / 3)
    with pytest.raises(InputError, match="must have one shape"):
        mirror_agreement(first, second[..., :2])
