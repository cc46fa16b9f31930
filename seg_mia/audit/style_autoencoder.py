"""Auto-encoders for the texture attack of an audit: trained once, and taken again by later audits."""

from seg_mia.audit.settings import Settings, Training
from seg_mia.audit.stages import options
from seg_mia.config.files import composed, find_config, in_yaml
from seg_mia.errors import InputError
from seg_mia.runs import OF_A_ROLE, TEXTURES


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
    """Return the words that train auto-encoders on the audit's data.

    All that decides which half a sample is in is the victim's: what these see, it is not judged by.
    """
    victim = settings.victim.options if isinstance(settings.victim, Training) else {}
    said = {name.removeprefix("data."): value for name, value in victim.items() if name.startswith("data.")}
    data = {
        name: value
        for name, value in (settings.data | said).items()
        if name in {"root", "cache"} or name not in OF_A_ROLE
    }
    return ["fit", "--config", config, "--runs", settings.runs, *options("data.", data)]
