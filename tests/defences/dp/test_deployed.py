"""A private victim, once it is trained: loaded, validated, attacked."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from seg_mia.checkpoint import load_victim
from seg_mia.cli import main
from seg_mia.models.group_norm import PerSampleNorm
from tests.defences.dp.helpers import (
    ONE_EPOCH,
    UNLIMITED,
    fit,
    privacy,
)
from tests.trainings import log_of


def test_a_private_victim_is_validated_attacked_and_loaded_with_group_norm(tiny: Path) -> None:
    folder = fit(tiny, *UNLIMITED, ONE_EPOCH)
    victim = load_victim(folder / "checkpoints" / "last.ckpt")
    assert isinstance(victim, PerSampleNorm)
    kinds = {type(module) for module in victim.modules()}
    assert nn.BatchNorm2d not in kinds
    assert any(issubclass(kind, nn.GroupNorm) for kind in kinds)
    assert not [kind for kind in kinds if issubclass(kind, nn.modules.batchnorm._BatchNorm)]
    (logged,) = log_of(folder)
    assert main(["validate"]) == 0
    found = json.loads((folder / "validate" / "version_0" / "summary.json").read_text())
    assert found["dice"] == pytest.approx(logged["val/dice"], abs=1e-6)
    assert main(["test", "--attack", "asma", "--attack.steps=1", "--data.limit=1"]) == 0
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        together, alone = victim(images), torch.cat([victim(image[None]) for image in images])
        # Nothing that depends on the mode is left. Sums of another batch size may be in another order.
        assert_close(victim.train()(images), together)
    assert_close(together, alone, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_membership_attack_on_a_private_victim_compares_what_it_proves(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fit(tiny, *UNLIMITED, ONE_EPOCH)
    shadow = ["fit", "--config", str(tiny), ONE_EPOCH, "--data.role=shadow", "--seed_everything=1"]
    assert main(shadow) == 0
    capsys.readouterr()
    assert main(["test", "--attack", "mia-global-loss"]) == 0
    promise = privacy(folder)
    summary = json.loads((folder / "mia-global-loss" / "version_0" / "summary.json").read_text())
    assert summary["privacy"] == promise
    assert summary["certified"]["unit"] == "image"
    assert summary["certified"]["delta"] == promise["delta"]
    assert f"the guarantee is {promise['epsilon']:.3g}" in capsys.readouterr().out
