"""What tests of trainings share: what one has left behind, and ways to end one before its time."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from seg_mia.cli import main
from seg_mia.tasks.segmentation import Segmentation
from tests.forked import Forked


class KilledError(BaseException):
    """What ends a training in the middle of an epoch, and nobody catches."""


def killed(words: list[str], monkeypatch: pytest.MonkeyPatch, *, teacher: bool = False) -> None:
    """Run a training that dies in its second epoch, the teacher's or the victim's own."""
    step = Segmentation.training_step

    def dies(self: Segmentation, batch: Any, batch_idx: int) -> Any:
        if self.trainer.current_epoch == 1 and batch_idx == 1 and bool(self.defences) != teacher:
            raise KilledError
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patched:
        patched.setattr(Segmentation, "training_step", dies)
        with pytest.raises(KilledError):
            main(words)


def kill_in_mid_epoch(words: list[str], folder: Path, after: int) -> None:
    """Start a training in a process of its own, and kill it a little after it has finished some epochs."""
    nowhere, errors = Path(os.devnull), Path("killed.err")
    process = Forked(["-m", "seg_mia", *words], output=nowhere, errors=errors)
    while len(epochs(folder)) < after:
        assert process.poll() is None, errors.read_text()[-4000:]
        time.sleep(0.02)
    time.sleep(0.25)
    process.kill()
    process.wait()


def content(folder: Path) -> dict[str, Any]:
    """Return what is in a run's last checkpoint."""
    found: dict[str, Any] = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return found


def weights(folder: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = content(folder)["state_dict"]
    return state


def log_of(folder: Path) -> list[dict[str, Any]]:
    """Return a run's metrics, epoch by epoch."""
    file = folder / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def epochs(folder: Path) -> list[int]:
    return [line["epoch"] for line in log_of(folder)]


def same(one: Path, other: Path) -> None:
    """Weights, optimiser and log of two runs are equal to the bit."""
    first, second = content(one), content(other)
    for part in ("state_dict", "optimizer_states"):
        assert_close(first[part], second[part], rtol=0, atol=0)
    assert (one / "metrics.jsonl").read_text() == (other / "metrics.jsonl").read_text()


def one_error(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line in which the command line has refused something since it was last looked at."""
    said = capsys.readouterr().err
    assert "Traceback" not in said
    (line,) = [line for line in said.splitlines() if "seg_mia: error:" in line]
    return line
