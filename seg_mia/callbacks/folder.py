"""Output folder of a run."""

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger


def run_folder(trainer: Trainer) -> Path:
    """Return the logger's folder, or Lightning's default without a logger.

    Unlike `trainer.log_dir`, it does not communicate, so a single rank may call it.
    """
    logger = trainer.logger
    return Path((logger and (logger.log_dir or logger.save_dir)) or trainer.default_root_dir)


class OneFolder(Callback):
    """Share the first rank's `version_N` with all ranks, which would otherwise choose their own."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:  # noqa: ARG002
        """Broadcast once, on all ranks."""
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger._version = trainer.strategy.broadcast(logger.version)
