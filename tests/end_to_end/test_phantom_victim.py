"""The built-in data does what real data does: a network that learns it learns its members better."""

import json
from pathlib import Path

import pytest

from seg_mia.cli import main

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("all_cores")]


def test_a_small_network_overfits_64_slices_and_the_audit_shows_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["audit", "--config", "phantom_audit"]) == 0
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
    assert summary["iou_before"]["mean"] < 0.7
    auc = {
        name: json.loads((run / name / "version_0" / "summary.json").read_text())["results"]["auc"]
        for name in ("mia-blind", "mia-global-loss", "mia-type1", "mia-type2", "mia-loss-map")
    }
    assert auc["mia-blind"]["low"] <= 0.5
    assert "WARNING" not in said
    for name in ("mia-global-loss", "mia-type2", "mia-loss-map"):
        assert auc[name]["value"] > 0.9
