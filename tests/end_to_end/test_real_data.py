"""Each real data set from its files to an attacked victim: prepare, a short fit, ASMA on one image."""

import json
from pathlib import Path

import pytest

from seg_mia.cli import main

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("drawn")]


@pytest.mark.parametrize(
    ("config", "folder", "samples"),
    [
        ("kvasir_victim", "kvasir_seg", 1000),
        ("liver_victim", "liver_ct", 623),
        ("acdc_victim", "acdc", 622),
        ("fundus_victim", "fundus", 2),
    ],
)
def test_prepare_fit_and_attack(shared: Path, config: str, folder: str, samples: int) -> None:
    root = [f"--data.root={shared / 'data' / folder}"]
    assert main(["prepare", "--config", config, *root]) == 0
    (place,) = Path("runs/prepare", config).iterdir()
    report = json.loads((place / "prepare.json").read_text())
    assert report["samples"] == samples
    assert (place / "sheet.png").read_bytes().startswith(b"\x89PNG")
    short = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--trainer.limit_val_batches=1"]
    assert main(["fit", "--config", config, *root, *short, "--trainer.enable_progress_bar=false"]) == 0
    attack = ["test", "--attack", "asma", "--attack.steps=3", "--attack.target=white", "--data.limit=1"]
    assert main([*attack, "--attack.keep=last"]) == 0
    summary = json.loads(Path(f"runs/{config}/version_0/asma/version_0/summary.json").read_text())
    assert summary["images"] == 1
    assert summary["results"]["l2"]["mean"] > 0
