"""A batch that does not fit is attacked in halves, with the same result."""

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from seg_mia.attacks.base import Adversarial
from seg_mia.attacks.medis import medis
from seg_mia.data.samples import Batch
from seg_mia.errors import InputError
from seg_mia.tasks.halving import Halving
from tests.attacks.networks import discs, trained


class Small:
    """An attack that runs out of memory above a number of images."""

    def __init__(self, network: nn.Module, most: int, message: str = "CUDA out of memory. Tried") -> None:
        self.network, self.most, self.message = network, most, message
        self.sizes: list[int] = []

    def __call__(self, batch: Batch, target: Tensor) -> Adversarial:
        self.sizes.append(len(batch.image))
        if len(batch.image) > self.most:
            raise RuntimeError(self.message)
        return medis(self.network, batch.image, target, steps=3, history=True)


def batch(count: int) -> tuple[Batch, Tensor]:
    x, mask = discs(count, 3)
    return Batch(x, mask, torch.arange(count)), torch.ones_like(mask)


def test_halves_give_what_the_whole_batch_does() -> None:
    samples, target = batch(5)
    whole, attack = Small(trained(), 5), Small(trained(), 2)
    halving = Halving()
    expected, result = whole(samples, target), halving(attack, samples, target)
    assert_close(result.images, expected.images)
    assert_close(result.notes, expected.notes)
    assert_close(result.history, expected.history)
    assert attack.sizes == [5, 3, 2, 2, 1]
    assert halving.largest == 2
    attack.sizes.clear()
    halving(attack, samples, target)
    assert attack.sizes == [2, 2, 1]  # found once


def test_one_image_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="memory must suffice to attack one image"):
        Halving()(Small(trained(), 0), *batch(2))


def test_other_errors_stay_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="a shape is wrong"):
        Halving()(Small(trained(), 0, "a shape is wrong"), *batch(2))
