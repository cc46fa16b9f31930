"""Attacks by many shadows that are trained on half of the judged samples each, through the command line."""

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from seg_mia.cli import main
from tests.trained_runs import Trained

ATTACK = """\
class_path: seg_mia.membership.base.Membership
init_args:
  signal: {{class_path: seg_mia.membership.fleet.confidences.{signal}}}
  scorer: {{class_path: seg_mia.membership.fleet.scorers.{scorer}}}
"""


@pytest.fixture
def fleet(spares: None, tiny: Path, trained: Trained) -> list[Path]:  # noqa: ARG001
    """A victim, and two pairs of shadows that share its members and non-members."""
    victim = trained(tiny)
    shared = ["--data.role=shadow", "--data.shadow_pool=victim"]
    words = [[*shared, f"--data.shadow={number}", f"--seed_everything={number + 1}"] for number in range(4)]
    return [victim, *(trained(tiny, *each) for each in words)]


@pytest.mark.parametrize(
    ("signal", "scorer"),
    [
        ("LogCrossEntropy", "Lira, init_args: {mode: offline}"),
        ("CrossEntropy", "Rmia"),
    ],
)
def test_the_victim_is_compared_with_its_shadows(
    fleet: list[Path], signal: str, scorer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine.yaml").write_text(ATTACK.format(signal=signal, scorer=scorer))
    both = [word for shadow in fleet[1:] for word in ("--shadow", str(shadow))]
    assert main(["test", "--attack", "mine.yaml", "--victim", str(fleet[0]), *both]) == 0
    assert "true mask; offline attacker), 4 shadows, 6 members, 6 non-members: AUC" in capsys.readouterr().out
    folder = fleet[0] / "mine" / "version_0"
    summary = json.loads((folder / "summary.json").read_text())
    assert 0 <= summary["results"]["auc"]["value"] <= 1
    assert summary["attacker_knowledge"] == "released probabilities, true mask"
    with (folder / "scores.csv").open() as lines:
        assert [row["member"] for row in csv.DictReader(lines)] == ["1"] * 6 + ["0"] * 6


def test_lira_needs_only_its_name(fleet: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    both = [word for shadow in fleet[1:] for word in ("--shadow", str(shadow))]
    assert main(["test", "--attack", "mia-lira", "--victim", str(fleet[0]), *both]) == 0
    assert "true mask; online attacker), 4 shadows, 6 members, 6 non-members: AUC" in capsys.readouterr().out
    summary = json.loads((fleet[0] / "mia-lira" / "version_0" / "summary.json").read_text())
    assert summary["attacker_knowledge"] == "released probabilities, true mask"
    assert summary["sampling"] == "online"


def test_a_second_attack_reads_references_for_their_weights_alone(
    fleet: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [shadow / "checkpoints" / "last.ckpt" for shadow in fleet[1:]]
    for file in files:
        os.utime(file, (0, 0))  # not written just now
    reads, load = list[Path](), torch.load

    def counted(path: Path, **how: Any) -> Any:
        reads.append(path)
        return load(path, **how)

    monkeypatch.setattr(torch, "load", counted)
    words = ["test", "--victim", str(fleet[0]), *(f"--shadow={shadow}" for shadow in fleet[1:])]
    assert main([*words, "--attack", "mia-lira"]) == 0
    assert [reads.count(file) for file in files] == [2, 2, 2, 2]
    assert main([*words, "--attack", "mia-rank"]) == 0
    assert [reads.count(file) for file in files] == [3, 3, 3, 3]


def test_too_few_shadows_are_one_line(fleet: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_text(ATTACK.format(signal="LogCrossEntropy", scorer="Lira"))
    few = [word for shadow in fleet[1:3] for word in ("--shadow", str(shadow))]
    assert main(["test", "--attack", "mine.yaml", "--victim", str(fleet[0]), *few]) == 2
    assert "each target sample needs at least 2 shadows not trained on it" in capsys.readouterr().err


def test_quantile_regression_learns_from_the_shadows_samples(
    tiny: Path, folder: Callable[..., Path], trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    folder(count=430)
    tiny.write_text(tiny.read_text().replace("batch_size: 2", "batch_size: 25"))
    victim = trained(tiny, "--data.members=6", "--data.nonmembers=6")
    words = ["--data.role=shadow", "--data.members=150", "--seed_everything=1"]
    few, enough = (trained(tiny, *words, f"--data.nonmembers={number}") for number in (49, 60))
    command = ["test", "--attack", "mia-quantile", "--victim", str(victim), "--shadow"]
    assert main([*command, str(few)]) == 2
    assert "known non-members, got 199" in capsys.readouterr().err
    assert main([*command, str(enough)]) == 0
    printed = capsys.readouterr()
    assert "6 members, 6 non-members: AUC" in printed.out
    assert "on 210 held-out non-members" in printed.out
    (file,) = victim.glob("**/mia-quantile/*/summary.json")
    fit = json.loads(file.read_text())["regression"]
    assert fit["nonmembers"] == 210
    assert fit["nominal_fpr"] == 0.1
    assert 0 <= fit["achieved_fpr"] <= 1
    # A control queries the shadow, which was trained on 150 of its 210 samples.
    assert main([*command, str(enough), "--control"]) == 2
    assert "known non-members, got 60" in capsys.readouterr().err
