"""Checkpoints under fixed names that survive a move of their folder."""

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from seg_mia.atomic import link_whole
from seg_mia.models.state_files import write_tensors


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoint files that are whole or not there, written without a copy in memory.

    Lightning writes to the folder for temporary files and moves the file from there. Between two file systems
    a move is a copy, of which a part stays under the final name if the disk is full or the process ends.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None
    ) -> None:
        """Write beside the final file, then rename; an OSError, as of a full disk, leaves the old file."""
        if storage_options is not None or "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
        else:
            write_tensors(Path(path), checkpoint)


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

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Have whole files written, unless a plugin of the user's writes them."""
        super().setup(trainer, pl_module, stage)
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = WholeCheckpoints()

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        """Save, or link the file that another checkpoint has written after this step."""
        written = self._written(trainer)
        if written is None:
            super()._save_checkpoint(trainer, filepath)
            return
        if trainer.is_global_zero:
            link_whole(Path(filepath), written)
        trainer.strategy.barrier()
        self._last_global_step_saved, self._last_checkpoint_saved = trainer.global_step, filepath

    def _written(self, trainer: Trainer) -> Path | None:
        """Return the local file that another checkpoint has written after this step, if any.

        A plugin of the user's may write folders, or write later.
        """
        if not isinstance(trainer.strategy.checkpoint_io, WholeCheckpoints):
            return None
        for other in trainer.checkpoint_callbacks:
            if (
                isinstance(other, KeptCheckpoint)
                and other is not self
                and other._last_global_step_saved == trainer.global_step
                and "://" not in other._last_checkpoint_saved
                and Path(other._last_checkpoint_saved).is_file()
            ):
                return Path(other._last_checkpoint_saved)
        return None

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
