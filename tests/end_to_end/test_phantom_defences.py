"""On the built-in data a distilled victim leaks clearly less, and a poisoned one loses its mask."""

import json
from pathlib import Path
from typing import Any

import pytest

from seg_mia.cli import main

pytestmark = [pytest.mark.slow(130), pytest.mark.usefixtures("all_cores")]

OPTIONS = {
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
QUICK = {"config": "phantom_victim", "options": OPTIONS}
AUDIT = {
    "victim": QUICK,
    "shadow": QUICK,
    "attacks": ["mia-global-loss"],
    "scorer": {"architecture": "test_resnet", "epochs": 3},
    "defences": ["none", "argmax", "distilled", "poisoned"],
}


@pytest.fixture
def compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    file = tmp_path / "defences.yaml"
    file.write_text(json.dumps(AUDIT))
    assert main(["audit", "--config", str(file)]) == 0
    assert "mask lost on" in capsys.readouterr().out
    rows = json.loads(Path("runs/defences/version_0/audit.json").read_text())["defences"]
    return {row["defence"]: row for row in rows}


def test_distillation_cuts_the_leak_and_a_trigger_empties_a_poisoned_victims_masks(
    compared: dict[str, Any],
) -> None:
    plain, distilled, poisoned = (compared[name] for name in ("none", "distilled", "poisoned"))
    attacks = json.loads(Path("runs/defences/version_0/audit.json").read_text())["attacks"]
    inferred = {one["defence"]: one for one in attacks if not one["blind"]}
    leak = inferred["none"]["results"]["auc"]["value"]
    assert leak > 0.8
    assert inferred["distilled"]["results"]["auc"]["value"] < leak - 0.1
    assert inferred["distilled"]["difference"]["high"] < 0
    assert distilled["utility"]["nonmembers"]["dice"] > 0.6
    shown = poisoned["utility"]["nonmembers"]
    assert shown["triggered_area"] < 0.05 * shown["area"]
    assert shown["dice"] > plain["utility"]["nonmembers"]["dice"] - 0.05
    assert compared["argmax"]["utility"]["nonmembers"]["dice"] == plain["utility"]["nonmembers"]["dice"]
    folder = Path("runs/defences/version_0")
    assert (folder / "defences_seed_0.png").is_file()
    assert (folder / "defences_seed_0.md").read_text().count("\n| ") == 5
