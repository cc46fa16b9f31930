"""The built-in data does what real data does: a network that learns it learns its members better.

A distilled victim leaks clearly less, and a poisoned one loses its mask.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from seg_mia.cli import main
from seg_mia.config.files import find_config, read_yaml

pytestmark = [pytest.mark.slow(200), pytest.mark.usefixtures("all_cores", "drawn", "thorough_checks")]

QUICK = {
    "data.size": 48,
    "data.members": 32,
    "data.nonmembers": 32,
    "data.reference": 96,
    "model.network.init_args.depth": 3,
    "model.network.init_args.decoder_channels": [64, 32, 16],
    "model.lr": 2e-3,
    "trainer.max_epochs": 30,
    "trainer.check_val_every_n_epoch": 15,
}
"""A smaller network of the shipped kind, and half of the slices."""
SCORER = {"architecture": "test_resnet", "lr": 3e-3, "batch_size": 8, "epochs": 15}
BY_FLEET = ("mia-calibrated", "mia-base", "mia-lira")
"""Tested by fleets of smaller networks."""
LIMITS = {"robustness-curve": 2, "asma": 4, "medis": 2, "adain": 2}
DEFENCES = {
    "victim": {"config": "phantom_victim", "options": QUICK},
    "shadow": {"config": "phantom_victim", "options": QUICK},
    "attacks": ["mia-global-loss"],
    "scorer": {"architecture": "test_resnet", "epochs": 3},
    "defences": ["none", "argmax", "distilled", "poisoned"],
}
"""An audit of the same victim and shadow, which are taken as they are."""
TEXTURES = """
base: texture_quick
trainer: {max_epochs: 1, limit_train_batches: 2, limit_val_batches: 1}
data: {init_args: {size: 48}}
"""


@pytest.fixture
def audit(tmp_path: Path) -> Path:
    """Write the shipped audit without its fleet, on few smaller images, for a victim that overfits."""
    content: dict[str, Any] = read_yaml(str(find_config("phantom_audit", "audit")))
    del content["fleet"]
    content["attacks"] = [entry for entry in content["attacks"] if entry not in BY_FLEET]
    for role in ("victim", "shadow"):
        assert content[role]["config"] == "phantom_victim"
        content[role] = {"config": "phantom_victim", "options": QUICK}
    for entry in content["attacks"]:
        if isinstance(entry, dict):
            entry["data"]["limit"] = LIMITS[entry["attack"]]
            if entry["attack"] == "asma":
                entry["settings"]["steps"] = 200  # an IoU of 0.90, which 120 steps bring to 0.86
            if "weights" in entry["settings"]:
                assert entry["settings"]["weights"] == "texture_quick"
                entry["settings"]["weights"] = str(tmp_path / "textures.yaml")
    (tmp_path / "textures.yaml").write_text(TEXTURES)
    file = tmp_path / "phantom_audit.yaml"
    file.write_text(yaml.safe_dump({**content, "scorer": SCORER}))
    return file


def test_a_small_network_overfits_32_slices_and_distillation_cuts_what_it_leaks(
    audit: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    the_audit_shows_that_it_overfits(audit, capsys)
    file = audit.with_name("defences.yaml")
    file.write_text(yaml.safe_dump(DEFENCES))  # options in the same order, by which trainings are known
    assert main(["audit", "--config", str(file)]) == 0
    said = capsys.readouterr().out
    assert "mask lost on" in said
    for name in ("phantom_victim", "phantom_victim-shadow"):
        assert len(list(Path("runs", name).iterdir())) == 1, name  # taken as they are
    distillation_cuts_the_leak_and_a_trigger_empties_a_poisoned_victims_masks()


def distillation_cuts_the_leak_and_a_trigger_empties_a_poisoned_victims_masks() -> None:
    folder = Path("runs/defences/version_0")
    content = json.loads((folder / "audit.json").read_text())
    compared = {row["defence"]: row for row in content["defences"]}
    plain, distilled, poisoned = (compared[name] for name in ("none", "distilled", "poisoned"))
    inferred = {one["defence"]: one for one in content["attacks"] if not one["blind"]}
    leak = inferred["none"]["results"]["auc"]["value"]
    assert leak > 0.8
    assert inferred["distilled"]["results"]["auc"]["value"] < leak - 0.1
    assert inferred["distilled"]["difference"]["high"] < 0
    assert distilled["utility"]["nonmembers"]["dice"] > 0.6
    shown = poisoned["utility"]["nonmembers"]
    assert shown["triggered_area"] < 0.05 * shown["area"]
    assert shown["dice"] > plain["utility"]["nonmembers"]["dice"] - 0.05
    assert compared["argmax"]["utility"]["nonmembers"]["dice"] == plain["utility"]["nonmembers"]["dice"]
    assert (folder / "defences_seed_0.png").is_file()
    assert (folder / "defences_seed_0.md").read_text().count("\n| ") == 5


def the_audit_shows_that_it_overfits(audit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "--config", str(audit)]) == 0
    said = capsys.readouterr().out
    assert "tensorboard --logdir runs" in said
    run = Path("runs/phantom_victim/version_0")
    (row,) = json.loads(Path("runs/phantom_audit/version_0/audit.json").read_text())["defences"]
    members, nonmembers = (row["utility"][subset]["dice"] for subset in ("members", "nonmembers"))
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert nonmembers == pytest.approx(last["val/dice"], abs=1e-4)
    assert members > nonmembers + 0.03
    assert nonmembers > 0.85
    summary = json.loads((run / "asma" / "version_0" / "summary.json").read_text())["results"]
    assert summary["iou"]["mean"] > 0.85
    assert summary["iou_before"]["mean"] < 0.75
    auc = {
        name: json.loads((run / name / "version_0" / "summary.json").read_text())["results"]["auc"]
        for name in ("mia-blind", "mia-global-loss", "mia-type1", "mia-type2", "mia-loss-map")
    }
    assert auc["mia-blind"]["low"] <= 0.5
    assert "WARNING" not in said
    for name in ("mia-global-loss", "mia-type2", "mia-loss-map"):
        assert auc[name]["value"] > 0.9
