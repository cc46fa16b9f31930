"""Victim and shadows of a membership attack get their prompts by one rule."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from seg_mia.checkpoint import Card, network_spec
from seg_mia.config.spec import class_paths, resolve
from seg_mia.errors import InputError
from seg_mia.experiment.attack_classes import shows_shadows_images
from seg_mia.experiment.request import RunRequest
from seg_mia.models.prompts import check_same_prompts


def check_shadow_prompts(
    attack: object, request: RunRequest, victim: tuple[Path, Card], shadows: Sequence[tuple[Path, Card]]
) -> None:
    """Raise InputError for shadows that an attack queries with prompts of another rule than the victim's.

    Args:
        attack: as of `is_membership`.
        request: with its options, and whether it is a control.
        victim: its checkpoint and metadata.
        shadows: the same of each shadow.
    """
    if not shadows or not shows_shadows_images(attack, request.options, control=bool(request.control)):
        return
    (file, card), networks = victim, {str(path): network_spec(other) for path, other in shadows}
    check_same_prompts((str(file), network_spec(card)), networks)


def imported_classes(network: object) -> object:
    """Return the description of a config's network after the import of its classes, where that succeeds.

    A class that cannot be imported is refused, with its reason, where the network is built.
    """
    for path in [network] if isinstance(network, str) else class_paths(network):
        with suppress(InputError, ImportError):
            resolve(path)
    return network
