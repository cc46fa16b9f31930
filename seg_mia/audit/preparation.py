"""Trainings required by an audit's attacks, cached for later audits."""

from seg_mia.attacks.base import Preparation
from seg_mia.audit.settings import Settings
from seg_mia.config.composition import last_value, stacked
from seg_mia.config.files import find_config
from seg_mia.config.options import options_of
from seg_mia.errors import InputError
from seg_mia.experiment.request import RunRequest
from seg_mia.runs import OF_A_ROLE


def check(preparation: Preparation) -> None:
    """Raise InputError for an unknown config, or one that trains another task."""
    model = last_value(stacked([str(find_config(preparation.config))]), "model")
    if not isinstance(model, dict) or model.get("class_path") != preparation.task:
        raise InputError(
            f"{preparation.option} names {preparation.config}, which does not train a {preparation.product}; "
            f"name a config that does, such as {preparation.example}, or a folder"
        )


def training(config: str, settings: Settings) -> RunRequest:
    """Return the plan of a training required by an attack, on the audit's data.

    All settings of the victim/shadow split are the victim's: no sample is both trained on and evaluated.
    """
    victim = {} if isinstance(settings.victim, str) else settings.victim.options
    of_victim = {
        name.removeprefix("data."): value for name, value in victim.items() if name.startswith("data.")
    }
    data = {
        name: value
        for name, value in (settings.data | of_victim).items()
        if name in {"root", "cache"} or name not in OF_A_ROLE
    }
    return RunRequest("fit", (config,), tuple(options_of("data.", data)), runs=settings.runs)
