"""Heart slices of real patients: split by patient, the data alone does not tell who was trained on."""

import json
from pathlib import Path

import pytest

from seg_mia.cli import main

pytestmark = [pytest.mark.slow(60), pytest.mark.usefixtures("all_cores")]

SMALL = [
    *("--trainer.max_epochs=1", "--trainer.limit_val_batches=1", "--data.size=64"),
    *("--model.network.init_args.encoder=tu-test_resnet", "--model.network.init_args.depth=3"),
]
"""The baseline asks no network, but counts the members that one was trained on: all of them, quickly."""


def test_the_blind_baseline_is_at_chance_by_patient(shared: Path) -> None:
    weights = shared / "data" / "weights" / "efficientnet_lite0" / "tf_efficientnet_lite0_timm_keys.pth"
    data = f"--data.root={shared / 'data' / 'acdc'}"
    for role in ([], ["--role", "shadow"]):
        assert main(["fit", "--config", "acdc_victim", *role, data, *SMALL]) == 0
    pretrained = ["--attack.scorer.architecture=tf_efficientnet_lite0", f"--attack.scorer.weights={weights}"]
    assert main(["test", "--attack", "mia-blind", *pretrained]) == 0
    (file,) = Path("runs/acdc_victim/version_0/mia-blind").glob("*/summary.json")
    summary = json.loads(file.read_text())
    assert summary["groups"]["groups"] < summary["results"]["members"]
    for auc in (summary["results"]["auc"], summary["groups"]["auc"]):
        assert auc["low"] <= 0.5 <= auc["high"]
