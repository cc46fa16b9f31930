"""What is told of a certification: numbers with intervals over patients, and reasons to distrust them."""

from typing import Any

import pytest
import torch

from seg_mia.results.base import Average
from seg_mia.results.bounded_mean import over_images
from seg_mia.results.certificate import CertificateSummary
from seg_mia.results.perturbation import AttackedData
from seg_mia.results.pictures import ABSTAINED, certified_overlay, overlay
from seg_mia.results.text import attack_headline


def average(mean: float) -> Average:
    return Average(mean=mean, std=0.1, min=0.0, median=mean, max=1.0)


def summary(*, smoothed: float = 0.85, **changes: Any) -> CertificateSummary:
    dice = {"dice_clean": 0.9, "dice_smoothed": smoothed, "dice_certified": 0.6, "abstained": 0.05}
    settings: dict[str, Any] = {
        "attack": {},
        "attacker_knowledge": "any",
        "victim": "runs/v",
        "data": AttackedData(fingerprint=None, subset="nonmembers", role="victim"),
        "images": 40,
        "units": 20,
        "undefined": 0,
        "sigma": 0.25,
        "radius": 0.1686,
        "alpha": 1e-3,
        "draws": 100,
        "needed": 95,
        "passes": 110,
        "results": {name: average(value) for name, value in dice.items()},
    }
    return CertificateSummary(**(settings | changes))


def test_intervals_count_patients() -> None:
    measure = summary().measure("dice_certified")
    assert measure == over_images(average(0.6), 20)
    assert measure != over_images(average(0.6), 40)
    assert summary().measure("information").value is None


def test_the_headline_tells_dice_radius_and_cost() -> None:
    (line,) = attack_headline("certify", summary())
    assert line.startswith("certify, 40 images: Dice 0.900 [")
    assert ", certified 0.600 [" in line
    assert "L2 radius 0.169 at sigma 0.25, 95 of 100 draws needed, 110 passes per image" in line


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"smoothed": 0.5}, "Train it with noise of this sigma"),
        ({"draws": 10, "needed": 11}, "10 draws cannot certify a pixel"),
    ],
)
def test_a_certificate_that_says_little_is_marked(changes: dict[str, Any], words: str) -> None:
    _, warning = attack_headline("certify", summary(**changes))
    assert warning.startswith("WARNING: certify: ")
    assert words in warning


def test_abstained_pixels_have_a_colour_of_their_own() -> None:
    image, mask = torch.full((1, 4, 4), 0.5), torch.zeros(4, 4, dtype=torch.int64)
    mask[1:3, 1:3] = 1
    unsure = torch.zeros(4, 4, dtype=torch.bool)
    unsure[0, 0] = unsure[1, 1] = True
    shown = certified_overlay(image, mask, unsure)
    plain = overlay(image, mask.masked_fill(unsure, 0))
    assert (shown[unsure.numpy()] @ ABSTAINED > 1.5).all()
    assert (shown[~unsure.numpy()] == plain[~unsure.numpy()]).all()
