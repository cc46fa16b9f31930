"""An audit with a curve over radii, a universal change, transfer from its own networks, and queries."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from seg_mia.cli import main
from seg_mia.results.dice_curve import dice_curve

AUDIT = """
version: 1
victim: {victim}
shadow: {{config: {victim}, count: 2}}
attacks:
  - attack: robustness-curve
    settings: {{radii: [4, 16, 64], steps: 4, sanity_images: 2}}
  - attack: universal
    settings: {{epochs: 2, epsilon: 0.1, others: shadow}}
  - attack: transfer
    settings: {{steps: 3, surrogate: shadow}}
  - attack: square
    settings: {{queries: 4, epsilon: 0.0627451}}
"""
BOTH = "{surrogate: shadow, others: fleet}"


@pytest.fixture
def victim(tiny: Path, folder: Callable[..., Path]) -> Path:
    """A training on 6 of 24 samples, with a half for the shadow."""
    folder(count=24)
    tiny.write_text(tiny.read_text().replace("members: 4, nonmembers: 2", "members: 6, nonmembers: 6"))
    return tiny


@pytest.mark.usefixtures("undrawn")
def test_an_audit_builds_the_curve_and_the_attacks_that_are_fitted_or_see_other_networks(
    victim: Path,
) -> None:
    Path("robust_audit.yaml").write_text(AUDIT.format(victim=victim))
    assert main(["audit", "--config", "robust_audit.yaml", "--workers", "1"]) == 0
    folder = Path("runs/robust_audit/version_0")
    report = json.loads((folder / "report.json").read_text())
    curve, universal, transfer, square = report["perturbations"]
    audited = json.loads((folder / "audit.json").read_text())["attacks"]
    where = [Path(entry["folder"]) for entry in audited if entry["kind"] == "perturbation"]

    with (where[0] / "per_image.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = ["dice_clean", "dice.at_4", "dice.at_16", "dice.at_64"]
    dice = np.array([[float(row[name]) for name in names] for row in rows])
    assert (np.diff(dice) <= 0).all()
    points = curve["curve"]["points"]
    assert [point["radius"] for point in points] == [0, 4, 16, 64]
    assert [point["dice"] for point in points] == pytest.approx(dice.mean(0).tolist(), abs=1e-6)
    assert points[-1]["dice"] == pytest.approx(curve["results"]["dice_adversarial"]["mean"], abs=1e-6)
    assert [point["fooled"] for point in points[1:]] == [
        pytest.approx((column <= dice[:, 0] / 2).mean()) for column in dice[:, 1:].T
    ]
    assert curve["sanity"]["images"] == 2
    for name in ("curve.png", "minimal_norms.png", "panel.png"):
        with Image.open(where[0] / name) as picture:
            picture.verify()
    assert len((where[0] / "curve.csv").read_text().splitlines()) == 5

    # Patients that the change was fitted to are not those it is evaluated on, and together all of them.
    with (where[1] / "per_image.csv").open() as file:
        evaluated = {row["id"] for row in csv.DictReader(file)}
    everyone = {row["id"] for row in rows}
    assert universal["fitted"]["images"] + universal["images"] == len(everyone) == 6
    assert evaluated < everyone
    with (where[1] / "per_image.csv").open() as file:
        shown = list(csv.DictReader(file))
    assert len(universal["others"]) == 2
    for number, other in enumerate(universal["others"], 1):
        assert other["victim"].endswith(f"version_{number - 1}") or "shadow" in other["victim"]
        for name, key in (("before", "dice_clean"), ("after", "dice")):
            dice_there = [float(row[f"other{number}.{key}"]) for row in shown]
            assert other[name] == pytest.approx(np.mean(dice_there), abs=1e-6)
    assert np.abs(np.load(where[1] / "universal.npy")).max() <= 0.1

    assert len(transfer["attack"]["init_args"]["surrogate"]) == 2
    assert transfer["attacker_knowledge"].startswith("none of the victim")
    assert {"dice_adversarial", "surrogate_dice"} <= set(transfer["results"])
    assert square["images"] == 6
    page = (folder / "report.html").read_text()
    assert "Dice over the radius" in page
    assert "Smallest changes that fool" in page


@pytest.mark.parametrize(
    ("words", "telling"),
    [
        (["--attacks", "[transfer]"], "transfer needs the attacker's own network"),
        (["--attacks", "[{attack: transfer, settings: {surrogate: fleet}}]"], "surrogate fleet needs one"),
        (["--attacks", "[{attack: transfer, settings: {surrogate: shadow}}]", "--shadow", "null"], "shadow"),
        (["--attacks", "[{attack: universal, settings: {others: fleet}}]"], "fleet needs one"),
        (
            ["--attacks", f"[{{attack: universal, settings: {BOTH}}}]", "--fleet.count", "6"],
            "must be the same networks",
        ),
        (["--attacks", "[{attack: robustness-curve, settings: {radii: [2, 1]}}]"], "ascending"),
        (["--attacks", "[{attack: universal, settings: {fitted: none.npy}}]"], "cannot be read"),
    ],
)
def test_attacks_that_lack_something_are_one_line(
    victim: Path, words: list[str], telling: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("robust_audit.yaml").write_text(AUDIT.format(victim=victim))
    assert main(["audit", "--config", "robust_audit.yaml", *words]) == 2
    error = capsys.readouterr().err
    assert telling in error
    assert error.count("\n") == 1


def test_a_curve_over_patients_by_hand() -> None:
    # Two patients with two images each: the interval is that of two observations, wider than that of four.
    values = {
        "dice_clean": torch.tensor([1.0, 0.8, 0.6, 0.8]),
        "dice.at_1": torch.tensor([0.6, 0.4, 0.2, 0.4]),
    }
    curve, images = (dice_curve(values, [1.0], fooled=0.5, units=units) for units in (2, 4))
    assert [point.dice for point in curve.points] == [pytest.approx(0.8), pytest.approx(0.4)]
    assert [point.fooled for point in curve.points] == [0, 0.75]
    for wide, narrow in zip(curve.points, images.points, strict=True):
        assert wide.low is not None
        assert narrow.low is not None
        assert wide.high is not None
        assert narrow.high is not None
        assert wide.low < narrow.low < narrow.high < wide.high
    point = curve.at(1.0)
    assert point is not None
    assert point.measure.value == pytest.approx(0.4)
    assert curve.at(2.0) is None
