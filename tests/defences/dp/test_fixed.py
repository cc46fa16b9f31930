"""`batch_norm: fixed`: an encoder keeps the statistics it brought from elsewhere, and learns none of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from seg_mia.checkpoint import load_victim
from seg_mia.cli import main
from seg_mia.models.group_norm import PerSampleNorm
from seg_mia.models.smp import Smp
from seg_mia.models.wrapper import bare
from tests.defences.dp.helpers import (
    KNOWN,
    ONE_EPOCH,
    UNLIMITED,
    fit,
    opacus,
    option,
    privacy,
    refusal,
    with_network,
)
from tests.trained_runs import Trained

FIXED = [*UNLIMITED, ONE_EPOCH, option("batch_norm", "fixed")]
FROZEN = "--model.frozen=[encoder]"
NETWORK: dict[str, Any] = {"encoder": "tu-test_resnet", "channels": 3, "classes": 1, "depth": 3}


def norms(encoder: nn.Module) -> dict[str, nn.BatchNorm2d]:
    return {name: layer for name, layer in encoder.named_modules() if isinstance(layer, nn.BatchNorm2d)}


def encoder_of(victim: nn.Module) -> nn.Module:
    return bare(victim).get_submodule("network.encoder")


def victim_of(folder: Path) -> PerSampleNorm:
    victim = load_victim(folder / "checkpoints" / "last.ckpt")
    assert isinstance(victim, PerSampleNorm)
    return victim


@pytest.fixture
def public() -> dict[str, Tensor]:
    """What an encoder has learnt elsewhere: weights and statistics that no new network has."""
    torch.manual_seed(1)
    encoder = Smp(**NETWORK).encoder
    for layer in norms(encoder).values():
        assert layer.running_mean is not None
        assert layer.running_var is not None
        for values in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
            nn.init.uniform_(values, 0.5, 1.5)
    state: dict[str, Tensor] = encoder.state_dict()
    return state


@pytest.fixture
def start(public: dict[str, Tensor], tmp_path: Path) -> str:
    """The option that lets a training start from it."""
    torch.save(public, tmp_path / "public.pth")
    return f"--model.encoder_weights={tmp_path / 'public.pth'}"


def test_a_frozen_encoder_comes_out_as_it_went_in(
    tiny: Path, public: dict[str, Tensor], start: str, trained: Trained
) -> None:
    words = [*FIXED, FROZEN, start]
    folder = trained(tiny, *KNOWN, *words)
    promise, victim = privacy(folder), victim_of(folder)
    assert promise["steps"] == 3
    assert promise["epsilon"] == pytest.approx(opacus(promise), rel=1e-12)
    assert_close(dict(encoder_of(victim).state_dict()), public, rtol=0, atol=0)
    assert set(victim.fixed) == set(norms(victim).values()) == set(norms(encoder_of(victim)).values())
    untrained = victim_of(fit(tiny, *words, "--model.lr=1e-12", runs="untrained"))
    first = dict(untrained.named_parameters())
    moved = {name for name, each in victim.named_parameters() if not torch.equal(each, first[name])}
    assert moved == {name for name in first if ".encoder." not in name}


def test_what_is_deployed_keeps_samples_apart_in_any_mode(tiny: Path, start: str, trained: Trained) -> None:
    victim = victim_of(trained(tiny, *KNOWN, *FIXED, FROZEN, start))
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    before = {name: value.clone() for name, value in victim.state_dict().items()}
    with torch.no_grad():
        together, alone = victim(images), torch.cat([victim(image[None]) for image in images])
        assert torch.isfinite(together).all()
        assert_close(alone, together, rtol=1e-4, atol=1e-4)  # in 32 bits; what mixes is off by far more
        assert_close(victim.train()(images), together, rtol=1e-4, atol=1e-4)
    assert_close(dict(victim.state_dict()), before, rtol=0, atol=0)


def test_a_resumed_training_leaves_the_encoder_alone_too(
    tiny: Path, public: dict[str, Tensor], start: str
) -> None:
    folder = fit(tiny, *FIXED, FROZEN, start)
    assert main(["fit", "--resume", str(folder), "--trainer.max_epochs=2"]) == 0
    assert privacy(folder)["steps"] == 6
    assert_close(dict(encoder_of(victim_of(folder)).state_dict()), public, rtol=0, atol=0)


def test_of_an_encoder_that_is_not_frozen_the_statistics_stay_and_the_convolutions_learn(
    tiny: Path, public: dict[str, Tensor], start: str
) -> None:
    encoder = encoder_of(victim_of(fit(tiny, *FIXED, start)))
    kept = tuple(f"{name}." for name in norms(encoder))
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, public[name]) == name.startswith(kept), name


def test_an_encoder_that_has_seen_no_images_is_refused(
    tiny: Path, public: dict[str, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether all of it is new or a single layer."""
    variance = next(name for name in public if name.endswith("running_var"))
    torch.save(public | {variance: torch.ones_like(public[variance])}, tmp_path / "partly.pth")
    for weights in ([], [f"--model.encoder_weights={tmp_path / 'partly.pth'}"]):
        line = refusal(["fit", "--config", str(tiny), *KNOWN, *FIXED, FROZEN, *weights], capsys)
        assert "fixed statistics need a pre-trained encoder, got random weights" in line
        assert "--model.encoder_weights" in line


def normed_by_group(tiny: Path) -> Path:
    return with_network(tiny, "seg_mia.models.smp.Smp", norm="group", **NETWORK)


def without_encoder(tiny: Path) -> Path:
    return with_network(tiny, "my_network.Plain")


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(("change", "name"), [(normed_by_group, "Smp"), (without_encoder, "Plain")])
def test_a_network_without_such_statistics_is_refused(
    change: Callable[[Path], Path], name: str, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refusal(["fit", "--config", str(change(tiny)), *KNOWN, *FIXED], capsys)
    assert f"fixed statistics need an encoder with BatchNorm2d, {name} has none; use group" in line
