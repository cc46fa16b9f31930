"""Canaries on the phantom: a training without noise gives them away, a private one does not."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from seg_mia.cli import main

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("common_cache", "undrawn")]

SMALL = {"size": 32, "patients": 700, "slices": 1, "members": 32, "nonmembers": 32, "batch_size": 16}
NETWORK = {"encoder": "tu-tf_efficientnet_lite0", "depth": 3, "decoder_channels": [32, 16, 8]}
COMMAND = [
    *("fit", "--config", "phantom_victim", "--trainer.max_epochs=25", "--model.lr=1e-2"),
    "--trainer.check_val_every_n_epoch=25",
    *("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"),
    *(f"--data.{name}={value}" for name, value in SMALL.items()),
    *(f"--model.network.init_args.{name}={value}" for name, value in NETWORK.items()),
    *("--defence", "my_canaries.yaml", "--defence", "dp", "--model.defences.reproducible=true"),
]
CANARIES = {"class_path": "seg_mia.defences.canaries.Canaries", "init_args": {"kind": "mislabelled"}}


def audited(*words: str) -> dict[str, Any]:
    """Train with canaries, and return what was promised and what they prove."""
    Path("my_canaries.yaml").write_text(yaml.safe_dump(CANARIES))  # options set the last defence alone
    assert main([*COMMAND, *words]) == 0
    (file,) = Path("runs").glob("*/version_0/canaries.json")
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def test_without_noise_the_canaries_prove_that_nothing_is_kept() -> None:
    """The control: an audit that could not find what is there would prove nothing of a promise."""
    found = audited("--model.defences.epsilon=.inf", "--model.defences.noise=0")
    assert found["privacy"]["noise"] == 0
    assert found["auc"] > 0.9
    assert found["certified"]["epsilon"] >= 1


def test_under_a_promise_of_1_they_prove_less() -> None:
    found = audited("--model.defences.epsilon=1")
    assert found["privacy"]["epsilon"] <= 1
    assert found["privacy"]["steps"] > 0
    assert found["auc"] < 0.7
    assert found["certified"]["epsilon"] < 1
