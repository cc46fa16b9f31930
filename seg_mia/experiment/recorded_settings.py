"""The settings of a run as plain values, as Lightning notes them in a checkpoint."""

from typing import Any

import yaml
from lightning.pytorch.cli import LightningCLI

BUILDER = "lightning.pytorch.cli.instantiate_module"
"""Key of Lightning's hyperparameters for the function that instantiates a module."""
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Reads what was written below; ten times faster where libyaml is installed."""


class RecordedSettings(LightningCLI):
    """LightningCLI that does not check the parsed settings a second time when it notes them."""

    def _dump_config(self) -> None:
        if hasattr(self, "config_dump"):
            return
        # Lightning's call, but for the last option.
        options: dict[str, Any] = {"skip_none": False, "skip_link_targets": False, "skip_validation": True}
        text = self.parser.dump(self.config, format="yaml", **options)
        self.config_dump = LOADER(text).get_single_data()[self.config["subcommand"]]

    def noted(self, part: str) -> dict[str, Any]:
        """Return the hyperparameters that Lightning notes of a part, `model` or `data`."""
        self._dump_config()
        spec = self.config_dump[part]
        return {"_class_path": spec["class_path"], **spec.get("init_args", {}), "_instantiator": BUILDER}
