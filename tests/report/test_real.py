import hashlib
import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from seg_mia.checkpoint import load_victim
from seg_mia.cli import main


def count_parameters(checkpoint: Path) -> int:
    """Return the number of trained values of the network in a checkpoint."""
    return sum(parameter.numel() for parameter in load_victim(checkpoint).parameters())


@pytest.mark.usefixtures("undrawn")
def test_an_audit_that_was_run_has_a_report(
    tiny: Path, folder: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder(count=24)
    tiny.write_text(tiny.read_text().replace("members: 4, nonmembers: 2", "members: 6, nonmembers: 6"))
    file = tmp_path / "small_audit.yaml"
    file.write_text(f"""
victim: {tiny}
shadow: {{config: {tiny}, options: {{data.role: shadow}}}}
attacks:
  - mia-global-loss
  - {{attack: asma, settings: {{steps: 2}}}}
control: true
release_context: {{access: api_masks, queried_by: two hospitals}}
scorer: {{architecture: test_resnet, epochs: 1}}
""")
    assert main(["audit", "--config", str(file)]) == 0
    assert main(["report", "runs/small_audit", "--fail-on", "blind.auc<=1"]) == 1
    assert "gate blind.auc<=1: blind.auc is" in capsys.readouterr().out
    own = Path("runs/small_audit/version_0")
    said = json.loads((own / "report.json").read_text())
    schema = json.loads((files("seg_mia.report") / "schema.json").read_text())
    Draft202012Validator(schema).validate(said)
    assert {one["kind"] for one in said["membership"]} == {"membership"}
    assert {(one["blind"], one["control"]) for one in said["membership"]} == {
        (True, False),
        (False, False),
        (False, True),
    }
    assert said["missing"] == []
    assert said["victims"][0]["victim"] == "tiny/version_0"
    evidence = said["evidence"]
    assert evidence["release"]["access"] == "api_masks"
    (network,) = evidence["identity"]["networks"]
    assert (network["records"], network["patients"]) == (6, 6)
    weights = Path("runs") / network["weights"]["path"]
    assert network["weights"]["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert network["weights"]["parameters"] == count_parameters(weights)
    kinds = {file["kind"] for file in evidence["identity"]["files"]}
    assert kinds == {"checkpoint", "scores", "result"}
    assert evidence["utility"][0]["nonmembers"]["low"] is not None
    assert {row["attack"] for row in evidence["threats"]} == {"mia-global-loss", "asma"}
    assert all(row["hours"] > 0 for row in evidence["threats"])
    page = (own / "report.html").read_text()
    assert str(tmp_path) not in page.replace(str(tiny), "")  # commands name the config
    capsys.readouterr()
    assert main(["verify", "runs/small_audit"]) == 0
    with weights.open("ab") as content:
        content.write(b"x")
    assert main(["verify", "runs/small_audit"]) == 1
    assert f"{network['weights']['path']}: CHANGED" in capsys.readouterr().out
