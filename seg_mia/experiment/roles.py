"""`--role shadow`: a training on the other half of the data, from another seed."""

from collections.abc import Sequence

from seg_mia.config.composition import last_value
from seg_mia.config.options import Layer, Option
from seg_mia.errors import InputError
from seg_mia.runs import SHADOW_SEED

SHADOW = "shadow"


def in_role(layers: Sequence[Layer], options: Sequence[Option], role: str | None) -> list[Option]:
    """Return options with seed and half of a role before them, so that later options still win.

    Args:
        layers: the configs, which may name a role, too.
        options: of the command line.
        role: what the command line names.

    Raises:
        InputError: a config names another role than `shadow`.
    """
    if (role or stated_role(layers)) is None:
        return list(options)
    return [*_other_seed(last_value(layers, "seed_everything")), *on_other_half(options)]


def stated_role(layers: Sequence[Layer]) -> str | None:
    """Return the role that configs name, if any; raise InputError for another than `shadow`."""
    role = last_value(layers, "role")
    if role not in (None, SHADOW):
        raise InputError(f"role must be shadow, got {role!r}; leave it out for a victim")
    return SHADOW if role else None


def of_shadow(layers: Sequence[Layer]) -> bool:
    """Return whether configs train a shadow by themselves, by a role or by the half that their data has."""
    for layer in reversed(layers):
        data = layer.content.get("data")
        arguments = data.get("init_args") if isinstance(data, dict) else None
        if isinstance(arguments, dict) and "role" in arguments:
            return bool(arguments["role"] == SHADOW)
    return stated_role(layers) is not None


def on_other_half(options: Sequence[Option]) -> list[Option]:
    """Return options with the shadow's half before all others of the data, behind the data's class."""
    flags = [option.flag for option in options]
    begin = flags.index("--data") + 1 if "--data" in flags else 0
    return [*options[:begin], Option("--data.role", SHADOW), *options[begin:]]


def _other_seed(seed: object) -> list[Option]:
    """Return the option for a shadow's seed; none where the config wants another in each training."""
    if isinstance(seed, bool):
        return []
    return [Option("--seed_everything", str((seed if isinstance(seed, int) else 0) + SHADOW_SEED))]
