"""Trainings of nnU-Net itself on toys, adopted and audited from their folders as they lie on disk."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.nnunet_tasks import tasks
from seg_mia.checkpoint import load_victim, read_card
from seg_mia.cli import main
from seg_mia.data.sets.nnunet import NnUNetRaw, NnUNetVolumes
from seg_mia.metrics.overlap import foreground_dice_per_class
from seg_mia.models.heads import final, predicted
from seg_mia.models.label_logits import label_logits_of

ROOT = Path(__file__).parents[2]
TASKS = tasks()
pytestmark = [pytest.mark.slow, pytest.mark.peers("nnunetv2")]


def train(name: str, folder: Path) -> Path:
    """Let nnU-Net train one fold of a task, and return the folder of the training."""
    script = str(ROOT / "benchmarks" / "nnunet_training.py")
    words = [sys.executable, "-W", "ignore", script, str(folder), "--task", name, "--iterations", "15"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, check=False, env=environment, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stderr[-2000:]
    task = TASKS[name]
    return folder / "nnUNet_results" / task.dataset / f"nnUNetTrainer__nnUNetPlans__{task.configuration}"


def adopted(training: Path) -> tuple[nn.Module, NnUNetRaw]:
    """Adopt fold 0; return the network and its data."""
    assert main(["adopt", f"--nnunet={training}", "--folds", "0"]) == 0
    (file,) = Path("runs").glob("*/*/checkpoints/last.ckpt")
    card, network = read_card(file), load_victim(file)
    assert card.training is not None
    assert card.training["agreement"]["samples"] == 2
    assert card.training["agreement"]["lowest"] > 0.999
    assert card.data is not None
    kind = NnUNetVolumes if card.data["class_path"].endswith("NnUNetVolumes") else NnUNetRaw
    data = kind(**card.data["init_args"])
    data.setup()
    return network, data


def stored(file: Path) -> Tensor:
    """Return probabilities (K, *S) that nnU-Net's predictor gave, of images without their depth of 1."""
    probabilities = torch.from_numpy(np.load(file)["probabilities"])
    return probabilities[:, 0] if probabilities.shape[1] == 1 else probabilities


@pytest.mark.parametrize("name", list(TASKS))
def test_a_real_training_is_the_adopted_network(name: str, tmp_path: Path) -> None:
    training = train(name, tmp_path)
    network, data = adopted(training)
    validation = training / "fold_0" / "validation"
    summary = json.loads((validation / "summary.json").read_text())
    metrics: dict[str, Any] = {
        Path(case["prediction_file"]).name.partition(".")[0]: case["metrics"]
        for case in summary["metric_per_case"]
    }
    assert len(metrics) == 2
    for case, measured in metrics.items():
        single = stored(tmp_path / "predictions" / "fold_0" / "single" / f"{case}.npz")
        part = tuple(slice(length) for length in single.shape[1:])
        image, mask, _ = data.dataset(np.array([data.source.ids.index(case)]))[0, 0]
        with torch.no_grad():
            logits = final(network(image[None]))[(slice(None), slice(None), *part)]
        mine = label_logits_of(logits).sigmoid()[0] if name == "regions" else logits.softmax(1)[0]
        assert (mine - single).abs().max() < 1e-3
        for theirs in (single, stored(validation / f"{case}.npz")):
            assert (decided(theirs, name) == decided(mine, name)).float().mean() > 0.999
        dice = foreground_dice_per_class(predicted(logits), mask[part][None].long(), data.source.classes)[0]
        for value, label in zip(dice.tolist(), measured, strict=True):
            assert value == pytest.approx(measured[label]["Dice"], abs=1e-3)
    if name in {"images", "organs"}:
        audit(training)


def decided(probabilities: Tensor, name: str) -> Tensor:
    """Return the class of each voxel, or whether it is in each region."""
    return probabilities > 0.5 if name == "regions" else probabilities.argmax(0)


def audit(training: Path) -> None:
    """Audit a fold in its folder."""
    settings = "{attack: pgd, settings: {steps: 1}, data: {limit: 1}}"
    Path("real_audit.yaml").write_text(
        f"version: 1\nvictim: {{nnunet: {training}, folds: 0}}\nattacks: [mia-global-loss, {settings}]\n"
    )
    assert main(["audit", "--config", "real_audit.yaml"]) == 0
    content = json.loads(Path("runs/real_audit/version_0/audit.json").read_text())
    (attack,) = [entry for entry in content["attacks"] if entry["name"] == "mia-global-loss"]
    assert (attack["results"]["members"], attack["results"]["nonmembers"]) == (8, 6)
