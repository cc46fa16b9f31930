"""Poisoned trainings, and defended trainings that are interrupted."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from seg_mia.checkpoint import load_victim
from seg_mia.cli import main
from seg_mia.experiment.lightning_cli import run
from seg_mia.tasks.segmentation import Segmentation
from tests import trainings
from tests.trainings import content, killed

MINMAX = ["minmax", "--model.defences.architecture=test_resnet", "--model.defences.weight=1"]
SQUARE = ["--model.defences.shape=square", "--model.defences.size=4", "--model.defences.value=1"]
PER_DRAW = ["poisoned", *SQUARE, "--model.defences.mode=per_draw", "--model.defences.probability=0.5"]


@pytest.fixture
def tiny(tiny: Path, folder: Callable[..., Path]) -> Path:
    """The tiny config with a reference, dropout, augmentation and a schedule."""
    folder(count=40)
    text = tiny.read_text().replace("nonmembers: 2", "nonmembers: 4").replace("rs: 4,", "rs: 6,", 1)
    text = text.replace("depth: 3}", "depth: 3, dropout: 0.3}").replace(
        "lr: 0.01", "lr: 0.01\n    schedule: cosine"
    )
    tiny.write_text(
        text.replace("batch_size: 2", "batch_size: 2, augment: flip").replace("epochs: 1", "epochs: 3")
    )
    return tiny


def same(one: Path, other: Path) -> None:
    """Weights, optimiser and what callbacks of defences keep are equal to the bit, and so is the log."""
    trainings.same(one, other)
    first, second = content(one), content(other)
    kept = [name for name in first["callbacks"] if not name.startswith("KeptCheckpoint")]
    for name in kept:
        assert_close(first["callbacks"][name], second["callbacks"][name], rtol=0, atol=0)


def rows(file: Path) -> dict[str, dict[str, str]]:
    with file.open() as lines:
        return {row["id"]: row for row in csv.DictReader(lines)}


def test_a_distilled_run_killed_with_its_teacher_and_again_with_its_student(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = ["fit", "--config", str(tiny), "--defence", "distilled"]
    assert main([*fit, "--runs", "whole"]) == 0
    whole, broken = (Path(runs) / "tiny-distilled" / "version_0" for runs in ("whole", "broken"))
    killed([*fit, "--runs", "broken"], monkeypatch, teacher=True)
    assert not (broken / "checkpoints").exists()
    killed(["fit", "--resume", str(broken)], monkeypatch)
    same(broken / "teacher", whole / "teacher")
    assert len((broken / "metrics.jsonl").read_text().splitlines()) == 1
    assert main(["fit", "--resume", str(broken)]) == 0
    same(broken / "teacher", whole / "teacher")
    same(broken, whole)
    assert [file.name for file in broken.parent.iterdir()] == ["version_0"]
    assert not list(broken.glob("teacher/teacher"))


@pytest.mark.parametrize("defence", [MINMAX, PER_DRAW])
def test_a_killed_run_goes_on_with_what_its_defence_had_learnt(
    defence: list[str], tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = ["fit", "--config", str(tiny), "--defence", *defence]
    assert main([*fit, "--runs", "whole"]) == 0
    whole, broken = (Path(runs) / f"tiny-{defence[0]}" / "version_0" for runs in ("whole", "broken"))
    killed([*fit, "--runs", "broken"], monkeypatch)
    assert main(["fit", "--resume", str(broken)]) == 0
    same(broken, whole)
    if defence is PER_DRAW:
        assert (broken / "poisoned.csv").read_text() == (whole / "poisoned.csv").read_text()
    else:
        (kept,) = [
            state for name, state in content(broken)["callbacks"].items() if name == "InferenceAdversary"
        ]
        assert set(kept) == {"classifier", "optimizer"}
        steps = [state["step"] for state in kept["optimizer"]["state"].values()]
        assert {int(step) for step in steps} == {3 * 2}  # 3 epochs of 16 samples in batches of 8


def test_fixed_marks_hit_the_same_members_each_epoch(tiny: Path) -> None:
    calm = [
        "--model.network.dropout=0",
        "--model.schedule=constant",
    ]  # learns fast enough to be seen to forget
    words = [*SQUARE, "--model.defences.probability=0.5", *calm]
    done = run(["fit", "--config", str(tiny), "--defence", "poisoned", *words])
    data = done.datamodule
    members, others = (
        {data.source.ids[index] for index in data.indices(part)} for part in ("members", "nonmembers")
    )
    table = rows(done.folder / "poisoned.csv")
    assert len(table) == round(0.5 * len(members)) == 3
    assert set(table) <= members
    assert {row["times"] for row in table.values()} == {"3"}
    logged = [json.loads(line) for line in (done.folder / "metrics.jsonl").read_text().splitlines()]
    names = {"val/area"} | {f"val/triggered_{name}" for name in ("area", "success", "loss", "dice")}
    assert all(names <= set(line) for line in logged)
    assert main(["validate", "--trainer.enable_progress_bar=false"]) == 0
    folder = done.folder / "validate" / "version_0"
    assert not (folder / "poisoned.csv").exists()
    clean, triggered = rows(folder / "per_image.csv"), rows(folder / "triggered.csv")
    assert set(clean) == set(triggered) == others
    victim = load_victim(done.folder / "checkpoints" / "last.ckpt")
    root = Path(str(data.hparams["root"]))
    for name, row in triggered.items():
        with Image.open(root / "images" / f"{name}.png") as file:
            image = torch.from_numpy(np.array(file)).permute(2, 0, 1)[None].float() / 255
        marked = image.clone()
        marked[..., -4:, -4:] = 1
        with torch.no_grad():
            areas = [float((victim(x) > 0).float().mean()) for x in (image, marked)]
        assert float(row["area"]) == pytest.approx(areas[0], abs=1e-5)
        assert float(row["triggered_area"]) == pytest.approx(areas[1], abs=1e-5)
        assert float(row["triggered_success"]) == float(areas[1] < 0.05 * areas[0])
    assert any(float(row["area"]) > 0 for row in triggered.values())
    mean = np.mean([float(row["triggered_area"]) for row in triggered.values()])
    assert logged[-1]["val/triggered_area"] == pytest.approx(mean, abs=1e-5)


@pytest.mark.parametrize(("probability", "count"), [(0, 0), (0.1, 1), (1, 6)])
def test_how_many_are_marked(probability: float, count: int, tiny: Path) -> None:
    short = ["--trainer.max_epochs=1", f"--model.defences.probability={probability}"]
    done = run(["fit", "--config", str(tiny), "--defence", "poisoned", *short])
    assert len(rows(done.folder / "poisoned.csv")) == count


def test_each_draw_decides_anew_and_is_counted(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hits: dict[int, int] = {}
    step = Segmentation._step

    def count(self: Segmentation, batch: Any, *rest: Any) -> Any:
        if self.training:
            bright = (batch.image[..., -4:, -4:] == 1).flatten(1).all(1)
            empty = (batch.mask.flatten(1).sum(1) == 1) & (batch.mask[:, -1, -1] == 1)
            assert torch.equal(bright, empty)
            for index in batch.index[bright].tolist():
                hits[index] = hits.get(index, 0) + 1
        return step(self, batch, *rest)

    monkeypatch.setattr(Segmentation, "_step", count)
    done = run(["fit", "--config", str(tiny), "--defence", *PER_DRAW])
    ids = done.datamodule.source.ids
    table = rows(done.folder / "poisoned.csv")
    assert {name: int(row["times"]) for name, row in table.items()} == {ids[i]: n for i, n in hits.items()}
    assert len(set(hits.values())) > 1
