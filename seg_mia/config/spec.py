"""Specifications: a class path and plain arguments, checked before any import."""

import inspect
import re
import sys
import types
from collections.abc import Collection, Mapping
from enum import Enum
from importlib import import_module
from typing import Any, Literal, TypedDict, Union, get_args, get_origin, get_type_hints

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
SERVICE = "seg_mia.models.service.Service"
RUNS_CODE = {"seg_mia.models.file.TorchScript", "seg_mia.models.file.Exported", SERVICE}
"""Classes of this package that run code, or reach a service, named by their arguments."""
SUCCESSORS = {
    "seg_mia.membership.fleet.scorers.LiraOffline": "seg_mia.membership.fleet.scorers.Lira (mode: offline)",
    "seg_mia.membership.scorers.Calibrated": "seg_mia.membership.fleet.scorers.Calibrated",
}
"""What the classes of earlier versions are called now, by class path."""
_LAYER = re.compile(r"torch\.nn(\.\w+)*\.[A-Z]\w*")
"""Classes permitted as an argument: torch's own layers, which are already imported."""
_WORD = re.compile(r"(?!(null|none|true|false|yes|no|on|off|nan|inf|infinity|y|n)$)[a-z_][\w-]*", re.I | re.A)
"""Text that every parser reads as text."""


class ClassSpec(TypedDict):
    """A class and its arguments.

    Attributes:
        class_path: module and name of the class.
        init_args: its arguments by name; plain values, or specifications of the same form.
    """

    class_path: str
    init_args: dict[str, Any]


def is_plain(value: object) -> bool:
    """Return whether `value` consists only of None, bool, int, float, str, lists and string-keyed dicts."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    return value is None or type(value) in {bool, int, float, str}


def class_paths(value: object) -> list[str]:
    """Return every class path in a specification, at any depth."""
    if isinstance(value, Mapping):
        paths = [str(value["class_path"])] if "class_path" in value else []
        return paths + [path for item in value.values() for path in class_paths(item)]
    if isinstance(value, list | tuple):
        return [path for item in value for path in class_paths(item)]
    return []


def paths_to_trust(value: object) -> list[str]:
    """Return the paths in a specification, at any depth, that a checkpoint may name only if trusted.

    They are classes outside `seg_mia` and those of `RUNS_CODE`; for a service, its function.
    """
    if isinstance(value, list | tuple):
        return [path for item in value for path in paths_to_trust(item)]
    if not isinstance(value, Mapping):
        return []
    nested = [path for item in value.values() for path in paths_to_trust(item)]
    if "class_path" not in value:
        return nested
    path, arguments = str(value["class_path"]), value.get("init_args")
    function = arguments.get("function") if isinstance(arguments, Mapping) and path == SERVICE else None
    if function is not None:
        return [str(function), *nested]
    return nested if OWN.fullmatch(path) and path not in RUNS_CODE else [path, *nested]


def is_self_contained(spec: object) -> bool:
    """Return whether a network's outputs follow from its checkpoint.

    All its classes are of this package, and a service has a version.
    """
    if isinstance(spec, list | tuple):
        return all(map(is_self_contained, spec))
    if not isinstance(spec, Mapping):
        return True
    path, arguments = str(spec.get("class_path", "seg_mia.")), spec.get("init_args")
    if path == SERVICE and not (isinstance(arguments, Mapping) and arguments.get("version")):
        return False
    return path.startswith("seg_mia.") and all(map(is_self_contained, spec.values()))


def check_spec(spec: object, *, trust: Collection[str] = (), base: type | None = None) -> None:
    """Raise InputError unless `spec` has permitted classes with arguments they declare.

    All class paths are checked before the first import, so that a refused specification imports nothing.

    Args:
        spec: {"class_path": str, "init_args": {name: plain value or another specification}}.
        trust: permitted class paths outside `seg_mia`.
        base: required base class of the outermost class.
    """
    trust = {trust} if isinstance(trust, str) else set(trust)
    if not isinstance(spec, Mapping) or not is_plain(dict(spec)):
        raise InputError("must hold plain values under class_path and init_args")
    for path in paths_to_trust(spec):
        if path not in trust:
            kind = "outside seg_mia" if path not in RUNS_CODE else "which runs code of a file or a service"
            raise InputError(f"names the class {path!r} {kind}; if you trust it: --trust {path}")
    _check_arguments(spec, base)


def resolve(path: str) -> type:
    """Return the class at a checked path; raise InputError unless it is a class defined there."""
    module, _, name = path.rpartition(".")
    if not module:
        raise InputError(f"names {path!r}, not a class path; write module.Class")
    try:
        candidate = getattr(import_module(module), name, None)
    except ModuleNotFoundError as error:
        raise InputError(f"names {path!r}, but {error}; run where it can be imported (PYTHONPATH)") from None
    if path in SUCCESSORS:
        raise InputError(f"names {path!r}, which is now {SUCCESSORS[path]}; write that instead")
    if not isinstance(candidate, type) or (path.startswith("seg_mia.") and candidate.__module__ != module):
        raise InputError(f"names {path!r}, which is not a class defined in {module}")
    return candidate


def check_classes(spec: object) -> None:
    """Raise InputError if a class path names a function, which a checkpoint cannot name."""
    for path in class_paths(spec):
        module, _, name = path.rpartition(".")
        if inspect.isfunction(getattr(sys.modules.get(module), name, None)):
            raise InputError(
                f"class_path must name a class, {path} is a function; write a class that calls "
                "it and name that"
            )


def _check_arguments(spec: Mapping[str, object], base: type | None) -> None:
    path, given = spec.get("class_path"), spec.get("init_args", {})
    if set(spec) - {"class_path", "init_args"} or not isinstance(path, str) or not isinstance(given, Mapping):
        raise InputError(f"must hold only class_path and init_args, got {sorted(spec)}")
    kind = resolve(path)
    if base is not None and not issubclass(kind, base):
        raise InputError(f"names {path!r} instead of a {base.__name__}")
    declared = parameters(kind)
    forwards = not OWN.fullmatch(path) and _passes_on(kind)
    for name, value in given.items():
        if name in _in_weights(path) and value is not None:
            raise InputError(f"passes {name}={value!r} to {kind.__name__}, whose content the weights hold")
        if name not in declared and not forwards:
            raise InputError(
                f"passes an argument {name!r} to {kind.__name__}, which takes {', '.join(declared) or 'none'}"
            )
        kind_of_value = declared.get(name, Any)
        if not fits(value, kind_of_value):
            raise InputError(
                f"passes {kind.__name__}({name}={value!r}), not a {_name(kind_of_value)} of plain values"
            )


def parameters(kind: type) -> dict[str, object]:
    """Return the constructor's parameters and declared types, through `**kwargs` to the base's."""
    declared: dict[str, object] = {}
    for owner in kind.__mro__:
        init = owner.__dict__.get("__init__")
        if init is None:
            continue
        hints = _hints(owner)
        signature = list(inspect.signature(init).parameters.values())[1:]
        for parameter in signature:
            if parameter.kind not in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}:
                declared.setdefault(parameter.name, hints.get(parameter.name, Any))
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature):
            break
    return declared


def _passes_on(kind: type) -> bool:
    """Return whether a constructor takes arguments that it does not name.

    `segmentation_models_pytorch.Unet` is an example: a parser reads their names off its source.
    """
    given = inspect.signature(kind.__init__).parameters.values()  # type: ignore[misc]
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in given)


def _hints(owner: type) -> dict[str, object]:
    """Return the types declared by a class's own constructor; none if they cannot be resolved."""
    try:
        return get_type_hints(owner.__dict__["__init__"], vars(sys.modules[owner.__module__]))
    except (NameError, TypeError, AttributeError):
        return {}


def restorable(spec: ClassSpec) -> ClassSpec:
    """Return `spec` without defaults of third-party classes that plain values cannot represent.

    Examples are tuples, classes and functions: a parser writes them as lists and text, and reads back another
    value. If omitted, the constructor restores them. Values other than defaults are kept.
    """
    path, given = spec["class_path"], spec["init_args"]
    left_out = unsayable(path, given) | _in_weights(path)
    restored = {name: _restorable(value) for name, value in given.items() if name not in left_out}
    return {"class_path": path, "init_args": restored}


def _restorable(value: object) -> object:
    """Return an argument's value, as `restorable` if it is a specification."""
    if not isinstance(value, Mapping):
        return value
    path, given = value.get("class_path"), value.get("init_args", {})
    if not isinstance(path, str) or not isinstance(given, Mapping):
        return dict(value)
    return {**value, **restorable({"class_path": path, "init_args": dict(given)})}


def _in_weights(path: str) -> set[str]:
    """Return arguments of a class of this package whose content its weights hold, such as a file."""
    return set(getattr(resolve(path), "in_weights", ())) if path.startswith("seg_mia.models.") else set()


def unsayable(path: str, given: Mapping[str, object]) -> set[str]:
    """Return arguments of a third-party class whose defaults plain values cannot represent."""
    if OWN.fullmatch(path):
        return set()
    kind = resolve(path)
    declared = parameters(kind)
    standing = {name: value for name, value in defaults(kind).items() if name in given}
    unsaid = {name for name, value in standing.items() if _is_written(given[name], value)}
    return {
        name for name in unsaid if not (_is_exact(standing[name]) and fits(given[name], declared.get(name)))
    }


def defaults(kind: type) -> dict[str, object]:
    """Return the constructor's parameters that have a default, through `**kwargs` to the base's."""
    standing: dict[str, object] = {}
    for owner in kind.__mro__:
        init = owner.__dict__.get("__init__")
        if init is None:
            continue
        signature = list(inspect.signature(init).parameters.values())[1:]
        for parameter in signature:
            standing.setdefault(parameter.name, parameter.default)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature):
            break
    return {name: value for name, value in standing.items() if value is not inspect.Parameter.empty}


def _is_exact(value: object) -> bool:
    """Return whether a value survives writing and reading: plain, and without tuples."""
    if isinstance(value, list):
        return all(map(_is_exact, value))
    return not isinstance(value, dict | tuple) and is_plain(value)


def _is_written(value: Any, default: Any) -> bool:
    """Return whether `value` is a parser's written form of `default`."""
    if isinstance(default, list | tuple):
        is_same = isinstance(value, list | tuple) and len(value) == len(default)
        return is_same and all(map(_is_written, value, default))
    if isinstance(default, dict):
        is_same = isinstance(value, dict) and value.keys() == default.keys()
        return is_same and all(_is_written(value[key], default[key]) for key in default)
    if isinstance(default, Enum):
        return value in (default.name, default)
    if is_plain(default):
        return bool(type(value) is type(default) and value == default)
    if not isinstance(value, str):  # parsed, perhaps copied
        return value is default or (type(value) is type(default) and repr(value) == repr(default))
    module, _, name = value.rpartition(".")
    named = getattr(sys.modules.get(module), name, None)
    return named is default or value == str(default) or value.startswith("Unable to serialize instance ")


def as_declared(value: Any, declared: Any) -> Any:
    """Return a plain value converted to the declared type if necessary: a tuple, or a torch layer."""
    origin, arguments = get_origin(declared), get_args(declared)
    if origin in {Union, types.UnionType}:
        fitting = [option for option in arguments if fits(value, option)]
        return as_declared(value, fitting[0]) if fitting else value
    if isinstance(value, str) and (origin or declared) is type:
        return _layer(value)
    if isinstance(value, list | tuple):
        inner = arguments[0] if arguments else Any
        items = [as_declared(item, inner) for item in value]
        return tuple(items) if (origin or declared) is tuple else items
    return value


def _layer(path: str) -> type | None:
    """Return an imported layer of torch, or None."""
    module, _, name = path.rpartition(".")
    candidate = getattr(sys.modules.get(module), name, None) if _LAYER.fullmatch(path) else None
    return candidate if isinstance(candidate, type) else None


def fits(value: object, declared: Any) -> bool:
    """Return whether a plain value is of a declared type."""
    origin, arguments = get_origin(declared), get_args(declared)
    if declared in {Any, object}:
        return _is_harmless(value)
    if origin in {Union, types.UnionType}:
        return any(fits(value, option) for option in arguments)
    if origin is Literal:
        return any(value == option and type(value) is type(option) for option in arguments)
    if declared in _PLAIN:
        return type(value) in _PLAIN[declared]
    if (origin or declared) is type:
        layer = _layer(value) if isinstance(value, str) else None
        return layer is not None and all(_is_below(layer, base) for base in arguments)
    return _fits_compound(value, declared, origin, arguments)


def _is_below(kind: type, base: Any) -> bool:
    return base is Any or (isinstance(base, type) and issubclass(kind, base))


def _is_harmless(value: object) -> bool:
    """Return whether a parser without type information leaves a plain value unchanged.

    It may read text as YAML, which may contain a class path: text must be a single word.
    """
    if isinstance(value, dict):
        return not class_paths(value) and all(map(_is_harmless, (*value, *value.values())))
    if isinstance(value, list | tuple):
        return all(map(_is_harmless, value))
    return not isinstance(value, str) or _WORD.fullmatch(value) is not None


def _fits_compound(value: object, declared: Any, origin: Any, arguments: tuple[Any, ...]) -> bool:
    kind = origin or declared
    if not isinstance(kind, type) or kind is type or not isinstance(value, list | tuple | dict):
        return False
    if issubclass(kind, dict | Mapping) and isinstance(value, dict):
        return not class_paths(value) and all(
            fits(item, arguments[1]) for item in value.values() if arguments
        )
    if issubclass(list, kind) or issubclass(kind, list | tuple):
        inner = arguments[0] if arguments else Any
        return isinstance(value, list | tuple) and all(fits(item, inner) for item in value)
    if isinstance(value, dict) and "class_path" in value:
        _check_arguments(value, kind)
        return True
    return False


def _name(declared: Any) -> str:
    return declared.__name__ if isinstance(declared, type) else str(declared).replace("typing.", "")
