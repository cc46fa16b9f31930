"""A gate that nothing can meet is refused before anything is trained; one found out later hides no result."""

from pathlib import Path
from typing import Any

import pytest
import torch

from seg_mia.audit.run import audit
from seg_mia.audit.runner import AuditRunner, GatedDefence
from seg_mia.audit.settings import Settings, Training, VictimRow
from seg_mia.audit.stage_cache import StageCache
from seg_mia.audit.stage_key import may_train_with
from seg_mia.cli import main
from seg_mia.errors import InputError
from seg_mia.experiment.plan import plan
from seg_mia.experiment.request import requested
from seg_mia.runs import checkpoint_file
from tests.trained_runs import Trained

DP, CANARIES = "seg_mia.defences.dp.dpsgd.DPSGD", "seg_mia.defences.canaries.Canaries"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--config", "phantom_victim"], set()),
        (["--config", "phantom_dp"], {"DPSGD"}),
        (["--config=phantom_dp", "--defence", "canaries"], {"DPSGD", "Canaries"}),
        (["--config", "phantom_victim", "--defence", "canaries", "--model.defences.count=8"], {"Canaries"}),
        (["--config", "phantom_victim", "--defence", "mixup"], set()),
        (["--config", "phantom_victim", "--model.defences", f"[{{class_path: {DP}}}]"], {"DPSGD"}),
        (["--config", "phantom_victim", f"--model.defences+={CANARIES}"], {"Canaries"}),
        (["--config", "phantom_victim", "--model.defences=DPSGD"], {"DPSGD", "Canaries"}),  # no whole path
        (["--config", "phantom_victim", "--model.defences=null"], set()),
        (["--config", "phantom_victim", "--model.defences+=my_package.Own"], {"DPSGD", "Canaries"}),
    ],
)
def test_a_config_shows_which_defences_a_training_may_have(words: list[str], named: set[str]) -> None:
    planned = plan(requested(["fit", *words]))
    assert {name for name in ("DPSGD", "Canaries") if may_train_with(planned, name)} == named


def test_a_checkpoint_shows_which_it_had(tiny: Path, trained: Trained) -> None:
    file = checkpoint_file(trained(tiny))

    def had(what: GatedDefence) -> bool:
        settings = Settings(victim=str(file), attacks=["asma"])
        return AuditRunner(settings, [VictimRow()], StageCache(Path("runs"), print)).may_have(what, 0)

    assert not had("DPSGD")
    assert not had("Canaries")
    content = torch.load(file, weights_only=True)
    content["seg_mia"]["privacy"] = {"epsilon": 8.0}
    content["seg_mia"]["model"]["init_args"]["defences"] = [{"class_path": CANARIES, "init_args": {}}]
    torch.save(content, file)
    assert had("DPSGD")
    assert had("Canaries")


CANARY_ROW = VictimRow(defence=["canaries"], options={"model.defences.count": 8})


@pytest.mark.usefixtures("common_cache")  # the phantom is drawn to see which samples there are
@pytest.mark.parametrize(
    ("gate", "settings", "telling"),
    [
        ("epsilon>8", {}, "no victim of none is trained with DPSGD"),
        ("epsilon>8", {"defences": ["none", CANARY_ROW]}, r"none, canaries is trained.*\[none, dp\]"),
        ("epsilon[none]>8", {"defences": ["none", VictimRow(config="phantom_dp")]}, "no victim of none is"),
        ("epsilon.refutations>0", {"defences": ["none", CANARY_ROW]}, r"is trained with DPSGD"),
        ("canaries.auc>0.6", {"defences": ["none", "dp"]}, r"none, dp is trained.*\[none, canaries\]"),
        (
            "canaries.epsilon[dp]>1",
            {"defences": [CANARY_ROW, "dp"]},
            "no victim of dp is trained with Canaries",
        ),
        ("epsilon.proven>1", {}, "matches nothing"),
        ("canaries.tpr>1", {"defences": [CANARY_ROW]}, "matches nothing"),
        ("epsilon.proved>1", {}, "matches nothing"),  # which membership attacks alone do
    ],
)
def test_a_promise_that_nobody_makes_cannot_be_a_gate(
    gate: str, settings: dict[str, Any], telling: str
) -> None:
    said = Settings(victim="phantom_victim", attacks=["asma"], fail_on=[gate], **settings)
    with pytest.raises(InputError, match=telling):
        audit(said, say=pytest.fail)
    assert not Path("runs").exists()


def test_a_gate_on_a_promise_that_is_made_is_taken() -> None:
    rows = [VictimRow(), VictimRow(config="phantom_dp"), VictimRow(defence=["canaries"])]
    rounds = AuditRunner(Settings(Training("phantom_victim"), []), rows, StageCache(Path("runs"), print))
    assert [rounds.may_have("DPSGD", row) for row in range(3)] == [False, True, False]
    assert [rounds.may_have("Canaries", row) for row in range(3)] == [False, False, True]


@pytest.mark.usefixtures("undrawn")
def test_a_gate_that_is_refused_at_the_end_hides_no_result(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "gated.yaml"
    file.write_text(
        f"{{victim: {tiny}, attacks: [{{attack: asma, settings: {{steps: 2, tau: 0.01, keep: last}}}}], "
        "sanity_images: 0}"
    )
    assert main(["audit", "--config", str(file), "--fail-on", "asma.iuo>0.5"]) == 2
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert "audit in runs/gated/version_0" in lines
    assert any(line.startswith("asma ") for line in lines), "the table is printed"
    assert any(line.startswith("none: members on average: not run: no evidence (A0); ") for line in lines), (
        "and the verdicts"
    )
    assert "asma.iuo>0.5' matches nothing in this audit: metrics here are asma.dice_adversarial" in said.err
    assert Path("runs/gated/version_0/report.html").is_file()
    assert main(["audit", "--config", str(file), "--fail-on", "asma.iou>2"]) == 0
