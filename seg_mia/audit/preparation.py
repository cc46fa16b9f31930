"""What an attack of an audit needs trained first: trained once, and taken again by later audits."""

from seg_mia.attacks.base import Preparation
from seg_mia.audit.settings import Settings, Training
from seg_mia.audit.stages import options
from seg_mia.config.files import composed, find_config, in_yaml
from seg_mia.errors import InputError
from seg_mia.runs import OF_A_ROLE


def check(first: Preparation) -> None:
    """Raise InputError for a config that there is not, or that trains something else."""
    _, files = composed(["--config", str(find_config(first.config))], [])
    model = in_yaml(files, "model")
    if not isinstance(model, dict) or model.get("class_path") != first.task:
        raise InputError(
            f"{first.option} names {first.config}, which trains no {first.product}; {first.example} does, or "
            "give a folder"
        )


def training(config: str, settings: Settings) -> list[str]:
    """Return the words that train what an attack needs, on the audit's data.

    All that decides which half a sample is in is the victim's: what is trained on, it is not judged by.
    """
    victim = settings.victim.options if isinstance(settings.victim, Training) else {}
    of_victim = {
        name.removeprefix("data."): value for name, value in victim.items() if name.startswith("data.")
    }
    data = {
        name: value
        for name, value in (settings.data | of_victim).items()
        if name in {"root", "cache"} or name not in OF_A_ROLE
    }
    return ["fit", "--config", config, "--runs", settings.runs, *options("data.", data)]
