"""Membership attacks through the command line."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from seg_mia.cli import main
from seg_mia.config.files import known
from seg_mia.errors import InputError
from seg_mia.experiment.attack_classes import is_membership
from seg_mia.experiment.plan import plan
from seg_mia.experiment.request import requested
from tests.trained_runs import Trained

pytestmark = pytest.mark.usefixtures("spares")

MANY = ["mia-lira", "mia-quantile"]
"""Attacks by several shadows or many non-members, see test_fleet_attacks.py."""
WITHOUT_SHADOW = "mia-blind-statistics"
ATTACKS = [
    name for name in known("attack") if name.startswith("mia-") and name not in {*MANY, WITHOUT_SHADOW}
]
NUMBERS = [
    "mia-base", "mia-calibrated", "mia-dice", "mia-entropy", "mia-global-loss", "mia-rank", "mia-rmia",
]  # fmt: skip
DRAWN = {"mia-dice", "mia-type2"}
"""Attacks whose figures are drawn: one of each kind, as figures do not depend on the attack."""
SMALL = [
    "--attack.scorer.architecture=test_resnet",
    "--attack.scorer.epochs=1",
    "--trainer.enable_progress_bar=false",
]


@pytest.fixture(autouse=True)
def figures(request: pytest.FixtureRequest) -> None:
    """Leave figures blank, but for the attacks in `DRAWN`."""
    callspec = getattr(request.node, "callspec", None)
    if callspec is None or callspec.params.get("name") not in DRAWN:
        request.getfixturevalue("undrawn")


@pytest.fixture
def victim(spares: None, tiny: Path, trained: Trained) -> Path:  # noqa: ARG001
    return trained(tiny)


@pytest.fixture
def pair(victim: Path, tiny: Path, trained: Trained) -> tuple[Path, Path]:
    return victim, trained(tiny, "--data.role=shadow", "--seed_everything=1")


def rows(file: Path) -> list[dict[str, str]]:
    with file.open() as lines:
        return list(csv.DictReader(lines))


@pytest.mark.parametrize("name", ATTACKS)
def test_every_membership_attack_needs_only_its_name(
    name: str, pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    own = [] if name in NUMBERS else SMALL
    assert main(["test", "--attack", name, *own]) == 0
    said = capsys.readouterr().out
    victim, shadow = pair
    assert f"victim: {victim}" in said
    assert f"shadow: {shadow}" in said
    assert f"{name} (attacker knowledge: " in said
    assert "6 members, 6 non-members: AUC" in said
    folder = victim / name / "version_0"
    expected = {"scores.csv", "summary.json", "roc.png", "histogram.png", "exposed.png", "config.yaml"}
    assert expected | ({"metrics.jsonl"} if own else set()) <= {file.name for file in folder.iterdir()}
    table = rows(folder / "scores.csv")
    assert [row["member"] for row in table] == ["1"] * 6 + ["0"] * 6
    assert len({row["id"] for row in table}) == 12
    summary = json.loads((folder / "summary.json").read_text())
    for key in ("auc", "accuracy", "balanced_accuracy", "f1", "tpr_at_fpr_0.1", "tpr_at_fpr_0.001"):
        value = summary["results"][key]
        assert 0 <= value["low"] <= value["value"] <= value["high"] <= 1
    assert summary["results"]["tpr_at_fpr_0.1"]["resolvable"] is False
    assert sum(summary["results"]["confusion"].values()) == 12
    events = EventAccumulator(str(folder)).Reload()
    assert {"membership/roc", "membership/histogram", "membership/most_exposed_members"} <= set(
        events.Tags()["images"]
    )
    assert "membership/auc" in events.Tags()["scalars"]
    assert ("val/auc" in events.Tags()["scalars"]) == bool(own)


def test_a_blind_baseline_needs_no_shadow(victim: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", "--attack", WITHOUT_SHADOW]) == 0
    said = capsys.readouterr().out
    assert "shadow:" not in said
    summary = json.loads((victim / WITHOUT_SHADOW / "version_0" / "summary.json").read_text())
    assert 0 <= summary["results"]["auc"]["value"] <= 1
    assert len(rows(victim / WITHOUT_SHADOW / "version_0" / "scores.csv")) == 12


def test_options_reach_signal_and_scorer(pair: tuple[Path, Path]) -> None:
    more = ["--attack.scorer.seeds=2", "--attack.scorer.last_epochs=1", "--attack.signal.released=labels"]
    assert main(["test", "--attack", "mia-type1", *SMALL, *more]) == 0
    folder = pair[0] / "mia-type1" / "version_0"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["attacker_knowledge"] == "released labels"
    assert len(summary["seeds"]["auc"]["values"]) == 2
    assert summary["published_mean_of_last_epochs"]["epochs"] == 1
    assert (folder / "seed_1" / "metrics.jsonl").is_file()
    assert {"score_seed0", "score_seed1"} <= set(rows(folder / "scores.csv")[0])
    settings = yaml.safe_load((folder / "config.yaml").read_text())["attack"]["init_args"]
    assert settings["signal"]["init_args"] == {"released": "labels", "entropy": True}
    assert settings["scorer"]["init_args"]["seeds"] == 2


def test_the_command_line_overrules_a_control_in_yaml(pair: tuple[Path, Path]) -> None:
    Path("mine.yaml").write_text("control: true")
    for word in ("--control=false", "--control"):
        assert main(["test", "--attack", "mia-global-loss", "--config", "mine.yaml", word]) == 0
    assert (pair[0] / "mia-global-loss/version_0").is_dir()
    assert (pair[0] / "mia-global-loss-control/version_0").is_dir()


def test_the_control_has_a_folder_of_its_own(
    pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["test", "--attack", "mia-global-loss", "--control"]) == 0
    assert "negative control" in capsys.readouterr().out
    summary = json.loads((pair[0] / "mia-global-loss-control/version_0/summary.json").read_text())
    assert summary["control"] is True


def test_the_same_run_twice_gives_the_same_scores(pair: tuple[Path, Path]) -> None:
    for _ in range(2):
        assert main(["test", "--attack", "mia-type2", *SMALL]) == 0
    first, again = (pair[0] / f"mia-type2/version_{number}/scores.csv" for number in range(2))
    assert first.read_text() == again.read_text()


def test_limit_is_for_each_part_of_the_victims(pair: tuple[Path, Path]) -> None:
    for words in (["--data.limit=2"], []):
        assert main(["test", "--attack", "mia-global-loss", *words]) == 0
    table = rows(pair[0] / "mia-global-loss/version_0/scores.csv")
    assert [row["member"] for row in table] == ["1", "1", "0", "0"]
    first, limited = (
        json.loads((pair[0] / f"mia-global-loss/version_{number}/summary.json").read_text())
        for number in (1, 0)
    )
    assert limited["data"]["limit"] == 2
    assert limited["results"]["threshold"] == first["results"]["threshold"]


class TestPairing:
    def test_without_a_shadow_the_command_is_told(
        self, victim: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["test", "--attack", "mia-type2"]) == 2
        said = capsys.readouterr().err
        assert f"no shadow under runs/ matches victim {victim}" in said
        command = said.partition("`python -m seg_mia ")[2].partition("`")[0].split()
        assert main(command) == 0
        assert main(["test", "--attack", "mia-global-loss"]) == 0
        assert "shadow: runs/tiny-shadow/version_0" in capsys.readouterr().out

    def test_the_newest_that_fit_together(
        self, pair: tuple[Path, Path], tiny: Path, trained: Trained
    ) -> None:
        trained(tiny, "--data.split_seed=3")
        found = plan(requested(["test", "--attack", "mia-type2"]))
        assert found.checkpoint is not None
        (shadow,) = found.shadows
        assert (found.checkpoint.parents[1], shadow.file.parents[1]) == pair

    def test_a_shadow_without_its_victim(
        self, pair: tuple[Path, Path], tiny: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        other = ["--data.split_seed=3", "--data.role=shadow"]
        assert main(["fit", "--config", str(tiny), *other]) == 0
        lone = "runs/tiny/version_2"
        assert main(["test", "--attack", "mia-type2", "--shadow", lone]) == 2
        assert f"no victim under runs/ matches shadow {lone}" in capsys.readouterr().err
        assert main(["test", "--attack", "mia-global-loss", "--victim", str(pair[0]), "--shadow", lone]) == 2
        assert "the halves of shadow and victim must be disjoint" in capsys.readouterr().err

    def test_the_victim_as_its_own_shadow(
        self, pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        both = ["--victim", str(pair[0]), "--shadow", str(pair[0])]
        assert main(["test", "--attack", "mia-global-loss", *both]) == 2
        assert "got the same weights" in capsys.readouterr().err

    def test_without_its_split_nobody_knows_the_members(
        self, pair: tuple[Path, Path], tiny: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for number, role in enumerate(("victim", "shadow")):
            assert main(["export", str(pair[number]), f"{role}.ckpt"]) == 0
        assert main(["test", "--attack", "mia-global-loss", "--shadow=shadow.ckpt"]) == 2
        assert "no victim under runs/ matches shadow" in capsys.readouterr().err
        assert main(["test", "--attack", "mia-type1", "--shadow=shadow.ckpt", f"--victim={pair[0]}"]) == 2
        assert "exported without its split, so its members are unknown" in capsys.readouterr().err
        assert main(["test", "--attack", "mia-type1", "--victim=victim.ckpt", "--config", str(tiny)]) == 2
        assert "exported without its split, so its members are unknown" in capsys.readouterr().err
        both = ["--victim=victim.ckpt", f"--shadow={pair[1]}", "--config", str(tiny)]
        assert main(["test", "--attack", "mia-global-loss", *both]) == 2
        assert "so its members are unknown" in capsys.readouterr().err

    def test_an_attack_on_one_shadow_takes_one(
        self, pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert all(run.parent == Path("runs/tiny") for run in pair)
        assert main(["test", "--attack", "mia-global-loss", "--shadow=runs/tiny"]) == 2
        assert "takes at most 1 shadow, got 2; name fewer with --shadow" in capsys.readouterr().err

    def test_a_shadow_of_another_data_set(
        self, pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        short = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=1", "--trainer.limit_val_batches=1"]
        small = [
            "--data.size=32",
            "--data.members=4",
            "--data.nonmembers=4",
            "--trainer.enable_progress_bar=false",
        ]
        assert main(["fit", "--config", "phantom_victim", "--role", "shadow", *short, *small]) == 0
        both = [f"--victim={pair[0]}", "--shadow=runs/phantom_victim-shadow/version_0"]
        assert main(["test", "--attack", "mia-global-loss", *both]) == 2
        assert "was trained on other data" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("change", "telling"),
        [
            (
                {"data": {"class_path": "seg_mia.models.smp.Smp", "init_args": {}}},
                "names Smp instead of data",
            ),
            (
                {"data": {"class_path": "seg_mia.data.base.SegmentationData", "init_args": {}}},
                "does not describe its data",
            ),
            ({"split": {"role": ["shadow"]}}, "the shadow's training"),
        ],
    )
    def test_a_forged_shadow(
        self,
        change: dict[str, Any],
        telling: str,
        pair: tuple[Path, Path],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        file = pair[1] / "checkpoints" / "last.ckpt"
        content = torch.load(file, weights_only=True)
        content["seg_mia"] |= change
        torch.save(content, file)
        both = [f"--victim={pair[0]}", f"--shadow={pair[1]}"]
        assert main(["test", "--attack", "mia-global-loss", *both]) == 2
        assert telling in capsys.readouterr().err
        assert main(["test", "--attack", "mia-global-loss"]) == 2

    @pytest.mark.usefixtures("victim")
    def test_the_same_seed_is_told(
        self, tiny: Path, trained: Trained, capsys: pytest.CaptureFixture[str]
    ) -> None:
        trained(tiny, "--data.role=shadow")
        assert main(["test", "--attack", "mia-global-loss"]) == 0
        assert "the same weights" in capsys.readouterr().out

    def test_other_settings_of_the_network_are_other_answers(self, pair: tuple[Path, Path]) -> None:
        for words in ([], ["--model.network.normalise=none"], []):
            assert main(["test", "--attack", "mia-global-loss", *words]) == 0
        tables = [(pair[0] / f"mia-global-loss/version_{n}/scores.csv").read_text() for n in range(3)]
        assert tables[0] == tables[2] != tables[1]

    def test_a_shadow_of_changed_data(
        self, pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        root = Path(yaml.safe_load((pair[0] / "config.yaml").read_text())["data"]["init_args"]["root"])
        next((root / "images").iterdir()).rename(root / "images" / "other.png")
        next(
            file for file in (root / "masks").iterdir() if not (root / "images" / file.name).exists()
        ).rename(root / "masks" / "other.png")
        assert main(["test", "--attack", "mia-global-loss"]) == 2
        assert "the data must be that of the victim's training" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "telling"),
    [
        (
            ["--attack", "asma", "--shadow", "runs/tiny/version_1"],
            "--shadow applies only to membership attacks",
        ),
        (["--attack", "asma", "--control"], "--control applies only to membership attacks"),
        (["--attack", "mia-type1", "--trainer.max_epochs=3"], "--attack.scorer.epochs"),
        (["--attack", "mia-type1", "--data.subset=members"], "leave out --data.subset"),
        (["--attack", "mia-type1", "--save_images=true"], "--save_images"),
        (
            [
                "--attack",
                "mia-blind",
                *SMALL,
                "--attack.scorer.batch_size=2",
                "--trainer.limit_test_batches=0.5",
            ],
            "use --data.limit to attack fewer",
        ),
        (["--attack", "mia-type1", *SMALL, "--trainer.limit_train_batches=0"], "got 0 steps"),
        (["--attack", "mia-type1", *SMALL, "--attack.scorer.batch_size=1"], "batch_size must be at least 2"),
        (["--attack", "mia-type1", "--attack.scorer.epochs=0"], "epochs must be at least 1, got 0"),
        (["--attack", "mia-type1", "--attack.scorer.validation=1"], "validation must lie between 0 and 1"),
        (
            ["--attack", "mia-type1", "--attack.scorer.patch=64"],
            "patch must fit into the maps of 32x32, got 64",
        ),
        (["--attack", "mia-type1", "--attack.scorer.architecture=resnet3"], "resnet3"),
        (["--attack", "mia-type1", "--attack.signal.released=maps"], "maps"),
        (["--attack", "mia-type1", "--attack.scorer.weights=none.pth"], "none.pth"),
        (["--attack", "mia-type1", "--shadow", "nowhere"], "shadow 'nowhere' is neither a file nor a folder"),
    ],
)
def test_bad_settings_are_one_line(
    words: list[str], telling: str, pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert pair
    assert main(["test", *words]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("seg_mia: error: ")
    assert telling in said


def test_fit_takes_no_shadow(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--config", str(tiny), "--shadow", "x"]) == 2
    assert "--shadow does not apply to fit" in capsys.readouterr().err


def test_a_class_path_is_told_apart_from_an_image_attack() -> None:
    assert is_membership("seg_mia.membership.base.Membership")
    assert not is_membership("seg_mia.attacks.asma.Asma")
    with pytest.raises(InputError, match="names 'nowhere.Attack'"):
        is_membership("nowhere.Attack")
