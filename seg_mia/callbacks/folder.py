"""Where a run writes."""

from pathlib import Path

from lightning.pytorch import Trainer


def run_folder(trainer: Trainer) -> Path:
    """Return the logger's folder, the same on every rank; Lightning's default where nothing is logged."""
    return Path(trainer.log_dir or trainer.default_root_dir)
