"""Numeric signals of a network: single precision, mirror images, cache."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from seg_mia.data.sets.folder import Folder
from seg_mia.data.signal_values import FOLDER, signal_values
from seg_mia.data.trained_model import TrainedModel
from seg_mia.membership.fleet.confidences import CrossEntropy, LogCrossEntropy
from seg_mia.membership.signals import ImageEntropy, ImageLoss

CPU = torch.device("cpu")


class Slanted(nn.Module):
    """Logits with values that half precision cannot tell apart, larger to the right and below."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def forward(self, x: Tensor) -> Tensor:
        self.asked += len(x)
        side = torch.arange(x.shape[-1]) / x.shape[-1]
        return 4 + 1e-4 * x.mean(dim=1, keepdim=True) + side + 2 * side[:, None]


@pytest.fixture
def network() -> Slanted:
    return Slanted()


@pytest.fixture
def side(network: Slanted, folder: Callable[..., Path], tmp_path: Path) -> TrainedModel:
    data = Folder(root=str(folder()), threshold=127, members=4, nonmembers=2, batch_size=4)
    data.setup()
    file = tmp_path / "run" / "checkpoints" / "last.ckpt"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"weights")
    return TrainedModel(lambda: network, data, file)


def batch(side: TrainedModel) -> tuple[Tensor, Tensor]:
    samples = side.data.dataset(side.data.indices("all"))
    drawn = [samples[0, row] for row in range(len(samples))]
    return torch.stack([each.image for each in drawn]), torch.stack([each.mask for each in drawn])


def test_signals_are_of_single_precision_outputs(side: TrainedModel, network: Slanted) -> None:
    image, mask = batch(side)
    (values,) = signal_values(side, [CrossEntropy()], side.data, side.data.indices("all"), CPU)
    expected = CrossEntropy()(network(image), image, mask)
    np.testing.assert_allclose(values, expected.numpy(), rtol=1e-12)
    rounded = CrossEntropy()(network(image).half().float(), image, mask)
    assert len(np.unique(values)) > len(np.unique(rounded.numpy()))


def test_the_mirror_images_of_the_training_are_averaged(side: TrainedModel, network: Slanted) -> None:
    image, mask = batch(side)
    signals = [LogCrossEntropy(), ImageLoss()]
    indices = side.data.indices("all")
    mirrored, loss = signal_values(side, signals, side.data, indices, CPU, augment="flip")
    turns = ((), (-1,), (-2,), (-1, -2))
    each = [LogCrossEntropy()(network(image.flip(axes)).flip(axes), image, mask) for axes in turns]
    np.testing.assert_allclose(mirrored, torch.stack(each).mean(dim=0).numpy(), rtol=1e-12)
    np.testing.assert_allclose(loss, ImageLoss()(network(image), image, mask).double().numpy(), rtol=1e-6)
    standard, _ = signal_values(side, signals, side.data, indices, CPU, augment="standard")
    np.testing.assert_allclose(standard, torch.stack(each[:2]).mean(dim=0).numpy(), rtol=1e-12)


def test_what_is_known_is_not_asked_again(side: TrainedModel, network: Slanted) -> None:
    indices = side.data.indices("all")

    def asked(*signals: LogCrossEntropy | ImageLoss, augment: str = "none") -> int:
        before = network.asked
        signal_values(side, signals, side.data, indices, CPU, augment=augment)  # type: ignore[arg-type]
        return network.asked - before

    assert asked(LogCrossEntropy(), ImageLoss()) == 6  # one pass for both
    assert asked(LogCrossEntropy(), ImageLoss()) == 0
    assert asked(LogCrossEntropy(), ImageLoss(loss="dice")) == 6
    assert asked(LogCrossEntropy(), augment="standard") == 12
    assert asked(ImageLoss(), augment="standard") == 0  # no signal of mirror images
    side.file.write_bytes(b"other weights")
    assert asked(ImageLoss()) == 6
    for file in (side.file.parent.parent / FOLDER).iterdir():
        file.write_bytes(b"damaged")
    assert asked(ImageLoss()) == 6
    assert asked(ImageLoss()) == 0


def test_signals_of_other_attacks_are_computed_beside(side: TrainedModel, network: Slanted) -> None:
    indices = side.data.indices("all")

    class Broken(ImageLoss):
        def __call__(self, logits: Tensor, image: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002
            return torch.full((len(logits),), torch.nan)

    others = [ImageEntropy(), LogCrossEntropy(), Broken(), ImageLoss()]
    (loss,) = signal_values(side, [ImageLoss()], side.data, indices, CPU, augment="flip", beside=others)
    assert network.asked == 6
    assert len(list((side.file.parent.parent / FOLDER).iterdir())) == 2  # loss and entropy
    (entropy,) = signal_values(side, [ImageEntropy()], side.data, indices, CPU)
    assert network.asked == 6
    image, mask = batch(side)
    np.testing.assert_allclose(loss, ImageLoss()(network(image), image, mask).double().numpy(), rtol=1e-6)
    np.testing.assert_allclose(entropy, ImageEntropy()(network(image), image, mask).numpy(), rtol=1e-12)
    before = network.asked
    signal_values(side, [ImageLoss()], side.data, indices, CPU, beside=[CrossEntropy()])
    assert network.asked == before  # nothing is asked for what nobody needs
    signal_values(side, [LogCrossEntropy()], side.data, indices, CPU, augment="flip")
    assert network.asked == before + 4 * 6  # over four mirror images, which the loss had not


def test_a_network_from_elsewhere_is_asked_each_time(side: TrainedModel, network: Slanted) -> None:
    foreign = TrainedModel(side.load, side.data, side.file, built={"class_path": "elsewhere.Network"})
    for count in (6, 12):
        signal_values(foreign, [ImageLoss()], side.data, side.data.indices("all"), CPU)
        assert network.asked == count
