"""Shadows that are trained on half of the judged samples each, through the command line."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from seg_mia.cli import main
from tests.trained_runs import Trained


def table_of(file: Path) -> list[dict[str, str]]:
    with file.open() as lines:
        return list(csv.DictReader(lines))


@pytest.fixture
def fleet(tiny: Path, folder: Callable[..., Path], trained: Trained) -> list[Path]:
    """A victim, and two shadows that share its members and non-members."""
    folder(count=24)
    tiny.write_text(tiny.read_text().replace("members: 4, nonmembers: 2", "members: 6, nonmembers: 6"))
    victim = trained(tiny)
    shared = ["--data.role=shadow", "--data.shadow_pool=victim"]
    words = [[*shared, f"--data.shadow={number}", f"--seed_everything={number + 1}"] for number in range(2)]
    return [victim, *(trained(tiny, *each) for each in words)]


def test_calibration_finds_them_and_others_do_not(
    fleet: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["test", "--attack", "mia-calibrated"]) == 0
    shown = capsys.readouterr().out
    assert f"victim: {fleet[0]}/" in shown
    assert all(f"shadow: {shadow}/" in shown for shadow in fleet[1:])
    assert "2 shadows, 6 members, 6 non-members: AUC" in shown
    summary = json.loads((fleet[0] / "mia-calibrated/version_0/summary.json").read_text())
    assert [Path(file).parents[1] for file in summary["shadows"]] == fleet[:0:-1]
    table = table_of(fleet[0] / "mia-calibrated/version_0/scores.csv")
    assert [row["member"] for row in table] == ["1"] * 6 + ["0"] * 6

    assert main(["test", "--attack", "mia-global-loss"]) == 2
    assert "no shadow under runs/ matches victim" in capsys.readouterr().err
    named = ["--victim", str(fleet[0]), "--shadow", str(fleet[1])]
    assert main(["test", "--attack", "mia-global-loss", *named]) == 2
    assert "the halves of shadow and victim must be disjoint" in capsys.readouterr().err


def test_a_folder_of_runs_and_several_names_are_the_same(fleet: list[Path]) -> None:
    fleet[0].rename("victim")
    both = [word for shadow in fleet[1:] for word in ("--shadow", str(shadow))]
    for words in (both, ["--shadow=runs/tiny"]):
        assert main(["test", "--attack", "mia-calibrated", "--victim=victim", *words]) == 0
    first, again = (table_of(Path(f"victim/mia-calibrated/version_{n}/scores.csv")) for n in range(2))
    assert first == again
    loss = ["--attack.signal=seg_mia.membership.signals.ImageLoss", "--attack.signal.loss=cross_entropy"]
    assert main(["test", "--attack", "mia-calibrated", "--victim=victim", "--shadow=runs/tiny", *loss]) == 0
    kinds = [
        json.loads(Path(f"victim/mia-calibrated/version_{n}/summary.json").read_text())["attack"]["init_args"]
        for n in (1, 2)
    ]
    names = [kind["signal"]["class_path"].rpartition(".")[2] for kind in kinds]
    assert names == ["LogCrossEntropy", "ImageLoss"]
    assert table_of(Path("victim/mia-calibrated/version_2/scores.csv")) != first


def test_each_sample_needs_a_shadow_without_it(fleet: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", "--attack", "mia-calibrated", "--shadow", str(fleet[1])]) == 2
    assert "at least 1 shadows not trained on it, 6 of 12 have fewer among 1" in capsys.readouterr().err
    assert main(["test", "--attack", "mia-calibrated", "--control"]) == 2
    assert "--control needs a shadow trained without the victim's samples" in capsys.readouterr().err
