"""The run's settings in TensorBoard, beside what they led to."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

WATCHED = "val/dice"


class Hyperparameters(Callback):
    """Show settings in TensorBoard's HPARAMS tab with the last validation Dice.

    Args:
        settings: the run's config, nested, plain values.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = flat(settings)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Write them once the figure is known."""
        value = trainer.callback_metrics.get(WATCHED)
        metrics = {f"hparams/{WATCHED}": float(value)} if value is not None else {}
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.log_hyperparams(self.settings, metrics)


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, bool | int | float | str]:
    """Return nested settings as one level, names joined by dots, unset ones left out."""
    found: dict[str, bool | int | float | str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found |= flat(value, prefix if name == "init_args" else f"{prefix}{name}.")
        elif value is not None:
            found[prefix + name] = value if isinstance(value, bool | int | float | str) else str(value)
    return found
