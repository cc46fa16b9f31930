"""Specifications: a class path and plain arguments, checked before anything they name is imported."""

import inspect
import re
import sys
import types
from collections.abc import Collection, Mapping
from importlib import import_module
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from seg_mia.errors import InputError

_PLAIN: dict[Any, set[type]] = {
    None: {type(None)},
    type(None): {type(None)},
    bool: {bool},
    int: {int},
    float: {int, float},
    str: {str},
}
OWN = re.compile(r"seg_mia(\.[a-z_][a-z0-9_]*)+\.[A-Za-z]\w*")


def is_plain(value: object) -> bool:
    """Say whether `value` is made of None, bool, int, float, str, lists and string-keyed dicts alone."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    return value is None or type(value) in {bool, int, float, str}


def class_paths(value: object) -> list[str]:
    """Return every class path that a specification names, at any depth."""
    if isinstance(value, Mapping):
        own = [str(value["class_path"])] if "class_path" in value else []
        return own + [path for item in value.values() for path in class_paths(item)]
    if isinstance(value, list | tuple):
        return [path for item in value for path in class_paths(item)]
    return []


def check_spec(spec: object, *, trust: Collection[str] = (), base: type | None = None) -> None:
    """Raise InputError unless `spec` names allowed classes and gives them arguments they declare.

    All class paths are checked before the first import, so that a refused specification imports nothing.

    Args:
        spec: {"class_path": str, "init_args": {name: plain value or another specification}}.
        trust: class paths outside `seg_mia` that are allowed.
        base: the class that the outermost one must derive from.
    """
    trust = {trust} if isinstance(trust, str) else set(trust)
    if not isinstance(spec, Mapping) or not is_plain(dict(spec)):
        raise InputError("must hold plain values under class_path and init_args")
    for path in class_paths(spec):
        if path not in trust and not OWN.fullmatch(path):
            raise InputError(
                f"names the class {path!r}, which is not part of seg_mia; if you trust it: --trust {path}"
            )
    _check_arguments(spec, base)


def resolve(path: str) -> type:
    """Return the class at a path that was checked; raise InputError unless it is a class defined there."""
    module, _, name = path.rpartition(".")
    if not module:
        raise InputError(f"names {path!r}, which is no class path; write module.Class")
    try:
        found = getattr(import_module(module), name, None)
    except ModuleNotFoundError as error:
        raise InputError(f"names {path!r}, but {error}; run where it can be imported (PYTHONPATH)") from None
    if not isinstance(found, type) or (path.startswith("seg_mia.") and found.__module__ != module):
        raise InputError(f"names {path!r}, which is not a class defined in {module}")
    return found


def _check_arguments(spec: Mapping[str, Any], base: type | None) -> None:
    unknown = set(spec) - {"class_path", "init_args"}
    if (
        unknown
        or not isinstance(spec.get("class_path"), str)
        or not isinstance(spec.get("init_args", {}), Mapping)
    ):
        raise InputError(f"must hold class_path and init_args alone, got {sorted(spec)}")
    kind = resolve(spec["class_path"])
    if base is not None and not issubclass(kind, base):
        raise InputError(f"names {spec['class_path']!r} where a {base.__name__} is needed")
    declared = parameters(kind)
    for name, value in spec.get("init_args", {}).items():
        if name not in declared:
            raise InputError(
                f"gives {kind.__name__} an argument {name!r}, it takes {', '.join(declared) or 'none'}"
            )
        if not _fits(value, declared[name]):
            raise InputError(
                f"gives {kind.__name__}({name}={value!r}), which is not a {_name(declared[name])}"
            )


def parameters(kind: type) -> dict[str, Any]:
    """Return the constructor's parameters and declared types, through `**kwargs` to the base's."""
    found: dict[str, Any] = {}
    for owner in kind.__mro__:
        init = owner.__dict__.get("__init__")
        if init is None:
            continue
        hints = get_type_hints(init, vars(sys.modules[owner.__module__]))
        signature = list(inspect.signature(init).parameters.values())[1:]
        for parameter in signature:
            if parameter.kind not in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}:
                found.setdefault(parameter.name, hints.get(parameter.name, Any))
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature):
            break
    return found


def _fits(value: object, declared: Any) -> bool:
    origin, arguments = get_origin(declared), get_args(declared)
    if declared in {Any, object}:  # a parser may read a string as YAML, and a class path out of that
        return not isinstance(value, str | dict | list | tuple)
    if origin in {Union, types.UnionType}:
        return any(_fits(value, option) for option in arguments)
    if origin is Literal:
        return any(value == option and type(value) is type(option) for option in arguments)
    if declared in _PLAIN:
        return type(value) in _PLAIN[declared]
    return _fits_compound(value, declared, origin, arguments)


def _fits_compound(value: object, declared: Any, origin: Any, arguments: tuple[Any, ...]) -> bool:
    kind = origin or declared
    if not isinstance(kind, type) or kind is type or not isinstance(value, list | tuple | dict):
        return False
    if issubclass(kind, dict | Mapping) and isinstance(value, dict):
        return not class_paths(value) and all(
            _fits(item, arguments[1]) for item in value.values() if arguments
        )
    if issubclass(list, kind) or issubclass(kind, list | tuple):
        inner = arguments[0] if arguments else Any
        return isinstance(value, list | tuple) and all(_fits(item, inner) for item in value)
    if isinstance(value, dict) and "class_path" in value:
        _check_arguments(value, kind)
        return True
    return False


def _name(declared: Any) -> str:
    return declared.__name__ if isinstance(declared, type) else str(declared).replace("typing.", "")
