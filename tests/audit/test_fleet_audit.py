"""An audit with a fleet: references of the victim's attackers, and the audit of the recipe."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from seg_mia.cli import main
from seg_mia.experiment.recipe import KEPT

AUDIT = """
version: 1
victim: {victim}
fleet: {{count: 6}}
attacks: [mia-global-loss, mia-base]
shadow: {victim}
"""


@pytest.fixture
def victim(tiny: Path, folder: Callable[..., Path]) -> Path:
    """A training on 6 of 24 samples, with a half for the shadow."""
    folder(count=24)
    tiny.write_text(tiny.read_text().replace("members: 4, nonmembers: 2", "members: 6, nonmembers: 6"))
    return tiny


@pytest.mark.usefixtures("undrawn")
def test_the_recipe_is_judged_apart_from_the_victim(victim: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("fleet_audit.yaml").write_text(AUDIT.format(victim=victim).replace("[mia-global-loss, ", "["))
    words = ["audit", "--config", "fleet_audit.yaml", "--shadow", "null", "--workers", "1"]
    assert main([*words, "--fail-on", "recipe.auc>0.01"]) == 1
    folder = Path("runs/fleet_audit/version_0")
    content = json.loads((folder / "audit.json").read_text())
    assert [stage["kind"] for stage in content["stages"]].count("network") == 6
    (attack,) = content["attacks"]
    assert (attack["name"], len(attack["shadows"])) == ("mia-base", 6)
    (recipe,) = content["recipes"]
    assert (recipe["name"], recipe["networks"], recipe["patients"]) == ("mia-base", 6, 12)
    assert recipe["members"] == recipe["nonmembers"] == 36
    assert recipe["references"] == 4  # neither the target nor its complement
    untrained = recipe["controls"]["untrained"]
    assert untrained["low"] <= untrained["value"] <= untrained["high"]
    runs = [Path(stage["folder"]) for stage in content["stages"] if stage["kind"] == "network"]
    kept = {run: sorted((run / "signals").iterdir()) for run in runs}
    assert all(len(files) == 2 * len(KEPT) for files in kept.values())  # trained, and before the first step
    report = json.loads((folder / "report.json").read_text())
    assert report["verdicts"][0]["recipe"] is not None
    (place,) = report["names_in"]
    assert (Path("runs") / place).resolve() == Path(content["victims"][0]).resolve()
    listed = (Path("runs") / place / "identities.csv").read_text()
    assert all(patient["id"] in listed for patient in recipe["risk"]["exposed"])
    assert not list(folder.parent.glob("identities*"))
    assert (folder / "recipe_0" / "recipe_roc.png").is_file()
    assert "This recipe" in (folder / "report.html").read_text()
    capsys.readouterr()
    assert main(words) == 0
    assert capsys.readouterr().out.count("reused from") == 9  # victim, fleet, validations, attack
    assert {run: sorted((run / "signals").iterdir()) for run in runs} == kept


@pytest.mark.parametrize(
    ("words", "telling"),
    [
        (["--fleet", "{count: 4}"], "6 networks or more, got count 4"),
        (["--fleet", "{size: 8}"], "size"),
        (["--victim", "runs/x"], "already"),
        (["--shadow", "null"], "no shadow model for mia-global-loss"),
    ],
)
def test_invalid_fleets_are_one_line(
    victim: Path, words: list[str], telling: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("runs/x").mkdir(parents=True)
    Path("fleet_audit.yaml").write_text(AUDIT.format(victim=victim))
    assert main(["audit", "--config", "fleet_audit.yaml", *words]) == 2
    error = capsys.readouterr().err
    assert telling in error
    assert error.count("\n") == 1
