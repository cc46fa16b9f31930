"""Networks in configs: one of another class takes no argument of the one that it replaces."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from seg_mia.config.files import Config, display_name, inline, is_inline, read_yaml
from seg_mia.config.options import Layer, Option

Keys = tuple[str, ...]
TASK: Keys = ("model", "init_args", "network")
INNER: Keys = ("init_args", "network")
"""Where a network has the network that it is around."""


def without_replaced(
    layers: Sequence[Layer], options: Sequence[Option] = (), *, tell: Callable[[str], object] | None = None
) -> list[Layer]:
    """Return configs without the networks that a later config or an option replaces by one of another class.

    Arguments of different classes have different meanings even where they share a name. A network inside a
    network (`network` of its arguments) counts for itself.

    Args:
        layers: configs in reading order.
        options: read after them; those that name a network's class count.
        tell: called with a line for each replaced network that had arguments.
    """
    kept = list[Layer]()
    for layer in layers:
        kept = [*_replaced(kept, _below(layer.content, TASK), display_name(layer.source), tell), layer]
    for option in options:
        spec = _stated(option)
        if spec is not None:
            kept = _replaced(kept, spec, option.flag, tell)
    return kept


def last_networks(options: Sequence[Option], *, tell: Callable[[str], object] | None = None) -> list[Option]:
    """Return options without those of a network that a later option replaces by one of another class.

    Args:
        options: of a command line, in reading order.
        tell: called with a line for each replaced network that had arguments.
    """
    kept = list[Option]()
    for option in options:
        kind, keys = class_of(_at(option)), _keys(option)
        stated = [class_of(_at(former)) for former in kept if _keys(former) == keys]
        old = next((former for former in reversed(stated) if former), None)
        if kind and old and not is_same(kind, old):
            below = [former for former in kept if _keys(former)[: len(keys)] == keys]
            names = {_keys(former)[-1] for former in below if _keys(former) != keys}
            names |= {name for former in below for name in _names(_below(_at(former), ("init_args",)))}
            if names and tell is not None:
                tell(f"{option.flag}: the network is {kind}; left out of {old}: {', '.join(sorted(names))}")
            kept = [former for former in kept if former not in below]
        kept.append(option)
    return kept


def _keys(option: Option) -> list[str]:
    """Return the dotted name of what an option is about, without `init_args` and a last `class_path`."""
    keys = [key for key in option.name.split(".") if key != "init_args"]
    return keys[:-1] if keys[-1:] == ["class_path"] else keys


def _at(option: Option) -> object:
    """Return what an option states about the network that it names; None for anything else."""
    keys = _keys(option)
    is_network = keys[:2] == ["model", "network"] and not set(keys[2:]) - {"network"}
    return described(option.value) if is_network and option.value is not None else None


def _replaced(
    layers: list[Layer], spec: object, source: str, tell: Callable[[str], object] | None
) -> list[Layer]:
    """Return configs as a later statement `spec` of the task's network leaves them."""
    path = TASK
    while spec is not None:
        kind = class_of(spec)
        stated = [class_of(_below(layer.content, path)) for layer in layers]
        old = next((former for former in reversed(stated) if former), None)
        if kind and old and not is_same(kind, old):
            names = {name for layer in layers for name in _names(_below(layer.content, (*path, "init_args")))}
            if names and tell is not None:
                tell(f"{source}: the network is {kind}; left out of {old}: {', '.join(sorted(names))}")
            return [_without(layer, path) for layer in layers]
        spec, path = _below(spec, INNER), (*path, *INNER)
    return layers


def class_of(spec: object) -> str | None:
    """Return the class path that a description states; None if it states none."""
    kind = spec.get("class_path") if isinstance(spec, dict) else spec
    return kind if isinstance(kind, str) else None


def is_same(kind: str, other: str) -> bool:
    """Return whether two class paths are equal; one may be a bare name."""
    short, long = sorted((kind, other), key=len)
    return short == long or ("." not in short and short == long.rpartition(".")[2])


def _stated(option: Option) -> object:
    """Return what an option states about the task's network, as a config would; None for anything else."""
    spec = _at(option)
    for _ in _keys(option)[2:] if spec is not None else ():
        spec = {"init_args": {"network": spec}}
    return spec


def described(value: str) -> Config:
    """Return what an option's value describes: an inline mapping, a file, or a class without arguments."""
    is_file = value.endswith((".yaml", ".yml")) and Path(value).is_file()
    return read_yaml(value) if is_inline(value) or is_file else {"class_path": value}


def _below(content: object, path: Keys) -> object:
    """Return the value at nested keys; None if there is none."""
    for key in path:
        content = content.get(key) if isinstance(content, dict) else None
    return content


def _names(arguments: object) -> list[str]:
    return [str(name) for name in arguments] if isinstance(arguments, dict) else []


def _without(layer: Layer, path: Keys) -> Layer:
    """Return a config without the value at nested keys."""
    if _below(layer.content, path) is None:
        return layer
    content: Config = copy.deepcopy(layer.content)
    parent: Any = _below(content, path[:-1])
    del parent[path[-1]]
    return Layer(inline(content), content, layer.trusted)
