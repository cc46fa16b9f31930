"""Checkpoints under fixed names that survive a move of their folder."""

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint


class KeptCheckpoint(ModelCheckpoint):
    """Checkpoint of a fixed name, replaced atomically at the end of each epoch.

    Lightning discards the best score of a run resumed under another path, and would then replace the best
    checkpoint by a worse one; here the score moves with the folder.

    Args:
        name: file name; the newest is kept, or the best if `monitor` names a logged value.
        monitor: the larger, the better.
    """

    def __init__(self, name: str, *, monitor: str | None = None) -> None:
        super().__init__(
            filename=name.removesuffix(".ckpt"),
            enable_version_counter=False,
            save_on_train_epoch_end=True,
            monitor=monitor,
            mode="max",
        )

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save, unless the monitored value is not yet available (check_val_every_n_epoch)."""
        if self.monitor is None or self.monitor in trainer.callback_metrics:
            super().on_train_epoch_end(trainer, pl_module)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state with the current location of the folder."""
        folder = Path(str(self.dirpath))
        moved = {
            name: str(folder / Path(value).name) if name.endswith("model_path") and value else value
            for name, value in state_dict.items()
        }
        models = {str(folder / Path(file).name): score for file, score in state_dict["best_k_models"].items()}
        super().load_state_dict(moved | {"dirpath": self.dirpath, "best_k_models": models})
