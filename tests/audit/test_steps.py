"""What an audit will do, and how it says how long that takes."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from seg_mia.audit.attacks import checked, prepared_attacks, shows_shadows
from seg_mia.audit.board import measures
from seg_mia.audit.progress import Progress
from seg_mia.audit.rows import rows
from seg_mia.audit.run import audit
from seg_mia.audit.settings import AttackEntry, Settings, Shadows, Training, VictimRow, read_settings
from seg_mia.audit.stage_cache import StageResult
from seg_mia.audit.steps import AuditStep, steps
from seg_mia.errors import InputError
from seg_mia.results.audit import AuditResult
from tests.report.audits import audit as audited
from tests.report.audits import compared, fool, guess


def listed(**settings: Any) -> list[tuple[str, int, int, str]]:
    audit = Settings(victim="phantom_victim", **settings)
    found = steps(audit, prepared_attacks(audit), rows(audit))
    return [(step.kind, step.round, step.row, step.title) for step in found]


def test_each_training_stands_once_and_controls_are_for_the_first_row() -> None:
    found = listed(
        shadow="phantom_victim",
        attacks=["mia-global-loss"],
        control=True,
        defences=["none", "argmax", "mixup", VictimRow(defence=["mixup"], adaptive=True)],
        seeds=[3, 4],
    )
    first = [told for _, number, _, told in found if number == 0]
    assert first == [
        "victim phantom_victim, seed 3",
        "shadow phantom_victim, seed 3",
        "segmentation quality of none",
        "mia-blind on none",
        "mia-global-loss on none",
        "mia-global-loss on none, negative control",
        "segmentation quality of argmax",
        "mia-global-loss on argmax",
        "victim phantom_victim, mixup, seed 3",
        "segmentation quality of mixup",
        "mia-global-loss on mixup",
        "shadow phantom_victim, mixup, seed 3",
        "segmentation quality of mixup",
        "mia-global-loss on mixup",
    ]
    assert [told.replace("seed 4", "seed 3") for _, number, _, told in found if number == 1] == first


def test_a_row_with_a_config_has_a_shadow_of_that_config_where_the_attacker_knows_it() -> None:
    found = listed(
        shadow="phantom_victim",
        attacks=["mia-global-loss"],
        defences=[VictimRow(config="phantom_dp"), VictimRow(config="phantom_dp", adaptive=True)],
    )
    trained = [told for kind, _, _, told in found if kind in {"victim", "shadow"}]
    assert trained == [
        "victim phantom_dp, seed 0",
        "shadow phantom_victim, seed 0",
        "shadow phantom_dp, seed 0",
    ]


def test_several_shadows_are_trained_one_after_the_other() -> None:
    audit = Settings(
        victim="phantom_victim",
        shadow=Shadows("phantom_shadow", {}, count=2),
        attacks=["mia-calibrated", "mia-global-loss"],
        control=True,
        seeds=[3],
    )
    found = steps(audit, prepared_attacks(audit), rows(audit))
    assert [(step.title, step.shadow) for step in found] == [
        ("victim phantom_victim, seed 3", 0),
        ("shadow phantom_shadow 1 of 2, seed 3", 0),
        ("shadow phantom_shadow 2 of 2, seed 3", 1),
        ("segmentation quality of the victim", 0),
        ("mia-blind", 0),
        ("mia-calibrated", 0),
        ("mia-global-loss", 0),
        ("mia-calibrated, negative control", 0),
        ("mia-global-loss, negative control", 0),
    ]
    alone = Settings(victim="v", shadow="s", attacks=["mia-calibrated"], control=True)
    assert not any(stage.control for stage in prepared_attacks(alone))  # one shadow has none to compare with


def test_auto_encoders_are_trained_once_for_all_seeds() -> None:
    adain = AttackEntry("adain", {"weights": "texture_quick"})
    found = listed(attacks=[adain, "asma"], seeds=[0, 1])
    kinds = [kind for kind, *_ in found]
    assert kinds.count("preparation") == 1
    assert kinds.index("preparation") == kinds.index("attack") - 1


def test_attacks_of_one_name_are_told_apart() -> None:
    audit = Settings(
        victim="phantom_victim",
        attacks=[
            AttackEntry("asma", {"steps": 3}),
            AttackEntry("asma", {"steps": 4}),
            "asma",
            "asma",
            "medis",
        ],
    )
    labels = [stage.label for stage in prepared_attacks(audit)]
    assert labels == ["asma (steps 3)", "asma (steps 4)", "asma", "asma #2", "medis"]


def checking(*attacks: str | AttackEntry, **settings: Any) -> list[int | None]:
    """Return on how many images each attack checks the gradients, None for one without gradients."""
    audit = Settings(victim="phantom_victim", attacks=list(attacks), **settings)
    return [getattr(stage.instance, "sanity_images", None) for stage in prepared_attacks(audit)]


def test_one_attack_checks_the_gradients_of_each_victim() -> None:
    assert checking("asma", "medis") == [4, 0]
    assert checking("square", "fgsm", "pgd", "robustness-curve", "sea") == [None, 0, 0, 4, 0]
    replacing = {"replace": {"torch.nn.ReLU": {"class_path": "seg_mia.models.replacement.Identity"}}}
    both = [AttackEntry(name, replacing) for name in ("pgd", "sea")]
    assert checking("pgd", "apgd", *both) == [0, 0, 0, 4]
    assert checking("apgd", AttackEntry("pgd", replacing)) == [0, 4]
    assert checking("pgd", "fgsm", sanity_images=2) == [2, 0]
    assert checking("pgd", "apgd", sanity_images=0) == [0, 0]
    stated = {name: AttackEntry("pgd", {"sanity_images": images}) for name, images in (("no", 0), ("yes", 8))}
    assert checking(stated["no"], "apgd") == [0, 4]
    assert checking("apgd", stated["yes"]) == [0, 8]
    with pytest.raises(InputError, match=r"sanity_images must be at least 0, got -1"):
        read_settings(["--victim", "phantom_victim", "--attacks", "[asma]", "--sanity_images", "-1"])


def test_how_long_it_takes_is_said_from_what_it_took_before() -> None:
    now, said = [0.0], list[str]()
    all_steps = [
        AuditStep("victim", 0, 0, "victim v"),
        AuditStep("shadow", 0, 0, "shadow s"),
        AuditStep("utility", 0, 0, "u"),
    ]
    progress = Progress(all_steps, {"victim": 600.0, "shadow": 300.0}, said.append, lambda: now[0])
    done = StageResult(Path("runs/v"), {}, [], 400.0, cached=False, command="")
    progress.begin(all_steps[0])
    now[0] = 400.0
    progress.end(all_steps[0], done)
    progress.begin(all_steps[1])
    progress.end(all_steps[1], None)
    progress.begin(all_steps[2])
    progress.end(all_steps[2], StageResult(Path("runs/u"), {}, [], 10.0, cached=True, command=""))
    assert said == [
        "stage 1 of 3: victim v (at least 15 min left)",
        "stage 2 of 3: shadow s (7 min elapsed, at least 5 min left)",
        "  already trained",
        "stage 3 of 3: u (7 min elapsed)",
        "  reused from runs/u: inputs unchanged (10 s)",
    ]


def test_gates_are_given_on_the_command_line_and_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "gated.yaml"
    file.write_text("{victim: phantom_victim, attacks: [asma], fail_on: ['asma.iou>0.9']}")
    words = ["--config", str(file), "--fail-on", "mia.auc>0.6", "--fail-on=utility.dice<0.5"]
    assert read_settings(words).fail_on == ["asma.iou>0.9", "mia.auc>0.6", "utility.dice<0.5"]
    with pytest.raises(InputError, match="--fail-on needs an expression"):
        read_settings([*words, "--fail-on"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seeds=[]"], "seeds must be .* got"),
        (["--seeds=[1, 1]"], "seeds must be .* got"),
        (["--seeds=[-1]"], "seeds must be .* got"),
        (["--name=../x"], "--name"),
        (["--name="], "--name"),
        (["--attacks=[]"], "an audit needs at least one attack"),
    ],
)
def test_what_an_audit_may_not_say(words: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_settings(["--victim", "phantom_victim", "--attacks", "[asma]", *words])


def test_mappings_of_classes_stay_mappings() -> None:
    network = {"class_path": "seg_mia.models.smp.Smp", "init_args": {"encoder": "resnet18", "channels": 1}}
    words = ["--victim", "phantom_victim", "--attacks", "[asma]", "--model", json.dumps({"network": network})]
    found = read_settings(words).model["network"]
    assert (found["class_path"], found["init_args"]["encoder"]) == (network["class_path"], "resnet18")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shadow": "phantom_shadov"}, "no config 'phantom_shadov'"),
        (
            {"shadow": Shadows("phantom_victim", {"data.role": "victim"})},
            "got data.role victim .* leave data.role out",
        ),
        (
            {"victim": Training("phantom_victim", {"data.role": "shadow"}), "shadow": "phantom_victim"},
            "got data.role shadow .*options: {data.role: victim}",
        ),
        (
            {"shadow": Shadows("phantom_victim", {"data.shadow_pool": "victim"}, count=2)},
            "got data.shadow_pool victim; leave it out",
        ),
        ({"shadow": "phantom_victim", "data": {"sizze": 3}}, "sizze"),
        (
            {
                "shadow": "phantom_victim",
                "defences": [
                    "none",
                    VictimRow(config="phantom_dp", options={"model.defences.population": 4}, name="private"),
                ],
            },
            "victim phantom_dp, seed 0: batch_size must be at most the declared population of 4 images",
        ),
        (
            {
                "shadow": "phantom_victim",
                "defences": [VictimRow(defence=["poisoned"], options={"model.defences.size": 999})],
            },
            "victim phantom_victim, poisoned, seed 0: .*999",
        ),
        (
            {"shadow": "phantom_victim", "data": {"reference": 0}, "defences": ["distilled"]},
            "victim phantom_victim, distilled, seed 0: the victim's half has no reference images",
        ),
        ({"shadow": "phantom_victim", "fail_on": ["mia.aucc>0.6"]}, "matches nothing"),
        ({"shadow": "phantom_victim", "fail_on": ["pgd.dice_adversarial<0.6"]}, "matches nothing"),
        ({"shadow": "phantom_victim", "fail_on": ["mia.auc[crop]>0.6"]}, "victims are none"),
        ({"shadow": "phantom_victim", "attacks": [AttackEntry("mia-entropy", {}, {"limitt": 1})]}, "limitt"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_trained(settings: dict[str, Any], message: str) -> None:
    said: dict[str, Any] = {"victim": "phantom_victim", "attacks": ["mia-entropy"]}
    with pytest.raises(InputError, match=message):
        audit(Settings(**(said | settings)), say=pytest.fail)
    assert not Path("runs").exists()


def test_what_a_board_shows_of_a_victim() -> None:
    content = audited(
        [
            guess(label="mia-type2 (signal.released labels)", auc=(0.7, 0.6, 0.8)),
            fool(label="asma"),
            fool("adain", is_targeted=False),
        ],
        defences=[compared()],
    )
    shown = AuditResult.read(content, "audit.json")
    found = measures(shown.defences[0], shown.attacks)
    assert found == {
        "utility/dice_nonmembers": 0.8,
        "utility/dice_members": 0.9,
        "privacy/auc/mia-type2_signal.released_labels": 0.7,
        "privacy/tpr/mia-type2_signal.released_labels": 0.75,
        "robustness/dice/asma": 0.4,
        "robustness/iou/asma": 0.9,
        "robustness/dice/adain": 0.4,
    }


@pytest.mark.parametrize(
    ("name", "shown", "by_control"),
    [
        ("mia-global-loss", True, True),
        ("mia-quantile", False, True),
        ("mia-blind", False, False),
        ("asma", False, False),
    ],
)
def test_some_attacks_show_a_shadow_no_image(name: str, shown: bool, by_control: bool) -> None:
    attack = checked(AttackEntry(name), {}, {})
    assert shows_shadows(attack) == shown
    assert shows_shadows(replace(attack, control=True)) == by_control
