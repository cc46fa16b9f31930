"""A promptable network, trained and audited with prompts from its masks."""

import json
from pathlib import Path

import pytest
import yaml

from seg_mia.cli import main
from tests.peers import imported
from tests.tiny_sam import TINY

imported("transformers")

pytestmark = [
    pytest.mark.peers("transformers"),
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning"),
]


@pytest.fixture
def prompted(tiny: Path) -> Path:
    """The small config with a promptable network."""
    content = yaml.safe_load(tiny.read_text())
    arguments = {"settings": TINY, "prompt": "box", "margin": 2}
    network = {"class_path": "seg_mia.models.segment_anything.SegmentAnything", "init_args": arguments}
    content["model"]["init_args"]["network"] = network
    content["data"]["init_args"] |= {"members": 4, "nonmembers": 2}
    tiny.write_text(yaml.safe_dump(content))
    return tiny


def test_a_shadow_with_other_prompts_is_refused_before_anything_is_trained(
    prompted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = {"data.split_seed": 0, "model.network.prompt": "point"}
    audit = {"version": 1, "victim": str(prompted), "shadow": {"config": str(prompted), "options": other}}
    Path("mixed_audit.yaml").write_text(yaml.safe_dump({**audit, "attacks": ["mia-global-loss"]}))
    assert main(["audit", "--config", "mixed_audit.yaml"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "seg_mia: error: victim and shadow must get prompts by the same rule, got the box around the true "
        "mask and 2 pixels more on each side for the victim, and the pixel of the true mask nearest to its "
        "middle for the shadow; state one prompt and margin in both configs"
    )
    assert not list(Path("runs").glob("**/*.ckpt"))


@pytest.mark.slow
def test_a_promptable_network_is_audited_with_one_prompt_for_each_sample(prompted: Path) -> None:
    tiny, limit = prompted, {"limit": 2}
    audit = {
        "version": 1,
        "victim": str(tiny),
        "shadow": {"config": str(tiny), "options": {"data.split_seed": 0}},
        "attacks": [
            {"attack": "mia-blind-statistics"},
            "mia-global-loss",
            {"attack": "pgd", "settings": {"steps": 2}, "data": limit},
            {"attack": "square", "settings": {"queries": 3}, "data": limit},
        ],
        "workers": 1,
    }
    Path("prompted_audit.yaml").write_text(yaml.safe_dump(audit))
    assert main(["audit", "--config", "prompted_audit.yaml"]) == 0
    report = json.loads(Path("runs/prompted_audit/version_0/report.json").read_text())
    knowledge = {row["attack"]: row["knowledge"] for row in report["evidence"]["threats"]}
    prompt = "; the prompt: the box around the true mask and 2 pixels more on each side"
    assert knowledge["pgd"] == f"true mask{prompt}"
    assert knowledge["mia-global-loss"].endswith(prompt)
