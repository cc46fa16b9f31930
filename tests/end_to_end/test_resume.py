"""Interrupt at any moment: a resumed run ends where it would have."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from seg_mia.cli import main
from tests.trained_runs import Trained
from tests.trainings import content, epochs, kill_in_mid_epoch, weights

pytestmark = pytest.mark.slow


EPOCH = "--trainer.max_epochs=1"


@pytest.fixture
def config(tmp_path: Path, folder: Callable[..., Path]) -> Path:
    """Shuffling, augmentation, dropout, a schedule: all that a restart could lose."""
    folder(120)
    file = tmp_path / "shaky.yaml"
    file.write_text("""
seed_everything: 3
trainer: {max_epochs: 5, accelerator: cpu, deterministic: true, enable_progress_bar: false}
model:
  class_path: seg_mia.tasks.segmentation.Segmentation
  init_args:
    network:
      class_path: seg_mia.models.smp.Smp
      init_args: {encoder: tu-test_resnet, channels: 3, classes: 1, depth: 3, dropout: 0.3}
    lr: 0.003
    schedule: cosine
data:
  class_path: seg_mia.data.sets.folder.Folder
  init_args:
    root: ../data
    threshold: 127
    members: 50
    nonmembers: 8
    batch_size: 2
    augment: standard
""")
    return file


def test_killed_twice_and_resumed_ends_with_the_same_weights(config: Path) -> None:
    fit = ["fit", "--config", str(config)]
    assert main([*fit, "--runs", "whole"]) == 0
    whole, broken = Path("whole/shaky/version_0"), Path("broken/shaky/version_0")
    kill_in_mid_epoch([*fit, "--runs", "broken"], broken, after=2)
    assert len(epochs(broken)) < 5
    kill_in_mid_epoch(["fit", "--resume", str(broken)], broken, after=3)
    assert main(["fit", "--resume", str(broken)]) == 0
    assert_close(weights(broken), weights(whole), rtol=0, atol=0)
    assert epochs(broken) == epochs(whole) == [0, 1, 2, 3, 4]
    assert (broken / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()
    assert len(list(Path("broken/shaky").iterdir())) == 1


def test_a_run_killed_before_its_first_checkpoint_starts_over(config: Path, trained: Trained) -> None:
    whole, early = trained(config, EPOCH), trained(config, EPOCH)
    for file in (early / "checkpoints").iterdir():
        file.unlink()
    (early / "metrics.jsonl").unlink()
    assert main(["fit", "--resume", str(early)]) == 0
    assert_close(weights(early), weights(whole), rtol=0, atol=0)


def best_score(run: Path) -> float:
    (state,) = [state for name, state in content(run)["callbacks"].items() if "val/dice" in name]
    return float(state["best_model_score"])


def test_the_best_checkpoint_stays_the_best_when_the_folder_moves(config: Path, tmp_path: Path) -> None:
    assert main(["fit", "--config", str(config), "--trainer.max_epochs=2"]) == 0
    score = best_score(Path("runs/shaky/version_0"))
    Path("runs").rename(tmp_path / "moved")
    run = tmp_path / "moved" / "shaky" / "version_0"
    assert main(["fit", "--resume", str(run), "--trainer.max_epochs=3"]) == 0
    assert best_score(run) >= score
    assert {file.name for file in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}


def test_data_that_changed_meanwhile_is_refused(
    config: Path, trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained(config, EPOCH)
    for part in ("images", "masks"):
        shutil.copy(tmp_path / "data" / part / "s00.png", tmp_path / "data" / part / "more.png")
    assert main(["fit", "--resume", str(run), "--trainer.max_epochs=2"]) == 2
    assert "fingerprint" in capsys.readouterr().err


def test_more_epochs_than_planned(config: Path, trained: Trained) -> None:
    run = trained(config, EPOCH)
    assert main(["fit", "--resume", str(run), "--trainer.max_epochs=2"]) == 0
    assert epochs(run) == [0, 1]


def test_the_same_seed_gives_the_same_numbers_and_another_does_not(config: Path, trained: Trained) -> None:
    short = ["fit", "--config", str(config), EPOCH]
    assert main([*short, "--runs", "again"]) == 0
    assert main([*short, "--runs", "other", "--seed_everything=4"]) == 0
    one, again, other = (weights(run) for run in (trained(config, EPOCH), run_in("again"), run_in("other")))
    assert_close(one, again, rtol=0, atol=0)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def run_in(runs: str) -> Path:
    return Path(runs) / "shaky" / "version_0"
