"""What every attack keeps on volumes; attacks are found among the configs, a new one too."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from seg_mia.attacks.adain import Adain
from seg_mia.attacks.base import Perturbation
from seg_mia.attacks.universal import Universal
from seg_mia.config.files import find_config, known
from seg_mia.experiment.attack_classes import is_certification, is_membership
from seg_mia.metrics.labels import IGNORE
from seg_mia.metrics.similarity import ssim
from tests.attacks.test_contract import configured
from tests.texture_weights import by_rule

CHANNELS = 3


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Very narrow auto-encoders."""
    return str(by_rule(tmp_path_factory.mktemp("weights"), widths=(2, 2, 3, 4, 4), first=2))


NAMES = [
    name
    for name in known("attack")
    for file in [str(find_config(name, "attack"))]
    if not is_membership(file) and not is_certification(file)
]


def attack_of(name: str, weights: str, folder: Path, axes: int) -> Perturbation:
    """Return an attack as its config names it, shortened, for images (2) or volumes (3)."""
    attack = configured(name)
    if isinstance(attack, Universal):
        tile = np.random.default_rng(0).uniform(-0.03, 0.03, (1, CHANNELS, 8, 8)).astype(np.float32)
        np.save(folder / f"universal{axes}.npy", tile if axes == 2 else tile[:, :, None])
        return configured(name, fitted=str(folder / f"universal{axes}.npy"))
    if isinstance(attack, Adain):
        return configured(name, weights=weights, organs="[6, 3]")
    short = {"steps": 4, "queries": 20}
    return configured(name, **{key: value for key, value in short.items() if key in attack.settings})


class Small(nn.Module):
    """A network for volumes, or the same one for images: its 3-D kernels have a single slice."""

    def __init__(self, axes: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.axes = axes
        self.first = nn.Parameter(torch.randn(4, CHANNELS, 3, 3, generator=generator) / 3)
        self.last = nn.Parameter(torch.randn(3, 4, 1, 1, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        if self.axes == 2:
            hidden = torch.conv2d(x, self.first, padding=1).tanh()
            return torch.conv2d(hidden, 4 * self.last)
        hidden = torch.conv3d(x, self.first[:, :, None], padding=(0, 1, 1)).tanh()
        return torch.conv3d(hidden, 4 * self.last[:, :, None])


def inputs(depth: int = 2, count: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(count, CHANNELS, depth, 36, 32, generator=generator, dtype=torch.float64)
    target = torch.randint(0, 3, (count, depth, 36, 32), generator=generator)
    target[:, :, 2:4] = IGNORE
    return x, target


@pytest.mark.parametrize("name", NAMES)
def test_images_are_in_range_and_each_volume_counts_alone(name: str, weights: str, tmp_path: Path) -> None:
    attack, model = attack_of(name, weights, tmp_path, 3), Small(3).double()
    x, target = inputs()
    before, parameters = x.clone(), [parameter.clone() for parameter in model.parameters()]
    result = attack.run(model, x, target)
    assert result.images.shape == x.shape
    assert result.images.dtype == x.dtype
    assert 0 <= result.images.min() <= result.images.max() <= 1
    assert all(note.shape == (len(x),) for note in result.notes.values())
    assert (result.images != x).any() or name in {"asma", "square"}  # few steps may not succeed
    assert_close(x, before, rtol=0, atol=0)
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), parameters, strict=True))
    alone = attack.run(model, x[1:], target[1:])
    assert_close(result.images[1:], alone.images, atol=1e-9, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_a_volume_of_one_slice_gets_what_its_image_gets(name: str, weights: str, tmp_path: Path) -> None:
    x, target = inputs(depth=1)
    volume = attack_of(name, weights, tmp_path, 3).run(Small(3).double(), x, target)
    image = attack_of(name, weights, tmp_path, 2).run(Small(2).double(), x[:, :, 0], target[:, 0])
    assert_close(volume.images[:, :, 0], image.images, atol=1e-6, rtol=0)
    for note, value in image.notes.items():
        assert_close(volume.notes[note], value, atol=1e-6, rtol=0, equal_nan=True)


def test_every_attack_is_tried() -> None:
    assert {"asma", "medis", "pgd", "apgd", "sea", "square", "adain", "robustness-curve"} <= {*NAMES}


def test_texture_leaves_padding_as_it_was_and_out_of_its_values(weights: str) -> None:
    x, target = inputs()
    target[:, :, :6] = IGNORE
    attack = configured("adain", weights=weights, organs="[6, 3]")
    assert isinstance(attack, Adain)
    result = attack.run(Small(3).double(), x, target)
    assert torch.equal(result.images[..., :6, :], x[..., :6, :])
    assert (result.images[..., 6:, :] != x[..., 6:, :]).any()
    surround = target == 0
    assert_close(result.notes["ssim_outside"], ssim(result.images, x, where=surround))


def test_texture_changes_slices_along_the_stated_axis(weights: str) -> None:
    options: dict[str, Any] = {"weights": weights, "organs": "[6, 3]"}
    x = torch.rand(1, 1, 32, 33, 34, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(1, 32, 33, 34, dtype=torch.int64)
    image, flat = x[:, :, :, :, 3], mask[..., 3]

    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x[:, :1], 1 - x[:, :1], 0 * x[:, :1]], dim=1)

    whole = configured("adain", **options, axis="sagittal").run(Constant(), x, mask)
    alone = configured("adain", **options).run(Constant(), image, flat)
    assert_close(whole.images[:, :, :, :, 3], alone.images)
