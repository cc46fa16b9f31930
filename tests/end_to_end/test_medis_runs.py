"""MedIS on the command line: what it writes, what its options change, and what is refused."""

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from seg_mia.attacks.medis import ALL
from seg_mia.cli import main
from tests.trained_runs import Trained
from tests.trainings import one_error

RUN = Path("runs/tiny/version_0")
ATTACK = ["test", "--attack", "medis", "--attack.steps", "2", "--data.subset", "members"]
Rows = list[dict[str, str]]


@pytest.fixture
def victim(tiny: Path, trained: Trained) -> Path:
    return trained(tiny)


@pytest.fixture
def root(tiny: Path) -> Path:
    return Path(tiny.read_text().split("root: ")[1].split(",")[0])


def rows(file: Path) -> Rows:
    with file.open() as lines:
        return list(csv.DictReader(lines))


def attacked(*words: str, run: Path = RUN) -> tuple[Rows, Rows, dict[str, Any], Path]:
    """Run an attack; return images, success rates, summary and the folder."""
    before = set((run / "medis").glob("*"))
    assert main([*ATTACK, "--victim", str(run), *words]) == 0
    (folder,) = set((run / "medis").glob("*")) - before
    summary = json.loads((folder / "summary.json").read_text())
    return rows(folder / "per_image.csv"), rows(folder / "success.csv"), summary, folder


def column(table: Rows, name: str) -> NDArray[np.float64]:
    return np.array([float(row[name]) for row in table])


def mean_iou(prediction: NDArray[np.bool_], target: NDArray[np.bool_]) -> float:
    """Over the classes in the target."""
    pairs = [(prediction, target), (~prediction, ~target)]
    return float(np.mean([(p & t).sum() / (p | t).sum() for p, t in pairs if t.any()]))


@pytest.mark.usefixtures("drawn")
def test_what_a_run_leaves(victim: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    table, rates, summary, folder = attacked("--attack.target", "nearest", "--attack.success", "0.6")
    said = capsys.readouterr().out
    assert "medis (attacker knowledge: weights), 4 images" in said
    assert any(line.split()[:2] == ["nearest", "fused"] for line in said.splitlines())

    ids = [row["id"] for row in table]
    masks = []
    for name in ids:
        with Image.open(root / "masks" / f"{name}.png") as picture:
            masks.append(np.asarray(picture) > 127)
    similar = rows(folder / "similarity.csv")
    assert [row["id"] for row in similar] == ids
    for one, row in enumerate(similar):
        assert row[ids[one]] == ""
        for other in set(range(4)) - {one}:
            assert float(row[ids[other]]) == pytest.approx(mean_iou(masks[other], masks[one]), rel=1e-5)

    assert {row["loss"] for row in table} <= set(ALL)
    assert (column(table, "linf") <= 2 / 255 + 1e-6).all()
    assert (column(table, "success") == np.max([column(table, f"{name}.success") for name in ALL], 0)).all()
    own = np.array([float(row[f"{row['loss']}.mean_iou"]) for row in table])
    assert column(table, "mean_iou") == pytest.approx(own, abs=1e-5)

    assert [row["loss"] for row in rates] == [*ALL, "fused"]
    counted = column(table, "counted") == 1
    for row, kept in zip(rates, summary["success"], strict=True):
        own_name = "" if row["loss"] == "fused" else f"{row['loss']}."
        won = column(table, f"{own_name}success")[counted]
        assert int(row["counted"]) == counted.sum() == kept["counted"]
        assert int(row["successes"]) == won.sum() == kept["successes"]
        assert row["rate"] == ("" if not counted.any() else str(kept["rate"]))
        assert kept["rate"] == (pytest.approx(won.mean()) if counted.any() else None)
        assert {name: str("" if value is None else value) for name, value in kept.items()} == row
    assert not {name for name in summary["results"] if "." in name or name == "loss"}

    history = rows(folder / "history.csv")
    assert [(row["id"], row["step"]) for row in history] == [(name, str(n)) for name in ids for n in range(3)]
    for row, start in zip(table, history[::3], strict=True):
        overlap = float(start["truth_iou"])
        assert float(row["dice_clean"]) == pytest.approx(2 * overlap / (1 + overlap), abs=1e-5)
        assert float(row["iou_before"]) == pytest.approx(float(start["iou"]), abs=1e-5)
        assert len({start[f"{name}.mean_iou"] for name in ALL}) == 1
    for name in ("success.png", "history.png", "panel.png"):
        with Image.open(folder / name) as picture:
            assert picture.width > 300
    assert victim == RUN


@pytest.mark.usefixtures("victim")
def test_away_from_the_truth(capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    table, rates, summary, folder = attacked("--attack.targeted", "false", "--attack.step_size", "0.02")
    said = capsys.readouterr().out
    assert "Dice to the truth" in said
    assert "with the target" not in said
    assert {row["target_kind"] for row in rates} == {"untargeted"}
    assert summary["success"][-1]["skipped"] == 0
    overlap = column(table, "iou")
    assert column(table, "dice_adversarial") == pytest.approx(2 * overlap / (1 + overlap), abs=1e-5)
    assert (column(table, "mean_iou") <= column(rows(folder / "history.csv")[::3], "mean_iou")).all()
    assert (column(table, "success") == (column(table, "mean_iou") <= 0.5)).all()
    assert not (folder / "similarity.csv").exists()


@pytest.mark.usefixtures("victim")
def test_some_losses_and_no_fusion() -> None:
    _, rates, _, _ = attacked("--attack.losses", "[lovasz_hinge]", "--attack.target", "white")
    assert [row.pop("loss") for row in rates] == ["lovasz_hinge", "fused"]
    assert rates[0] == rates[1]
    words = ["--attack.target", "white", "--attack.fusion", "false", "--attack.surrogate", str(RUN)]
    table, rates, _, _ = attacked(*words)
    assert [row["loss"] for row in rates] == list(ALL)
    assert {row["loss"] for row in table} == {ALL[0]}
    assert rates[0]["transferred"] == rates[0]["rate"]  # the surrogate is the victim
    assert {row["transferred"] for row in rates[1:]} == {""}  # of the others' images none was kept


def test_what_carries_over_from_a_surrogate(victim: Path, tiny: Path, trained: Trained) -> None:
    words = ["--attack.target", "white", "--attack.success", "0.2", "--attack.surrogate"]
    table, rates, summary, _ = attacked(*words, str(victim))
    for name in ("iou", "mean_iou", "linf", "success"):
        assert column(table, f"transfer_{name}") == pytest.approx(column(table, name), abs=1e-6)
    assert column(table, "surrogate_iou") == pytest.approx(column(table, "iou"))
    assert column(table, "transfer_dice") == pytest.approx(column(table, "dice_adversarial"))
    assert summary["success"][-1]["transferred"] == summary["success"][-1]["rate"]
    assert [row["transferred"] for row in rates[:-1]] == [""] * 6

    trained(tiny, "--seed_everything", "1")
    other, _, summary, _ = attacked(*words, "runs/tiny/version_1")
    assert column(other, "mean_iou") == pytest.approx(
        column(table, "mean_iou")
    )  # the victim's own, as before
    assert (column(other, "transfer_mean_iou") != column(other, "mean_iou")).any()
    assert (column(other, "transfer_linf") <= 2 / 255 + 1e-6).all()
    won, counted = column(other, "transfer_mean_iou") >= 0.2, column(other, "counted") == 1
    assert (column(other, "transfer_success") == won).all()
    assert summary["success"][-1]["transferred"] == (
        pytest.approx(won[counted].mean()) if counted.any() else None
    )
    assert main(["test", "--attack", "asma", "--attack.steps", "1", *words[:2], words[4], str(victim)]) == 0
    asma = rows(Path("runs/tiny/version_1/asma/version_0/per_image.csv"))
    assert "transfer_iou" in asma[0]
    assert "transfer_success" not in asma[0]


def test_who_is_asked_for_what_is_true_anyway_is_skipped(tiny: Path, root: Path) -> None:
    square = Image.open(root / "masks" / "s00.png")
    for file in (root / "masks").iterdir():
        square.save(file)
    assert main(["fit", "--config", str(tiny)]) == 0
    table, rates, summary, _ = attacked()
    assert column(table, "skipped").all()
    assert not column(table, "counted").any()
    assert {(row["counted"], row["rate"], row["distortion"], row["mean_iou"]) for row in rates} == {
        ("0", "", "", "")
    }
    assert summary["success"][-1]["rate"] is None


def test_three_classes(tiny: Path, root: Path) -> None:
    tiny.write_text(
        tiny.read_text().replace("threshold: 127", "classes: 3").replace("classes: 1", "classes: 3")
    )
    for number, file in enumerate(sorted((root / "masks").iterdir())):
        with Image.open(file) as picture:
            mask = np.asarray(picture) // 255
        Image.fromarray((mask * (1 + number % 2)).astype(np.uint8)).save(file)
    assert main(["fit", "--config", str(tiny)]) == 0
    table, _, _, _ = attacked("--attack.target", "white", "--attack.target_class", "2")
    assert column(table, "mean_iou") == pytest.approx(column(table, "pixel_accuracy"), abs=1e-5)
    assert column(table, "linf").all()


CODE = """
import torch
from torch import Tensor, nn


class Hard(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x > 0).to(x)


class Hardened(nn.Module):
    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.first, self.hard = nn.Conv2d(channels, 4, 1), Hard()
        self.last = nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.hard(self.first(x)))
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's module, with a layer that no gradient passes."""
    file = tmp_path / "code" / "my_module.py"
    file.parent.mkdir()
    file.write_text(CODE)
    monkeypatch.syspath_prepend(str(file.parent))
    monkeypatch.delitem(sys.modules, "my_module", raising=False)


def stand_in(layer: str) -> str:
    return f"{{{layer}: {{class_path: seg_mia.models.replacement.Threshold, init_args: {{at: 0}}}}}}"


@pytest.mark.usefixtures("own")
def test_a_layer_of_ones_own_is_replaced(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tiny.read_text().replace("seg_mia.models.smp.Smp", "my_module.Hardened")
    tiny.write_text(text.replace("{encoder: tu-test_resnet, channels: 3, classes: 1, depth: 3}", "{}"))
    assert main(["fit", "--config", str(tiny)]) == 0
    words = ["--trust", "my_module.Hardened", "--attack.target", "white", "--attack.success", "0.99"]
    words += ["--attack.keep", "last"]
    capsys.readouterr()
    table, rates, _, _ = attacked(*words)
    assert "WARNING: medis: no gradient reached any image" in capsys.readouterr().out
    assert column(table, "no_gradient").all()
    assert not column(table, "l2").any()
    assert {(row["no_gradient"], row["counted"]) for row in rates} == {("4", "0")}

    table, rates, summary, _ = attacked(*words, "--attack.replace", stand_in("my_module.Hard"))
    assert "WARNING" not in capsys.readouterr().out
    assert not column(table, "no_gradient").any()
    assert column(table, "linf") == pytest.approx(np.full(4, 2 / 255), abs=1e-6)
    assert {(row["no_gradient"], row["counted"]) for row in rates} == {("0", "4")}
    assert list(summary["attack"]["init_args"]["replace"]) == ["my_module.Hard"]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run words that must fail, and return the one line they lead to."""

    def run(*words: str) -> str:
        capsys.readouterr()
        assert main([*ATTACK, *words]) == 2
        return one_error(capsys)

    return run


@pytest.mark.usefixtures("victim", "own")
def test_refusals(said: Callable[..., str]) -> None:
    """One line on the command line; tests/attacks/test_medis.py has what is refused of each knob."""
    line = said("--attack.losses", "[lovasz]")
    assert all(name in line for name in (*ALL, "lovasz"))
    assert "surrogate 'nowhere' is neither" in said("--attack.surrogate", "nowhere")
    assert "Smp must have a Hard to replace and has none; its layers are" in said(
        "--attack.replace", stand_in("my_module.Hard")
    )
    for name in ("my_module.Soft", "nowhere.Hard", "torch.relu", "Hard"):
        assert name in said("--attack.replace", stand_in(name))
    assert "replace must name" in said("--attack.replace", stand_in("pathlib.Path"))


def test_one_sample_has_no_other(tiny: Path, said: Callable[..., str]) -> None:
    tiny.write_text(tiny.read_text().replace("nonmembers: 2", "nonmembers: 1"))
    assert main(["fit", "--config", str(tiny)]) == 0
    for kind in ("random", "nearest"):
        line = said("--attack.target", kind, "--data.subset", "nonmembers")
        assert f"target '{kind}' needs another sample's mask, got a set of 1" in line
