"""Configs of networks that are deployed as they are: files and services, which have no weights to train."""

from collections.abc import Mapping, Sequence
from typing import Any

from seg_mia.config.composition import stacked
from seg_mia.config.files import find_file
from seg_mia.config.networks import class_of, described, is_same
from seg_mia.config.options import Option
from seg_mia.config.spec import OWN, class_paths, parameters, resolve
from seg_mia.models.answers import AnswersOnly
from seg_mia.models.file import FileNetwork
from seg_mia.models.service import Service

_OWN = ("seg_mia.models.file.", "seg_mia.models.service.")


def weightless(config: str, options: Sequence[Option] = ()) -> bool:
    """Return whether a config's network, with options, is a file or a service; False for a trained run."""
    network = configured_network(config, options)
    return any(issubclass(kind, FileNetwork | Service) for kind in _deployed_kinds(network))


def answers_only(network: object) -> str | None:
    """Return the name of the class in a network's description that gives no gradients, if any."""
    named = [kind.__name__ for kind in _deployed_kinds(network) if issubclass(kind, AnswersOnly)]
    return named[0] if named else None


def configured_network(config: str, options: Sequence[Option] = ()) -> object:
    """Return the description of a config's network as options change it; None if it is a trained run.

    Args:
        config: a config's file or name.
        options: those below `model.network` count, in order.
    """
    network = _network_of(config, options)
    for option in options:
        keys = [key for key in option.name.split(".") if key != "init_args"]
        if keys[:2] == ["model", "network"] and option.value is not None:
            network = _changed(network, keys[2:], option.value)
    return network


def _changed(network: object, keys: Sequence[str], value: str) -> object:
    """Return a network's description with a value at nested arguments.

    A class that an option names keeps the arguments of earlier options that it takes, as in the parser; those
    of configs have been left out if it is another one (`stacked`).
    """
    description = {"class_path": network} if isinstance(network, str) else network
    description = dict(description) if isinstance(description, Mapping) else {}
    arguments = description.get("init_args")
    arguments = dict(arguments) if isinstance(arguments, Mapping) else {}
    if list(keys) in ([], ["class_path"]):
        stated = described(value)
        former, later = class_of(description), class_of(stated)
        if former and later and not is_same(later, former):
            takes = parameters(resolve(later)) if OWN.fullmatch(later) else {}
            description = {"init_args": {key: arguments[key] for key in arguments if key in takes}}
        return _merged(description, stated)
    if len(keys) == 1 and "." not in value:
        arguments[keys[0]] = value
    else:
        arguments[keys[0]] = _changed(arguments.get(keys[0]), keys[1:], value)
    return {**description, "init_args": arguments}


def _deployed_kinds(network: object) -> list[type]:
    """Return the classes of this package's deployed networks in a description, none of them imported anew."""
    return [resolve(path) for path in class_paths(network) if path.startswith(_OWN)]


def _network_of(config: str, options: Sequence[Option]) -> object:
    """Return the description of a config's network; None if it has none, or options name another class."""
    if not config.endswith((".yaml", ".yml")) and "/" in config:
        return None
    network: Any = None
    for layer in stacked([find_file(config)], options):
        value: Any = layer.content
        for key in ("model", "init_args", "network"):
            value = value.get(key) if isinstance(value, dict) else None
        network = _merged(network, value)
    return network


def _merged(network: object, value: object) -> object:
    """Return a network's description as a later config changes it."""
    if not isinstance(network, Mapping) or not isinstance(value, Mapping):
        return network if value is None else value
    former, later = network.get("init_args"), value.get("init_args")
    arguments = dict(former) if isinstance(former, Mapping) else {}
    for name, argument in later.items() if isinstance(later, Mapping) else ():
        arguments[name] = _merged(arguments.get(name), argument) if name == "network" else argument
    return {**network, **value, "init_args": arguments}
