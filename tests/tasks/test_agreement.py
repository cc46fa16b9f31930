"""Comparison of a network's masks with those that a deployed system has saved."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from seg_mia.data.sets.folder import Folder
from seg_mia.errors import InputError
from seg_mia.tasks.agreement import Reference, compared


class Bright(nn.Module):
    """One logit, positive where the first channel is above a level."""

    def __init__(self, level: float, *, shift: int = 0) -> None:
        super().__init__()
        self.level, self.shift = level, shift

    def forward(self, x: Tensor) -> Tensor:
        return 50 * (x[:, :1] - self.level).roll(self.shift, dims=3)


@pytest.fixture
def data(folder: Callable[..., Path]) -> Folder:
    opened = Folder(root=str(folder()), threshold=127, members=4, nonmembers=2)
    opened.setup()
    return opened


def saved(place: Path, network: nn.Module, data: Folder, kind: str) -> Path:
    """Write predictions of all samples, of one kind."""
    place.mkdir()
    samples = data.dataset(np.arange(len(data.source.ids)))
    for position, name in enumerate(data.source.ids):
        logits = network(samples[0, position].image[None])[0]
        mask = (logits[0] > 0).numpy().astype(np.uint8)
        if kind == "labels":
            Image.fromarray(mask).save(place / f"{name}.png")
        elif kind == "black and white":
            Image.fromarray(255 * mask).save(place / f"{name}.png")
        else:
            p = logits.double().sigmoid().numpy()
            np.savez(place / f"{name}.npz", probabilities=np.stack([1 - p, p]))  # (2, 1, h, w) as nnU-Net's
    return place


@pytest.mark.parametrize("kind", ["labels", "black and white", "probabilities"])
def test_the_deployed_network_agrees_with_itself(kind: str, data: Folder, tmp_path: Path) -> None:
    reference = saved(tmp_path / "saved", Bright(0.5), data, kind)
    agreement = compared([Reference(reference, Bright(0.5))], data, 0.99)
    assert (agreement.dice, agreement.lowest, agreement.below) == (1, 1, 0)
    assert agreement.samples == agreement.available == len(data.source.ids)


def test_another_network_is_refused_with_the_worst_samples(data: Folder, tmp_path: Path) -> None:
    reference = saved(tmp_path / "saved", Bright(0.5), data, "labels")
    with pytest.raises(InputError, match=r"at 0.99 \(mean Dice\), got 0\.\d+") as error:
        compared([Reference(reference, Bright(0.5, shift=3))], data, 0.99)
    assert data.source.ids[0].rpartition("/")[2][:1] in str(error.value)
    assert "usual causes" in str(error.value)
    accepted = compared([Reference(reference, Bright(0.5, shift=3))], data, 0.1)
    assert accepted.below == 0
    assert accepted.lowest < 0.99


def test_masks_that_are_both_empty_prove_nothing(data: Folder, tmp_path: Path) -> None:
    reference = saved(tmp_path / "saved", Bright(9), data, "labels")
    with pytest.raises(InputError, match="must show foreground, 12 masks of both are empty"):
        compared([Reference(reference, Bright(9))], data, 0.99)


def test_files_that_do_not_fit_are_named(data: Folder, tmp_path: Path) -> None:
    place = tmp_path / "saved"
    with pytest.raises(InputError, match="must be a folder"):
        compared([Reference(place, Bright(0.5))], data, 0.99)
    place.mkdir()
    Image.new("L", (9, 9)).save(place / "other.png")
    with pytest.raises(InputError, match="named by sample, such as .* got other"):
        compared([Reference(place, Bright(0.5))], data, 0.99)
    Image.new("L", (9, 9)).save(place / f"{data.source.ids[0]}.png")
    with pytest.raises(InputError, match="must have the size of its mask, .* got 9x9"):
        compared([Reference(place, Bright(0.5))], data, 0.99)
    with pytest.raises(InputError, match=r"agreement must lie in \[0, 1\]"):
        compared([Reference(place, Bright(0.5))], data, 1.5)


def test_gradients_are_not_needed(data: Folder, tmp_path: Path) -> None:
    reference = saved(tmp_path / "saved", Bright(0.5), data, "labels")
    with torch.inference_mode():
        assert compared([Reference(reference, Bright(0.5))], data, 0.99).dice == 1
