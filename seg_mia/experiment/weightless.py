"""Configs of networks that are deployed as they are: files and services, which have no weights to train."""

from typing import Any

from seg_mia.config.composition import stacked
from seg_mia.config.files import find_file
from seg_mia.config.spec import class_paths, resolve
from seg_mia.models.answers import AnswersOnly
from seg_mia.models.file import FileNetwork
from seg_mia.models.service import Service

_OWN = ("seg_mia.models.file.", "seg_mia.models.service.")


def weightless(config: str) -> bool:
    """Return whether a config's network is a file or a service; False for a trained run."""
    return any(issubclass(kind, FileNetwork | Service) for kind in _deployed_kinds(_network_of(config)))


def answers_only(network: object) -> str | None:
    """Return the name of the class in a network's description that gives no gradients, if any.

    Args:
        network: class path and arguments, or a config's file or name.
    """
    network = _network_of(network) if isinstance(network, str) else network
    named = [kind.__name__ for kind in _deployed_kinds(network) if issubclass(kind, AnswersOnly)]
    return named[0] if named else None


def _deployed_kinds(network: object) -> list[type]:
    """Return the classes of this package's deployed networks in a description, none of them imported anew."""
    return [resolve(path) for path in class_paths(network) if path.startswith(_OWN)]


def _network_of(config: str) -> object:
    """Return the description of a config's network; None if it has none or is a trained run."""
    if not config.endswith((".yaml", ".yml")) and "/" in config:
        return None
    network: Any = None
    for layer in stacked([find_file(config)]):
        value: Any = layer.content
        for key in ("model", "init_args", "network"):
            value = value.get(key) if isinstance(value, dict) else None
        network = network if value is None else value
    return network
