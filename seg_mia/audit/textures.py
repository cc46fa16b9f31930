"""Auto-encoders for the texture attack of an audit: trained once, and taken again by later audits."""

from seg_mia.audit.settings import Settings
from seg_mia.audit.stages import options
from seg_mia.configs import composed, find_config, in_yaml
from seg_mia.errors import InputError
from seg_mia.runs import TEXTURES

SHARED = ("root", "cache", "size", "split_seed", "shadow_share")
"""Settings of the audit's data that also hold for the auto-encoders' training."""


def check(config: str) -> None:
    """Raise InputError for a config that there is not, or that trains something else."""
    _, files = composed(["--config", str(find_config(config))], [])
    model = in_yaml(files, "model")
    if not isinstance(model, dict) or model.get("class_path") != TEXTURES:
        raise InputError(
            f"weights names {config}, which trains no texture auto-encoders; texture_quick does, or give "
            "a folder"
        )


def training(config: str, settings: Settings) -> list[str]:
    """Return the words that train auto-encoders on the audit's data."""
    data = {name: value for name, value in settings.data.items() if name in SHARED}
    return ["fit", "--config", config, "--runs", settings.runs, *options("data.", data)]
