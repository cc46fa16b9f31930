"""Signals of dense outputs by hand, and without the rounding that makes ties."""

import math

import numpy as np
import pytest
import torch

from seg_mia.errors import InputError
from seg_mia.membership.fleet import confidences, image_logit, margins
from seg_mia.membership.fleet.confidences import Confidences, CrossEntropy, LogCrossEntropy

MASKS = np.array([[[1, 0], [1, 255]]])
LOGITS = np.array([[[[2.0, -1.0], [-0.5, 40.0]]]])


def binary_entropy(z: float) -> float:
    p = 1 / (1 + math.exp(-z))
    return -p * math.log(p) - (1 - p) * math.log(1 - p)


def expected() -> list[float]:
    margin = [2.0, 1.0, -0.5]
    p = [1 / (1 + math.exp(-z)) for z in (2.0, -1.0, -0.5)]
    loss = sum(math.log1p(math.exp(-each)) for each in margin) / 3
    dice = (2 * (p[0] + p[2]) + 1) / (sum(p) + 2 + 1)
    entropy = sum(binary_entropy(z) for z in (2.0, -1.0, -0.5)) / 3
    return [-math.log(loss), math.log(dice / (1 - dice)), sum(margin) / 3, -math.log(entropy)]


def test_the_signals_by_hand_without_the_ignored_pixel() -> None:
    np.testing.assert_allclose(confidences(LOGITS, MASKS)[0], expected())
    # Two logits say the same as one, and a flip stands behind.
    pair = np.concatenate([-LOGITS / 2, LOGITS / 2], axis=1)
    np.testing.assert_allclose(confidences(pair, MASKS, LOGITS)[0], [*expected(), *expected()])


def test_margins_of_three_classes() -> None:
    logits = np.array([1.0, 3.0, 0.5]).reshape(1, 3, 1, 1) * np.ones((1, 3, 1, 2))
    maps, valid = margins(logits, np.array([[[1, 255]]]))
    assert maps[0, 0, 0] == pytest.approx(3 - math.log(math.exp(1) + math.exp(0.5)))
    assert valid.tolist() == [[[True, False]]]


def test_confident_images_do_not_tie_and_margins_end() -> None:
    logits = np.array([30.0, 31.0, 200.0]).reshape(3, 1, 1, 1) * np.ones((3, 1, 4, 4))
    vectors = confidences(logits.astype(np.float32), np.ones((3, 4, 4)))
    assert (np.diff(vectors[:, 0]) > 0.9).all()
    assert (np.diff(vectors[:, 3]) > 0.9).all()
    assert vectors[:, 2].tolist() == [20, 20, 20]


def test_the_image_logit_is_that_of_its_probability() -> None:
    losses = np.array([0.2, 1.0, 1e-12])
    p = np.exp(-losses[:2])
    np.testing.assert_allclose(image_logit(losses)[:2], np.log(p / (1 - p)))
    assert image_logit(losses)[2] == pytest.approx(-math.log(1e-12))
    with pytest.raises(InputError, match="must be above 0, got 0"):
        image_logit(np.zeros(2))


def test_a_config_names_them_with_the_sign_of_a_loss() -> None:
    logits, masks = torch.from_numpy(LOGITS).float(), torch.from_numpy(MASKS)
    image = torch.zeros(1, 3, 2, 2)
    numbers = Confidences(names=("mean_margin", "log_cross_entropy"))(logits, image, masks)
    assert numbers.dtype == torch.float64
    np.testing.assert_allclose(-numbers[0], [expected()[2], expected()[0]])
    assert LogCrossEntropy()(logits, image, masks).item() == pytest.approx(-expected()[0])
    assert CrossEntropy()(logits, image, masks).item() == pytest.approx(math.exp(-expected()[0]))
    assert LogCrossEntropy(released="labels").attacker_knowledge == "released labels, true mask"
    with pytest.raises(InputError, match="names must be among"):
        Confidences(names=("loss",))


def test_refuses() -> None:
    with pytest.raises(InputError, match="1 of 1 have none"):
        confidences(LOGITS, np.full((1, 2, 2), 255))
    with pytest.raises(InputError, match="logits must be finite"):
        confidences(LOGITS * np.nan, MASKS)
    with pytest.raises(InputError, match="must agree in N and size"):
        confidences(LOGITS, MASKS[:, :1])
