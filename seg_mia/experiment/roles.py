"""`--role shadow`: a training on the other half of the data, from another seed."""

from collections.abc import Sequence
from typing import Any

from seg_mia.config.files import in_yaml, read_yaml
from seg_mia.errors import InputError
from seg_mia.runs import SHADOW_SEED

SHADOW = "shadow"


def in_role(args: Sequence[str], configs: Sequence[str], role: str | None) -> list[str]:
    """Return arguments with seed and half of a role behind the configs, so that later options still win.

    Args:
        args: of LightningCLI, as `seg_mia.config.files.composed` returns them: each config first.
        configs: the configs among them, which may name a role, too.
        role: what the command line names.

    Raises:
        InputError: a config names another role than `shadow`.
    """
    begin, role = 2 * len(configs), role or stated_role(configs)
    if role is None:
        return list(args)
    seed = _other_seed(in_yaml(configs, "seed_everything"))
    return [*args[:begin], *seed, *on_other_half(args[begin:])]


def stated_role(configs: Sequence[str]) -> str | None:
    """Return the role that configs name, if any; raise InputError for another than `shadow`."""
    role: object = in_yaml(configs, "role")
    if role not in (None, SHADOW):
        raise InputError(f"role must be shadow, got {role!r}; leave it out for a victim")
    return SHADOW if role else None


def of_shadow(configs: Sequence[str]) -> bool:
    """Say whether configs train a shadow by themselves, by a role or by the half that their data has."""
    for config in reversed(configs):
        data = read_yaml(config).get("data")
        arguments = data.get("init_args") if isinstance(data, dict) else None
        if isinstance(arguments, dict) and "role" in arguments:
            return bool(arguments["role"] == SHADOW)
    return stated_role(configs) is not None


def on_other_half(options: Sequence[str]) -> list[str]:
    """Return options with the shadow's half before all others of the data."""
    begin = _behind_class(options)
    return [*options[:begin], "--data.role=shadow", *options[begin:]]


def _other_seed(seed: Any) -> list[str]:
    """Return the option for a shadow's seed; none where the config wants another in each training."""
    if isinstance(seed, bool):
        return []
    return [f"--seed_everything={(seed if isinstance(seed, int) else 0) + SHADOW_SEED}"]


def _behind_class(options: Sequence[str]) -> int:
    """Return where options of the data may stand: behind the data's class, if the command line names it."""
    for place, word in enumerate(options):
        if word == "--data":
            return place + 2
        if word.startswith("--data="):
            return place + 1
    return 0
