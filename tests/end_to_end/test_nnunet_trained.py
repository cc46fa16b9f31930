"""Trainings of nnU-Net itself on toys, adopted and audited from their folders as they lie on disk."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.nnunet_compared import adopted, compared
from benchmarks.nnunet_tasks import Task, tasks
from seg_mia.cli import main

ROOT = Path(__file__).parents[2]
TASKS = tasks()
pytestmark = [pytest.mark.slow, pytest.mark.peers("nnunetv2")]


def train(name: str, folder: Path) -> Task:
    """Let nnU-Net train one fold of a task below a folder."""
    script = str(ROOT / "benchmarks" / "nnunet_training.py")
    words = [sys.executable, "-W", "ignore", script, str(folder)]
    words += ["--task", name, "--iterations", "15", "--fork"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, check=False, env=environment, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stderr[-2000:]
    return TASKS[name]


@pytest.mark.parametrize("name", list(TASKS))
def test_a_real_training_is_the_adopted_network(name: str, tmp_path: Path) -> None:
    task = train(name, tmp_path)
    network, data, lowest = adopted(task.training(tmp_path), Path("runs"))
    assert lowest > 0.95  # Dice of the masks it saved, in half precision: a few voxels of small organs differ
    rows = list(compared(task, tmp_path, network, data))
    assert len(rows) == 2
    for row in rows:
        single, saved = row.equal
        assert row.single < 1e-3
        assert single > 0.999
        assert saved > 0.995
        assert row.dice == pytest.approx(row.stated, abs=0.01)
    if name in {"images", "organs"}:
        audit(task.training(tmp_path))


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
