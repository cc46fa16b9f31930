"""What is measured of a returned image, on a network whose prediction is known by hand."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from seg_mia.attacks.asma import Asma
from seg_mia.attacks.base import Adversarial, Perturbation
from seg_mia.data.samples import Batch
from seg_mia.tasks.perturbation import PerturbationTest


class Bright(nn.Module):
    """One logit per pixel: class 1 above 0.499, between two levels of 8 bits."""

    def __init__(self) -> None:
        super().__init__()
        self.passes = 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        return 8 * (x - 0.499)


def measured(attack: Perturbation, image: Tensor, target: Tensor) -> tuple[dict[str, Tensor], int]:
    """Return the measures of one attacked batch, and the passes through the network."""
    network = Bright()
    task = PerturbationTest(network, attack)
    task.targets = lambda batch: target.expand_as(batch.mask)  # type: ignore[assignment]
    batch = Batch(image, torch.zeros_like(target), torch.arange(len(image)))
    return task.test_step(batch, 0)["measures"], network.passes


class Shifted(Perturbation):
    """Every value moved up by 0.1; the network is not asked."""

    attacker_knowledge = "nothing"
    function = staticmethod(lambda: None)  # type: ignore[assignment]

    def run(self, model: nn.Module, x: Tensor, target: Tensor) -> Adversarial:  # noqa: ARG002
        return Adversarial(x + 0.1)


def test_a_success_that_eight_bits_undo_is_reported() -> None:
    # 0.4989 + 4 * 5e-5 is above 0.499, and rounds to 127/255 = 0.498.
    settings: dict[str, Any] = {"steps": 1, "tau": 5e-5, "beta": 0.0, "keep": "last"}
    image = torch.full((1, 1, 11, 11), 0.4989)
    measures, _ = measured(Asma(**settings), image, torch.ones(1, 11, 11, dtype=torch.int64))
    assert measures["iou_before"].item() == 0
    assert measures["iou"].item() == 1
    assert measures["iou_8bit"].item() == 0
    assert measures["pixel_accuracy"].item() == 1


def test_measures_by_hand_take_three_passes() -> None:
    # 121 pixels: 11 of 0.45 in the first column are above 0.499 after the shift, those of 0.2 are not.
    image = torch.full((1, 1, 11, 11), 0.2)
    image[..., 0] = 0.45
    measures, passes = measured(Shifted(), image, torch.ones(1, 11, 11, dtype=torch.int64))
    assert passes == 3  # the image as it was, as it came back, and that at 8 bits
    assert measures["iou"].item() == pytest.approx(1 / 11)
    assert measures["pixel_accuracy"].item() == pytest.approx(1 / 11)
    assert measures["l2"].item() == pytest.approx(0.1 * 11)
    assert measures["linf"].item() == pytest.approx(0.1)
    assert (measures["dice_clean"].item(), measures["dice_adversarial"].item()) == (1, 0)
