"""The run's settings in TensorBoard, beside what they led to."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams


class Hyperparameters(Callback):
    """Show settings in TensorBoard's HPARAMS tab, beside everything the run and attacks on it have logged.

    Args:
        settings: the run's config, nested, plain values.
    """

    def __init__(self, settings: Mapping[str, object]) -> None:
        self.settings = flat(settings)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Write them once the training is done; only the first of several ranks has a file to write to."""
        if not trainer.is_global_zero:
            return
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.hparams.update(self.settings)
                write_session(logger.experiment, self.settings)


def write_session(writer: SummaryWriter, settings: Mapping[str, object]) -> None:
    """Write what HPARAMS shows of one run.

    An experiment's list of settings and measures is left out: TensorBoard would take the first run's for all,
    and then shows nothing that only others have. Without one it gathers them from all runs.
    """
    untyped: Any = writer
    _, start, end = hparams(dict(settings), {})  # type: ignore[no-untyped-call]  # torch has no types there
    file = untyped._get_file_writer()
    for summary in (start, end):
        file.add_summary(summary)


def flat(settings: Mapping[str, object], prefix: str = "") -> dict[str, bool | int | float | str]:
    """Return nested settings as one level, names joined by dots, unset ones left out."""
    values: dict[str, bool | int | float | str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            values |= flat(value, prefix if name == "init_args" else f"{prefix}{name}.")
        elif value is not None:
            values[prefix + name] = value if isinstance(value, bool | int | float | str) else str(value)
    return values
