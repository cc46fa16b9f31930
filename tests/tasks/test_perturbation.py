"""What is measured of a returned image, on a network whose prediction is known by hand."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from seg_mia.attacks.asma import Asma
from seg_mia.attacks.base import Adversarial, Perturbation
from seg_mia.attacks.pgd import Pgd
from seg_mia.attacks.universal import Universal
from seg_mia.data.samples import Batch
from seg_mia.experiment.requirements import check_images
from seg_mia.metrics.labels import IGNORE
from seg_mia.metrics.similarity import ssim
from seg_mia.models.prompts import boxes
from seg_mia.tasks.perturbation import PerturbationTest
from seg_mia.tasks.targets import TargetMasks


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


class Everywhere(Shifted):
    keeps_padding = False


class Fitted(Shifted):
    """Fitted to one half of the patients, without an option `seed`."""

    fits = True


def test_an_own_attack_that_is_fitted_needs_no_seed() -> None:
    assert Fitted().fitting_seed == 0
    assert Universal(seed=3).fitting_seed == 3
    source = SimpleNamespace(groups=list("abcd"), classes=2, channels=1)
    data: Any = SimpleNamespace(attacked=lambda: np.arange(4), source=source, subset="nonmembers")
    check_images(Fitted(), data)
    task = PerturbationTest(Bright(), Fitted())
    task._trainer = cast("Any", SimpleNamespace(limit_test_batches=1.0, datamodule=data))
    task.setup("test")
    assert task.fitting is not None
    assert len(task.fitting) == len(data.withheld) == 2


@pytest.mark.parametrize("attack", [Shifted(), Everywhere()])
def test_padding_is_not_the_attackers_to_change(attack: Perturbation) -> None:
    image = torch.full((1, 1, 3, 11, 11), 0.45)
    mask = torch.zeros(1, 3, 11, 11, dtype=torch.int64)
    mask[:, 0] = IGNORE
    task = PerturbationTest(Bright(), attack)
    task.targets = lambda batch: batch.mask  # type: ignore[assignment]
    output = task.test_step(Batch(image, mask, torch.arange(1)), 0)
    change, measures = output["adversarial"].images - image, output["measures"]
    changed = 2 if attack.keeps_padding else 3
    assert (change.flatten(3) > 0.05).all(3).sum() == changed
    assert measures["l2"].item() == pytest.approx(0.1 * (121 * changed) ** 0.5, rel=1e-5)
    # Only real slices count: all are changed alike.
    assert measures["ssim"].item() == pytest.approx(ssim(image + 0.1, image).item(), abs=0.02)


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


@pytest.mark.parametrize("size", [(3, 10, 12), (4, 10)])
def test_images_too_small_for_a_similarity_are_attacked_without_it(size: tuple[int, ...]) -> None:
    image, target = torch.full((2, 1, *size), 0.45), torch.zeros(2, *size, dtype=torch.int64)
    measures, _ = measured(Shifted(), image, target)
    assert measures["ssim"].isnan().all()
    assert_close(measures["linf"], torch.full((2,), 0.1))
    assert_close(measures["dice_adversarial"], torch.zeros(2))


def test_another_volumes_mask_is_no_target_in_padding() -> None:
    masks = TargetMasks.__new__(TargetMasks)
    masks.chosen, masks.row = torch.ones(1, 2, 2, 2, dtype=torch.uint8), {7: 0}
    mask = torch.zeros(1, 2, 2, 2, dtype=torch.int64)
    mask[:, 1] = IGNORE
    target = masks(Batch(torch.zeros(1, 1, 2, 2, 2), mask, torch.tensor([7])))
    assert target[0, 0].eq(1).all()
    assert target[0, 1].eq(IGNORE).all()


class Limited(nn.Module):
    """Two logits of one pixel, and an error as of full memory above a number of images."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.most:
            raise RuntimeError("CUDA out of memory. Tried")
        foreground = 8 * self.weight * (x - boxes(x, 0)[:, 0].reshape(-1, 1, 1, 1) / 100)
        return torch.cat([-foreground, foreground], 1)


def test_every_pass_is_halved_with_the_prompts_of_its_part() -> None:
    image = torch.rand(5, 1, 11, 11, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(5, 11, 11, dtype=torch.int64)
    for number in range(5):
        mask[number, 2:6, 2 * number : 2 * number + 2] = 1
    outputs = []
    for most in (5, 2):
        attack = Pgd(steps=2, sanity_images=4)
        task = PerturbationTest(Limited(most), attack, surrogate=Limited(most))
        task.targets = lambda batch: batch.mask  # type: ignore[assignment]
        outputs.append(task.test_step(Batch(image, mask, torch.arange(5)), 0))
    whole, halved = outputs
    assert_close(halved["adversarial"].images, whole["adversarial"].images)
    assert_close(halved["measures"], whole["measures"], equal_nan=True)
    assert whole["sanity"] is not None
    assert halved["sanity"] is not None
    assert halved["sanity"].images == 4
    expected, result = whole["sanity"].model_dump(), halved["sanity"].model_dump()
    for check in (expected, result):  # which squares are drawn depends on the batch
        del check["dice_black_box"]
    assert result == pytest.approx(expected, nan_ok=True)


def test_the_check_of_gradients_gathers_images_over_batches() -> None:
    image = torch.rand(6, 1, 11, 11, generator=torch.Generator().manual_seed(0))
    mask = (image[:, 0] > 0.5).long()
    task = PerturbationTest(Limited(6), Pgd(steps=2, sanity_images=3))
    task.targets = lambda batch: batch.mask  # type: ignore[assignment]
    batches = [Batch(*(part[n : n + 2] for part in (image, mask, torch.arange(6)))) for n in (0, 2, 4)]
    for _ in range(2):  # a second test begins anew
        found = [task.test_step(batch, number)["sanity"] for number, batch in enumerate(batches)]
        assert [None if check is None else check.images for check in found] == [2, 3, None]
