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
from torch.utils.data import DataLoader, TensorDataset

from seg_mia.atomic import written_whole
from seg_mia.callbacks.checkpoints import KeptCheckpoint, WholeCheckpoints


class Fitted(LightningModule):
    """One weight, drawn to zero."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def training_step(self, batch: list[torch.Tensor]) -> torch.Tensor:
        return (self.weight * batch[0]).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD([self.weight], lr=0.1)


class OwnFiles(TorchCheckpointIO):
    """A plugin of a user's."""


def fitted(folder: Path, **settings: Any) -> Trainer:
    kept = KeptCheckpoint("last.ckpt")
    kept.dirpath = str(folder)
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", default_root_dir=folder, callbacks=[kept], **quiet, **settings
    )
    trainer.fit(Fitted(), DataLoader(TensorDataset(torch.ones(2)), batch_size=2))
    return trainer


@pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers")  # one batch
def test_a_training_writes_whole_checkpoints_unless_a_plugin_does(tmp_path: Path) -> None:
    trainer = fitted(tmp_path / "ours")
    assert type(trainer.strategy.checkpoint_io) is WholeCheckpoints
    kept = torch.load(tmp_path / "ours" / "last.ckpt", weights_only=True)
    assert float(kept["state_dict"]["weight"]) == pytest.approx(0.8)
    assert type(fitted(tmp_path / "theirs", plugins=[OwnFiles()]).strategy.checkpoint_io) is OwnFiles


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
