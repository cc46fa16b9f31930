"""Settings of a run, recorded in `config.yaml`."""

from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback

from seg_mia.config.spec import unsayable


class ConfigFile(SaveConfigCallback):
    """Write restorable settings; external defaults without a text form are omitted."""

    def __init__(self, parser: LightningArgumentParser, config: Namespace, **settings: Any) -> None:
        super().__init__(parser, restorable_config(config), **settings)


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
