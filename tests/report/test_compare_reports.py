"""`compare` of two reports: what became better or worse."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seg_mia.cli import main
from seg_mia.membership.compare import Scored
from seg_mia.membership.intervals import auc_bounds
from seg_mia.report import compare
from seg_mia.report.compare import Change, compare_reports, unpaired_difference
from seg_mia.report.evidence.utility import difference
from seg_mia.report.write import write_report
from tests.report.audits import audit, compared, fool, guess

ROOT = Path("runs")
pytestmark = pytest.mark.usefixtures("undrawn")


def report(
    name: str, scores: dict[str, float], dice: dict[str, float], *attacks: dict[str, Any], **more: Any
) -> str:
    """Write an audit of one membership attack with scores and the Dice of non-members; return its folder."""
    run = f"runs/{name}_victim/version_0"
    one = guess(victim_run=run, folder=f"{run}/mia-type2/version_0", victim=run)
    folders = {"nonmembers": f"{run}/validate/version_0"}
    row = compared(victim=run, utility_folders=folders)
    content = audit([one, *attacks], name=name, defences=[row], **more)
    folder = ROOT / name / "version_0"
    for path in (folder, Path(one["folder"]), Path(folders["nonmembers"])):
        path.mkdir(parents=True)
    lines = [f"{key},{key},{int(key[0] == 'm')},{value}" for key, value in scores.items()]
    Path(one["folder"], "scores.csv").write_text("\n".join(["id,group,member,score", *lines]) + "\n")
    table = [f"{key},{value}" for key, value in dice.items()]
    Path(folders["nonmembers"], "per_image.csv").write_text("\n".join(["id,dice", *table]) + "\n")
    (folder / "audit.json").write_text(json.dumps(content))
    write_report(folder)
    return str(folder)


def sides(rng: np.random.Generator, shift: float, *, prefix: str = "") -> dict[str, float]:
    """Return scores of 100 members and 100 others."""
    noise = rng.normal(size=200)
    names = [f"{side}{prefix}{number}" for side in "mn" for number in range(100)]
    return {name: float(value + shift * (name[0] == "m")) for name, value in zip(names, noise, strict=True)}


def dice_of(rng: np.random.Generator, level: float) -> dict[str, float]:
    return {f"n{number}": float(level + 0.05 * value) for number, value in enumerate(rng.normal(size=100))}


@pytest.fixture
def changes() -> dict[str, Change]:
    """Before and after a defence that lowers leakage and Dice."""
    rng = np.random.default_rng(0)
    first = report("before", sides(rng, 1.5), dice_of(rng, 0.8))
    second = report("after", sides(rng, 0.1), dice_of(rng, 0.7), fool())
    comparison = compare_reports(first, second)
    assert any(line.startswith("only in the second: asma") for line in comparison.notes)
    assert (
        "changed images: Not run: no evidence (V0) -> Evidence of vulnerability (V2)" in comparison.statements
    )
    return {change.subject: change for change in comparison.changes}


def test_less_leakage_is_better_and_less_dice_is_worse(changes: dict[str, Change]) -> None:
    auc, dice = changes["AUC, mia-type2"], changes["Dice, non-members"]
    assert (auc.direction, auc.paired, dice.direction, dice.paired) == ("better", True, "worse", True)
    assert auc.difference is not None
    assert dice.difference is not None
    assert auc.difference.value == pytest.approx(-0.3, abs=0.1)
    assert dice.difference.value == pytest.approx(-0.1, abs=0.02)


def test_other_samples_are_not_paired_and_no_change_is_not_resolvable() -> None:
    rng = np.random.default_rng(1)
    dice = dice_of(rng, 0.8)
    first = report("one", sides(rng, 0.5), dice)
    second = report("two", sides(rng, 0.5, prefix="x"), {f"x{name}": value for name, value in dice.items()})
    auc, quality = compare_reports(first, second).changes
    assert (auc.paired, auc.direction) == (False, "not resolvable")
    assert (quality.paired, quality.difference, quality.direction) == (False, None, "not resolvable")


def test_independent_differences_have_the_joined_interval() -> None:
    rng = np.random.default_rng(2)
    members, names = np.arange(60) < 30, np.char.mod("p%02d", np.arange(60))
    first, second = (
        Scored(names, names, members, rng.normal(size=60) + shift * members) for shift in (1.0, 0.0)
    )
    found = unpaired_difference(first, second, 0.025)
    (low_one, high_one), (low_two, high_two) = (
        auc_bounds(one.scores, members, names, tail=0.025) for one in (first, second)
    )
    ends = found.value + np.hypot((high_one - low_one) / 2, (high_two - low_two) / 2) * np.array([-1, 1])
    assert (found.low, found.high) == pytest.approx(tuple(ends), abs=0.02)


def test_scores_that_are_gone_leave_the_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(3)
    first = report("a", sides(rng, 1.0), dice_of(rng, 0.8))
    second = report("b", sides(rng, 0.0), dice_of(rng, 0.8))
    Path("runs/b_victim/version_0/mia-type2/version_0/scores.csv").unlink()
    assert main(["compare", first, f"{second}/report.json"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("AUC, mia-type2"))
    assert line.split()[-2:] == ["not", "resolvable"]


def test_a_report_is_not_compared_with_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(4)
    first = report("a", sides(rng, 1.0), dice_of(rng, 0.8))
    assert main(["compare", first, "runs/a_victim/version_0/mia-type2/version_0"]) == 2
    assert "holds no report" in capsys.readouterr().err


def test_labels_of_both_reports_are_compared() -> None:
    rng, means = np.random.default_rng(0), {"dice": 0.8, "dice_whole": 0.8, "dice_core": 0.5}
    utility = {"nonmembers": means, "members": means}
    folders = list[str]()
    for name, shift in (("before", 0.0), ("after", 0.2)):
        folders.append(report(name, sides(np.random.default_rng(1), 0.1), dice_of(rng, 0.8)))
        table = Path(f"runs/{name}_victim/version_0/validate/version_0/per_image.csv")
        rows = [f"n{number},0.8,0.8,{0.5 + shift + 0.001 * (number % 7)}" for number in range(98)]
        lacks = [f"n98,0.8,0.8,{'' if shift else 0.9}", "n99,0.8,0.8,"]  # n98 only before
        table.write_text("\n".join(["id,dice,dice_whole,dice_core", *rows, *lacks]) + "\n")
        audited = Path(folders[-1], "audit.json")
        content = json.loads(audited.read_text())
        content["defences"][0]["utility"] = utility
        audited.write_text(json.dumps(content))
        write_report(Path(folders[-1]))
    numbers = json.loads(Path(folders[1], "report.json").read_text())["evidence"]["utility"][0]["labels"]
    assert [label["label"] for label in numbers] == ["whole", "core"]
    assert numbers[1]["nonmembers"]["value"] == pytest.approx(0.7, abs=0.01)
    assert numbers[1]["nonmembers"]["low"] < 0.7 < numbers[1]["nonmembers"]["high"] + 0.01
    assert numbers[1]["members"]["value"] == 0.5  # no table: the stated mean
    page = Path(folders[1], "report.html").read_text()
    assert "Mean Dice of each label, over the samples that show or predict it" in page
    found = {change.subject: change for change in compare_reports(*folders).changes}
    change = found["Dice of core, non-members"]
    assert change.direction == "better"
    assert change.difference is not None
    assert change.difference.value == pytest.approx(0.2)
    assert (change.paired, change.images) == (True, 98)
    assert found["Dice of whole, non-members"].direction == "not resolvable"


def test_only_differences_with_values_share_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, tails = np.random.default_rng(3), list[float]()
    folders = [report(name, sides(rng, 0.5), dice_of(rng, 0.8)) for name in ("a", "b")]
    measured = difference

    def noted(*arguments: Any, tail: float) -> Any:
        tails.append(tail)
        return measured(*arguments, tail=tail)

    monkeypatch.setattr(compare, "difference", noted)
    compare_reports(*folders)
    Path("runs/b_victim/version_0/mia-type2/version_0/scores.csv").unlink()
    compare_reports(*folders)
    assert tails == [pytest.approx(0.0125), pytest.approx(0.025)]
