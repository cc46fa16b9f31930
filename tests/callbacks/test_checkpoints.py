"""Two checkpoints after one step share a file, each is replaced for itself, and none is ever half written."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor, nn
from torch.utils.data import DataLoader

from seg_mia.atomic import written_whole
from seg_mia.callbacks.checkpoints import KeptCheckpoint, WholeCheckpoints


class Scored(LightningModule):
    """One weight, and a score for each epoch."""

    def __init__(self, scores: list[float]) -> None:
        super().__init__()
        self.layer, self.scores = nn.Linear(1, 1), scores

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:  # noqa: ARG002
        self.log("val/dice", torch.tensor(self.scores[self.current_epoch]))
        output: Tensor = self.layer(batch).sum()
        return output

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class OwnFiles(TorchCheckpointIO):
    """A plugin of a user's, which writes folders."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None
    ) -> None:
        Path(path).mkdir(parents=True, exist_ok=True)
        super().save_checkpoint(checkpoint, Path(path, "part"), storage_options)


def trained(folder: Path, scores: list[float], **settings: Any) -> Trainer:
    trainer = Trainer(
        max_epochs=len(scores),
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[KeptCheckpoint("best.ckpt", monitor="val/dice"), KeptCheckpoint("last.ckpt")],
        default_root_dir=folder,
        **settings,
    )
    trainer.fit(Scored(scores), DataLoader([torch.ones(1)]))  # type: ignore[arg-type]  # a list will do
    return trainer


def content(file: Path) -> dict[str, object]:
    read: dict[str, object] = torch.load(file, weights_only=True)
    return read


def test_best_and_last_after_one_step_are_one_file(tmp_path: Path) -> None:
    trainer = trained(tmp_path, [0.1, 0.2])
    best, last = (tmp_path / "checkpoints" / name for name in ("best.ckpt", "last.ckpt"))
    assert best.samefile(last)
    assert content(last)["epoch"] == 1
    assert isinstance(trainer.strategy.checkpoint_io, WholeCheckpoints)
    assert sorted(path.name for path in best.parent.iterdir()) == ["best.ckpt", "last.ckpt"]


def test_a_worse_epoch_leaves_the_best_file_as_it_was(tmp_path: Path) -> None:
    trained(tmp_path, [0.2, 0.1])
    best, last = (content(tmp_path / "checkpoints" / name) for name in ("best.ckpt", "last.ckpt"))
    assert (best["epoch"], last["epoch"]) == (0, 1)
    (score,) = [
        state["best_model_score"]
        for state in last["callbacks"].values()  # type: ignore[attr-defined]
        if state["monitor"] == "val/dice"
    ]
    assert score.item() == pytest.approx(0.2)


def test_the_same_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(Path, "hardlink_to", refused)
    trained(tmp_path, [0.1, 0.2])
    best, last = (tmp_path / "checkpoints" / name for name in ("best.ckpt", "last.ckpt"))
    assert not best.samefile(last)
    assert best.read_bytes() == last.read_bytes()


def test_a_plugin_of_the_user_writes_its_own_files(tmp_path: Path) -> None:
    assert type(trained(tmp_path, [0.1], plugins=[OwnFiles()]).strategy.checkpoint_io) is OwnFiles
    for name in ("best.ckpt", "last.ckpt"):
        assert content(tmp_path / "checkpoints" / name / "part")["epoch"] == 0


def test_a_full_disk_leaves_the_last_checkpoint_and_no_part_of_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "run" / "last.ckpt"
    WholeCheckpoints().save_checkpoint({"epoch": 1}, file)

    class Full(BytesIO):
        def write(self, content: Any) -> int:
            super().write(content[: len(content) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")

    @contextmanager
    def half(path: Path) -> Iterator[Full]:
        with written_whole(path) as file:
            stream = Full()
            try:
                yield stream
            finally:
                file.write(stream.getvalue())

    monkeypatch.setattr("seg_mia.models.state_files.written_whole", half)
    with pytest.raises(OSError, match="No space left"):
        WholeCheckpoints().save_checkpoint({"epoch": 2}, file)
    assert [entry.name for entry in file.parent.iterdir()] == ["last.ckpt"]
    assert torch.load(file, weights_only=True) == {"epoch": 1}
