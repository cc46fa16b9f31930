"""Hooks are given the network: adversarial training is one method."""

from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from seg_mia.attacks.pgd import fgsm
from seg_mia.data.samples import Batch
from seg_mia.defences.base import Defence
from seg_mia.defences.crop import Crop
from seg_mia.models.stitched import Stitched
from seg_mia.tasks.segmentation import Segmentation

pytestmark = pytest.mark.filterwarnings("ignore:.*already saved during checkpointing")


class Scaled(nn.Module):
    """One logit per pixel, w (x - 0.5), w = 2 at first."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x - 0.5)


class Adversarial(Defence):
    """Train on images that one gradient step has moved away from their masks."""

    def __init__(self) -> None:
        self.modes = list[bool]()

    def sample(self, batch: Batch, network: nn.Module) -> Batch:
        self.modes.append(network.training)
        return batch._replace(image=fgsm(network, batch.image, batch.mask, epsilon=0.25).images)


def batch() -> Batch:
    image = torch.tensor([[[[0.5, 0.75]]], [[[0.25, 0.5]]]])
    return Batch(image, torch.tensor([[[1, 0]], [[1, 0]]]), torch.arange(2))


def test_adversarial_training_is_one_hook() -> None:
    # The loss of a pixel of class 1 falls with x, that of class 0 rises: the first goes down, the second up.
    moved = torch.tensor([[[[0.25, 1.0]]], [[[0.0, 0.75]]]])
    task = Segmentation(Scaled(), defences=[Adversarial()], loss="cross_entropy")
    plain = Segmentation(Scaled(), loss="cross_entropy")
    output = task.training_step(batch(), 0)
    expected = plain.training_step(batch()._replace(image=moved), 0)
    assert_close(output["loss"], expected["loss"])
    (defence,) = task.defences
    assert isinstance(defence, Adversarial)
    assert defence.modes == [True]
    assert task.network.training
    output["loss"].backward()  # type: ignore[no-untyped-call]
    expected["loss"].backward()  # type: ignore[no-untyped-call]
    assert_close(task.network.weight.grad, plain.network.weight.grad)
    assert_close(task.validation_step(batch(), 0)["losses"], plain.validation_step(batch(), 0)["losses"])


class Watching(Defence):
    """Keeps which networks its hooks are given."""

    given: ClassVar[list[nn.Module]] = []

    def sample(self, batch: Batch, network: nn.Module) -> Batch:
        self.given.append(network)
        return batch

    batch = sample

    def penalty(self, logits: Tensor, batch: Batch, network: nn.Module) -> None:
        del logits, batch
        self.given.append(network)


def test_every_hook_is_given_the_network_inside_what_defences_put_around_it() -> None:
    Watching.given.clear()
    task = Segmentation(Scaled(), defences=[Watching(), Crop(size=1)], loss="cross_entropy")
    task.training_step(batch(), 0)
    assert [type(network) for network in Watching.given] == [Stitched] * 3
    assert all(network is task.network for network in Watching.given)
