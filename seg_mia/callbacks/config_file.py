"""Settings of a run, recorded in `config.yaml`."""

from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback

from seg_mia.atomic import written_whole
from seg_mia.callbacks.folder import run_folder
from seg_mia.config.spec import unsayable


class ConfigFile(SaveConfigCallback):
    """Write restorable settings; external defaults without a text form are omitted.

    They were checked as they were parsed, and are not checked again.
    """

    def __init__(self, parser: LightningArgumentParser, config: Namespace, **settings: Any) -> None:
        super().__init__(parser, restorable_config(config), save_to_log_dir=False, **settings)

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:  # noqa: ARG002
        """Write the file, whole or not at all; called on the first rank."""
        options: dict[str, Any] = {"skip_none": False, "skip_validation": True}
        text = self.parser.dump(self.config, **options)
        with written_whole(run_folder(trainer) / self.config_filename) as file:
            file.write(text.encode())


def write_config(trainer: Trainer, module: LightningModule, stage: str) -> None:
    """Write config.yaml immediately, not at the start of a trainer."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]  # set by a connector
        if isinstance(callback, SaveConfigCallback):
            callback.setup(trainer, module, stage)


def restorable_config(config: Namespace) -> Namespace:
    """Return a copy of parsed settings without such defaults, at any depth."""
    restorable = Namespace()  # type: ignore[no-untyped-call]  # jsonargparse has no types there
    for name, value in vars(config).items():
        restorable[name] = restorable_config(value) if isinstance(value, Namespace) else value
    path, arguments = vars(restorable).get("class_path"), vars(restorable).get("init_args")
    if isinstance(path, str) and isinstance(arguments, Namespace):
        for name in unsayable(path, vars(arguments)):
            del arguments[name]
    return restorable
