import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from torch import nn

from seg_mia.audit.predictions.settings import read_prediction_settings
from seg_mia.audit.requests import AuditRequests
from seg_mia.audit.rows import row_key, rows
from seg_mia.audit.settings import (
    AttackEntry,
    Settings,
    Shadows,
    Training,
    VictimRow,
    read_settings,
    shadow_count,
)
from seg_mia.audit.steps import AuditStep
from seg_mia.checkpoint import Card
from seg_mia.config.spec import ClassSpec
from seg_mia.defences.release import ArgmaxRelease
from seg_mia.errors import InputError
from seg_mia.experiment.request import RunRequest
from seg_mia.models.bundle import folder
from seg_mia.runs import defence_names
from seg_mia.tasks.segmentation import Segmentation


def said(
    *defences: str | VictimRow, victim: str | Training = "phantom_victim", shadow: str = "s"
) -> Settings:
    return Settings(victim=victim, attacks=[], defences=list(defences), shadow=shadow)


def test_a_name_is_a_defence_a_release_or_none() -> None:
    found = rows(
        said("none", "argmax", "crop", VictimRow(defence=["mixup"], release="rounded", adaptive=True))
    )
    assert [row.label for row in found] == ["none", "argmax", "crop", "mixup + rounded"]
    assert found[1].release == "argmax"
    assert found[1].training_key == found[0].training_key != found[2].training_key
    assert row_key(found[3]) == ("mixup + rounded", True)
    assert rows(said()) == [VictimRow()]


def test_rows_that_say_what_is_not_done_are_refused(tmp_path: Path) -> None:
    run = str(tmp_path)
    for settings, telling in (
        (said("nothing"), "known names are none, adversarial, canaries, crop"),
        (said("crop", "crop"), "must differ"),
        (said(VictimRow(release="argmax", adaptive=True)), "leave out adaptive"),
        (said(VictimRow(config="no_such")), "no_such"),
        (said("crop", victim=run), "already trained"),
        (said("crop", victim=Training(run)), "already trained"),
        (said(VictimRow(options={"model.lr": 1.0}), victim=run), "already trained"),
        (said(VictimRow(defence=["crop"], adaptive=True), shadow=run), "already trained"),
    ):
        with pytest.raises(InputError, match=telling):
            rows(settings)
    assert len(rows(said("none", "argmax", victim=run, shadow=run))) == 2
    assert len(rows(said(VictimRow(config="phantom_dp"), VictimRow(config="phantom_dp", adaptive=True)))) == 2


@pytest.mark.parametrize(
    ("words", "name", "expected"),
    [
        (["--trust", "my_network.SmallUNet"], "trust", ["my_network.SmallUNet"]),
        (["--trust", "a.B", "--trust=c.D"], "trust", ["a.B", "c.D"]),
        (["--trust=[a.B, c.D]"], "trust", ["a.B", "c.D"]),
        (["--attacks", "pgd"], "attacks", ["pgd"]),
        (["--attacks", "pgd", "--attacks", "fgsm"], "attacks", ["pgd", "fgsm"]),
        (["--attacks", "{attack: pgd, settings: {steps: 3}}"], "attacks", [AttackEntry("pgd", {"steps": 3})]),
        (["--attacks=[pgd, fgsm]"], "attacks", ["pgd", "fgsm"]),
        (["--defences", "crop"], "defences", ["crop"]),
        (["--seeds", "3"], "seeds", [3]),
        (["--seeds=3", "--seeds=4"], "seeds", [3, 4]),
        (["--fail_on", "mia.auc>0.6"], "fail_on", ["asma.iou>0.9", "mia.auc>0.6"]),
        (["--fail_on=a.b>1", "--fail-on", "c.d>2"], "fail_on", ["asma.iou>0.9", "a.b>1", "c.d>2"]),
        (["--fail_on=[a.b>1]"], "fail_on", ["a.b>1"]),
    ],
)
def test_a_single_word_is_a_list_of_one(tmp_path: Path, words: list[str], name: str, expected: Any) -> None:
    file = tmp_path / "audit.yaml"
    file.write_text("{victim: phantom_victim, attacks: [asma], fail_on: ['asma.iou>0.9'], trust: [e.F]}")
    assert getattr(read_settings(["--config", str(file), *words]), name) == expected


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--victim={config: v, option: {a: 1}}"], "--victim: a mapping here takes config, options, weights, "
                                                  "bundle, reference_predictions, agreement, got 'option', "
                                                  "did you mean options?"),
        (["--shadow={config: s, count: 0}"], "count must be at least 1"),
        (["--shadow={confg: s}"], "--shadow: .* got 'confg', did you mean config?"),
        (["--attacks=[{attack: pgd, setting: {steps: 3}}]"], "takes attack, settings, data, got 'setting', "
                                                            "did you mean settings?"),
        (["--attacks", "{attack: pgd, xyz: 3}"], "got 'xyz'; correct it"),
        (["--defences", "[none, {defnce: crop}]"], "got 'defnce', did you mean defence?"),
        (["--victim={config: [1, 2]}"], "expected a name or a mapping of config, options, weights"),
        (["--victim=[x"], "expected a name or a mapping"),
        (["--trust", "--fresh=true"], "--trust needs a value"),
        (["--attacks"], "--attacks needs a value"),
        (["--tust=a.B"], "did you mean --trust?"),
        (["--attack=pgd"], "did you mean --attacks?"),
        (["--seeds=x"], "--seeds: expected int, got x"),
    ],
)  # fmt: skip
def test_what_is_misspelt_is_named(words: list[str], line: str) -> None:
    with pytest.raises(InputError, match=line.replace("?", r"\?")):
        read_settings(["--victim", "phantom_victim", "--attacks", "asma", *words])


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("{victim: {config: phantom_victim, option: {a: 1}}, attacks: [pgd]}", "did you mean options"),
        ("{victim: v, attacks: [{attack: pgd, setting: {steps: 3}}]}", "did you mean settings"),
    ],
)
def test_what_a_file_misspells_is_named(tmp_path: Path, text: str, line: str) -> None:
    (tmp_path / "audit.yaml").write_text(text)
    with pytest.raises(InputError, match=line):
        read_settings(["--config", str(tmp_path / "audit.yaml")])


@pytest.mark.filterwarnings("ignore:.*is an instance of `nn.Module`.*")  # a config names it instead
def test_a_release_is_no_part_of_a_training() -> None:
    with pytest.raises(InputError, match="--release NAME"):
        Segmentation(nn.Conv2d(1, 1, 1), defences=[ArgmaxRelease()])


def test_defences_of_a_card_that_holds_anything_are_read() -> None:
    for model in ({}, {"init_args": None}, {"init_args": {"defences": 3}}):
        assert defence_names(Card(cast(ClassSpec, model), 2, 1)) == []
    listed = [{"class_path": "seg_mia.defences.crop.Crop"}, 7]
    assert defence_names(Card(cast(ClassSpec, {"init_args": {"defences": listed}}), 2, 1)) == ["Crop"]


def test_a_count_of_shadows_is_read(tmp_path: Path) -> None:
    file = tmp_path / "audit.yaml"
    file.write_text("{victim: phantom_victim, attacks: [asma], shadow: {config: phantom_shadow, count: 3}}")
    settings = read_settings(["--config", str(file)])
    assert settings.shadow == Shadows("phantom_shadow", count=3)
    assert shadow_count(settings) == 3
    assert shadow_count(replace(settings, shadow="phantom_shadow")) == 1
    assert shadow_count(replace(settings, shadow=None)) == 0
    for number in range(2):
        checkpoint = tmp_path / f"fleet/version_{number}/checkpoints/last.ckpt"
        checkpoint.parent.mkdir(parents=True)
        checkpoint.touch()
    assert shadow_count(replace(settings, shadow=str(tmp_path / "fleet"))) == 2
    for shadow, telling in (
        (f"{{config: {tmp_path / 'fleet'}, count: 2}}", "got 2 where .*fleet is already trained"),
        ("{config: phantom_shadow, count: 2, weights: net.pth}", "got 2 where net.pth is already trained"),
    ):
        with pytest.raises(InputError, match=telling):
            read_settings(["--config", str(file), f"--shadow={shadow}"])


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--release_context", "foo"], "must be one of internal, api_logits, .* got 'foo'"),
        (["--release_context.access", "intern"], "did you mean internal"),
        (["--release_context", "{acces: internal}"], "takes access, queried_by, rate_limit, got 'acces'"),
    ],
)
def test_a_release_that_is_none_is_refused_before_any_training(words: list[str], line: str) -> None:
    for audit in (["--config", "phantom_audit.yaml"], ["--predictions", "table.csv", "--classes", "2"]):
        reader = read_prediction_settings if "--predictions" in audit else read_settings
        with pytest.raises(InputError, match=line):
            reader([*audit, *words])


def bundle_audit(network: dict[str, Any], weights: str, trust: list[str]) -> list[str]:
    """Write a bundle and an audit of it, and return the audit's command line."""
    for part in ("configs", "models"):
        Path("bundle", part).mkdir(parents=True)
    Path("bundle/configs/inference.json").write_text(json.dumps({"network_def": network}))
    Path("bundle/models", weights).touch()
    entry = {"config": "phantom_victim", "bundle": "bundle"}
    audit = {"version": 1, "victim": entry, "shadow": entry, "attacks": ["pgd"], "trust": trust}
    Path("audit.yaml").write_text(yaml.safe_dump(audit))
    return ["--config", "audit.yaml"]


def test_the_folder_of_a_bundle_is_trusted_in_its_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "monai_evaluation", lambda *_: lambda _place: [4, 8])
    network = {"_target_": "UNet", "channels": "$[4 * n for n in (1, 2)]"}
    settings = read_settings(bundle_audit(network, "model.pt", ["bundle/", "own.Network"]))
    assert settings.trust == ["bundle/", "own.Network", "monai.networks.nets.UNet"]
    requests = AuditRequests(settings, [VictimRow()])
    for kind, verb in (("victim", "adopt"), ("shadow", "fit")):
        request = requests.source(AuditStep(kind, 0, 0, ""))  # type: ignore[arg-type]
        assert isinstance(request, RunRequest)
        assert (request.verb, request.trust) == (verb, ("bundle/",))


def test_the_code_of_a_bundle_is_not_trusted_by_its_name() -> None:
    line = r"is a file with code, seg_mia.models.file.TorchScript; if you trust it: --trust seg_mia"
    words = bundle_audit({"_target_": "scripts.Net"}, "model.ts", [])
    with pytest.raises(InputError, match=line):
        read_settings(words)
    trust = "seg_mia.models.file.TorchScript"
    assert read_settings([*words, "--trust", trust]).trust == [trust]
