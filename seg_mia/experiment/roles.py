"""`--role shadow`: a training on the other half of the data, with another seed."""

from collections.abc import Sequence

from seg_mia.config.composition import last_value
from seg_mia.config.options import Layer, Option
from seg_mia.errors import InputError
from seg_mia.runs import SHADOW_SEED

SHADOW = "shadow"


def in_role(layers: Sequence[Layer], options: Sequence[Option], role: str | None) -> list[Option]:
    """Return options preceded by the seed and half of a role, so that later options override them.

    Args:
        layers: the configs, which may also set a role.
        options: command-line options.
        role: role on the command line.

    Raises:
        InputError: a config with another role than `shadow`.
    """
    if (role or stated_role(layers)) is None:
        return list(options)
    return [*_other_seed(last_value(layers, "seed_everything")), *on_other_half(options)]


def stated_role(layers: Sequence[Layer]) -> str | None:
    """Return the role set in configs, if any; raise InputError for another than `shadow`."""
    role = last_value(layers, "role")
    if role not in (None, SHADOW):
        raise InputError(f"role must be shadow, got {role!r}; leave it out for a victim")
    return SHADOW if role else None


def of_shadow(layers: Sequence[Layer]) -> bool:
    """Return whether configs themselves train a shadow, by a role or by the half in their data settings."""
    for layer in reversed(layers):
        data = layer.content.get("data")
        arguments = data.get("init_args") if isinstance(data, dict) else None
        if isinstance(arguments, dict) and "role" in arguments:
            return bool(arguments["role"] == SHADOW)
    return stated_role(layers) is not None


def on_other_half(options: Sequence[Option]) -> list[Option]:
    """Return options with the shadow's half before all other data options, after the data's class."""
    flags = [option.flag for option in options]
    begin = flags.index("--data") + 1 if "--data" in flags else 0
    return [*options[:begin], Option("--data.role", SHADOW), *options[begin:]]


def _other_seed(seed: object) -> list[Option]:
    """Return the option of a shadow's seed; none if the config draws a new one for each training."""
    if isinstance(seed, bool):
        return []
    return [Option("--seed_everything", str((seed if isinstance(seed, int) else 0) + SHADOW_SEED))]
