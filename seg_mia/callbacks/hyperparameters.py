"""Settings of a run in TensorBoard, beside its results."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Hyperparameters(Callback):
    """Show settings in TensorBoard's HPARAMS tab, beside all logged values of the run and its attacks.

    Args:
        settings: config of the run, nested, plain values.
    """

    def __init__(self, settings: Mapping[str, object]) -> None:
        self.settings = flat(settings)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Write the settings after training, on the first rank."""
        if not trainer.is_global_zero:
            return
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.hparams.update(self.settings)
                write_session(logger.experiment, self.settings)


def write_session(writer: "SummaryWriter", settings: Mapping[str, object]) -> None:
    """Write the HPARAMS record of one run.

    The experiment's list of settings and metrics is omitted: TensorBoard would apply the first run's list to
    all runs and hide values of others. Without it, TensorBoard collects them from all runs.
    """
    from torch.utils.tensorboard.summary import hparams

    untyped: Any = writer
    _, start, end = hparams(dict(settings), {})  # type: ignore[no-untyped-call]  # torch has no types there
    file = untyped._get_file_writer()
    for summary in (start, end):
        file.add_summary(summary)


def flat(settings: Mapping[str, object], prefix: str = "") -> dict[str, bool | int | float | str]:
    """Flatten nested settings, with names joined by dots and unset values omitted."""
    values: dict[str, bool | int | float | str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            values |= flat(value, prefix if name == "init_args" else f"{prefix}{name}.")
        elif value is not None:
            values[prefix + name] = value if isinstance(value, bool | int | float | str) else str(value)
    return values
