"""Audits with membership attacks, through the command line."""

import json
import re
from pathlib import Path

import pytest
import yaml

from seg_mia.cli import main
from tests.trained_runs import Trained

pytestmark = pytest.mark.usefixtures("spares")


@pytest.fixture
def pair(tiny: Path, trained: Trained) -> tuple[Path, Path]:
    return trained(tiny), trained(tiny, "--data.role=shadow", "--seed_everything=1")


def test_an_audit_trains_both_and_begins_with_the_blind_baseline(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "small_audit.yaml"
    file.write_text(f"""
version: 1
victim: {tiny}
shadow: {{config: {tiny}, options: {{data.role: shadow, model.lr: 0.02}}}}
scorer: {{architecture: test_resnet, epochs: 1}}
control: true
attacks: [mia-global-loss, mia-type2, {{attack: asma, settings: {{steps: 2}}}}]
""")
    assert main(["audit", "--config", str(file), "--scorer.batch_size=3"]) == 0
    said = capsys.readouterr().out
    assert "stage 9 of 9: mia-type2, negative control" in said
    (folder,) = Path("runs/small_audit").iterdir()
    assert (folder / "roc_seed_0.png").read_bytes().startswith(b"\x89PNG")
    results = json.loads((folder / "audit.json").read_text())["attacks"]
    names = [
        "mia-blind",
        "mia-global-loss",
        "mia-type2",
        "asma",
        "mia-global-loss-control",
        "mia-type2-control",
    ]
    assert [result["name"] for result in results] == names
    assert results[2]["attack"]["init_args"]["scorer"]["init_args"]["batch_size"] == 3
    assert "attacker knowledge" in said
    assert "image and true mask, without the victim" in said
    shadow = yaml.safe_load(Path("runs/tiny-shadow/version_0/config.yaml").read_text())
    assert (shadow["data"]["init_args"]["role"], shadow["model"]["init_args"]["lr"]) == ("shadow", 0.02)
    assert shadow["seed_everything"] != 0


def test_an_audit_of_checkpoints_over_two_seeds(
    pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "small_audit.yaml"
    file.write_text(f"""
victim: {pair[0]}
shadow: {pair[1]}
scorer: {{architecture: test_resnet, epochs: 1}}
seeds: [0, 1]
attacks: [mia-type2, {{attack: mia-type2, settings: {{signal.released: labels}}}}]
""")
    assert main(["audit", "--config", str(file)]) == 0
    said = capsys.readouterr().out
    assert len(re.findall(r"mia-type2 \(signal.released labels\) +released labels, true mask", said)) == 2
    assert said.count("mia-type2: AUC ") == said.count("mia-type2 (signal.released labels): AUC ") == 1
    assert "over 2 seeds" in said
    assert "over 4 seeds" not in said
    file.write_text(f"{{victim: {{config: {pair[0]}, options: {{model.lr: 1}}}}, attacks: [asma]}}")
    assert main(["audit", "--config", str(file)]) == 2
    assert "is already trained, so options and defences do not apply" in capsys.readouterr().err


def test_an_attacker_who_knows_a_config_trains_its_shadow_by_it(tiny: Path, tmp_path: Path) -> None:
    own = tmp_path / "other.yaml"
    own.write_text(tiny.read_text().replace("lr: 0.01", "lr: 0.03"))
    file = tmp_path / "small_audit.yaml"
    file.write_text(f"""
victim: {tiny}
shadow: {{config: {tiny}, options: {{data.role: shadow}}}}
data: {{members: 3, nonmembers: 3}}
scorer: {{architecture: test_resnet, epochs: 1}}
attacks: [mia-global-loss]
defences: [none, {{config: {own}, name: other}}, {{config: {own}, name: other, adaptive: true}}]
""")
    assert main(["audit", "--config", str(file)]) == 0
    found = {
        run.parent.name: yaml.safe_load((run / "config.yaml").read_text())
        for run in Path("runs").glob("other*/version_0")
    }
    roles = {name: config["data"]["init_args"]["role"] for name, config in found.items()}
    assert roles == {"other": "victim", "other-shadow": "shadow"}
    seeds = {name: config["seed_everything"] for name, config in found.items()}
    assert seeds == {"other": 0, "other-shadow": 10_000}
    assert not list(Path("runs").glob("other*/version_1"))


def test_an_audit_finds_out_first_what_cannot_run(
    tiny: Path, tmp_path: Path, shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = shared / "data" / "weights" / "efficientnet_lite0" / "tf_efficientnet_lite0_timm_keys.pth"
    file = tmp_path / "small_audit.yaml"
    file.write_text(f"{{victim: {tiny}, shadow: {tiny}, attacks: [mia-type2]}}")
    for words, telling in (
        ([f"--scorer.weights={weights}"], "does not fit classifier resnet18"),
        (["--scorer.nothing=1"], "nothing"),
        (["--scorer.epochs=0"], "epochs must be at least 1"),
    ):
        assert main(["audit", "--config", str(file), *words]) == 2
        assert telling in capsys.readouterr().err
    assert not Path("runs").exists()


def test_an_audit_with_membership_needs_a_shadow(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "small_audit.yaml"
    file.write_text(f"{{victim: {tiny}, attacks: [mia-type2]}}")
    assert main(["audit", "--config", str(file)]) == 2
    assert "mia-type2; name one in the audit, `shadow: CONFIG`" in capsys.readouterr().err
    assert not Path("runs").exists()
