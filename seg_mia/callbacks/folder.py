"""The folder that a run writes to."""

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger


def run_folder(trainer: Trainer) -> Path:
    """Return the logger's folder; Lightning's default where nothing is logged.

    Unlike `trainer.log_dir` it asks no other rank, so that one rank may call it alone.
    """
    logger = trainer.logger
    return Path((logger and (logger.log_dir or logger.save_dir)) or trainer.default_root_dir)


class OneFolder(Callback):
    """Give every rank the first rank's `version_N`: each would take the first that it finds free."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:  # noqa: ARG002
        """Ask once, where all ranks do."""
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger._version = trainer.strategy.broadcast(logger.version)
