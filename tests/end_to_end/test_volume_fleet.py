"""Attacks by many shadows, and networks of MONAI, on whole volumes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seg_mia.checkpoint import load_victim
from seg_mia.cli import main
from seg_mia.models.heads import final
from tests.data.scans import save
from tests.end_to_end.test_volumes import trained

SIZE = (4, 8, 8)


def volumes(folder: Path, count: int) -> Path:
    """Write volumes with a bright cube each, every third with a slice less than the others."""
    rng = np.random.default_rng(0)
    for number in range(count):
        values = rng.integers(-100, 100, (8, 8, 4 - (number % 3 == 0))).astype(np.int16)
        label = np.zeros(values.shape, np.uint8)
        start = rng.integers(1, 4, 2)
        label[start[0] : start[0] + 4, start[1] : start[1] + 4, 1:3] = 1
        save(folder / f"images/p{number:03d}.nii", (values + 150 * label).astype(np.int16))
        save(folder / f"masks/p{number:03d}.nii", label)
    return folder


@pytest.mark.slow
def test_shadows_with_and_without_each_volume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = volumes(tmp_path / "volumes", 24)
    options: dict[str, Any] = {"size": list(SIZE), "members": 6, "nonmembers": 6, "augment": "flip"}
    victim = trained(root, **options)
    shared = ["--data.role=shadow", "--data.shadow_pool=victim"]
    words = [[*shared, f"--data.shadow={number}", f"--seed_everything={number + 1}"] for number in range(4)]
    shadows = [trained(root, *each, **options) for each in words]
    both = [word for shadow in shadows for word in ("--shadow", str(shadow))]
    for name in ("mia-lira", "mia-rmia", "mia-base"):
        capsys.readouterr()
        assert main(["test", "--attack", name, "--victim", str(victim), *both]) == 0, name
        assert "4 shadows, 6 members, 6 non-members: AUC" in capsys.readouterr().out
        summary = json.loads((victim / name / "version_0" / "summary.json").read_text())
        assert 0 <= summary["results"]["auc"]["value"] <= 1


@pytest.mark.slow
def test_quantiles_of_volumes_nobody_trained_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = volumes(tmp_path / "volumes", 430)
    options: dict[str, Any] = {"size": list(SIZE), "members": 6, "nonmembers": 6, "batch_size": 25}
    victim = trained(root, **options)
    shadow = trained(root, "--data.role=shadow", **{**options, "members": 150, "nonmembers": 60})
    assert main(["test", "--attack=mia-quantile", f"--victim={victim}", f"--shadow={shadow}"]) == 0
    assert "6 members, 6 non-members: AUC" in capsys.readouterr().out


@pytest.mark.peers("monai")
@pytest.mark.parametrize(
    ("name", "settings", "sides"),
    [
        ("UNet", {"channels": [4, 8], "strides": [2], "num_res_units": 1}, (4, 16, 16)),
        ("SegResNet", {"init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1]}, (4, 16, 16)),
    ],
)
def test_networks_of_monai_take_volumes(
    name: str, settings: dict[str, Any], sides: tuple[int, ...], tmp_path: Path
) -> None:
    network: dict[str, Any] = {
        "class_path": f"monai.networks.nets.{name}",
        "init_args": {"spatial_dims": 3, "in_channels": 1, "out_channels": 1, **settings},
    }
    options: dict[str, Any] = {"network": network, "size": list(sides), "members": 2, "nonmembers": 2}
    root = volumes(tmp_path / "volumes", 8)
    victim, shadow = trained(root, **options), trained(root, "--role=shadow", **options)
    path = network["class_path"]
    loaded = load_victim(victim / "checkpoints" / "last.ckpt", trust=[path])
    with torch.no_grad():
        assert final(loaded(torch.rand(1, 1, *sides))).shape == (1, 1, *sides)
    words = [f"--victim={victim}", f"--trust={path}"]
    assert main(["test", "--attack=pgd", *words, "--attack.steps=1", "--data.limit=1"]) == 0
    assert main(["test", "--attack=mia-global-loss", *words, f"--shadow={shadow}"]) == 0
