"""A bundle's config as data: references are followed, and expressions are refused unless trusted.

MONAI marks a reference by `@`, `@network_def::channels`, copied text by `%`, and Python code by `$`. Code
that is a literal, such as `$[16, 32]`, or one reference, is read as data.
"""

import ast
import json
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

import yaml

from seg_mia.config.spec import is_plain
from seg_mia.errors import InputError

SEPARATOR = "::"
OF_COMPONENTS = ("_target_", "_desc_", "_requires_", "_disabled_", "_mode_")
"""Keys of a component that are not its arguments."""
_OF_CLASSES = ("class_path", "init_args", "dict_kwargs")
"""Keys of a mapping that this package would read as a class to import."""
_KEY = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_WORDS = re.compile(r"[\w +-]*", re.ASCII)
"""Text that names no module: an import path has a dot."""
_LAYER = re.compile(r"torch\.nn\.(modules\.\w+\.)?[A-Z]\w*", re.ASCII)
"""Layers of torch, the only classes that an argument may name."""
MOST_VALUES = 10_000
"""Values that an argument may have, all its references followed."""
MOST_NESTED, MOST_COMPONENTS = 10, 1000
"""Lists of transforms within one another, and transforms in all of them."""
_LITERAL_ERRORS = (ValueError, SyntaxError, TypeError, MemoryError, RecursionError)

Evaluate = Callable[[str], object]
"""Function that runs the expression at a place of the config, and returns its value."""


class BundleConfig:
    """Content of a bundle's config.

    Args:
        file: the file it was read from, for messages.
        content: its content.
        evaluate: function that runs expressions; None refuses them.
    """

    def __init__(self, file: Path, content: Mapping[str, Any], evaluate: Evaluate | None = None) -> None:
        self.file, self.content, self.evaluate = file, content, evaluate
        self._values = self._components = 0

    def component(self, place: str) -> dict[str, Any] | None:
        """Return the component at a place, its arguments unresolved; None for anything else.

        References to a component are followed.

        Raises:
            InputError: a reference to nothing.
        """
        value = self._at(self._followed(place))
        return value if isinstance(value, dict) and "_target_" in value else None

    def has(self, place: str) -> bool:
        """Return whether there is a value other than null at a place."""
        return self._at(place) is not None

    def listed(self, place: str) -> list[tuple[str, dict[str, Any]]]:
        """Return the components of the list at a place, in order, with their places; disabled ones are not.

        The list is that of a Compose, of which some may be nested, else the place's component alone.

        Raises:
            InputError: something else in the list, a reference to nothing, or an expression.
        """
        self._components = 0
        return self._listed(place, 0)

    def _listed(self, place: str, depth: int) -> list[tuple[str, dict[str, Any]]]:
        component = self.component(place)
        self._components += 1
        if component is None or depth > MOST_NESTED or self._components > MOST_COMPONENTS:
            raise InputError(
                f"{self.file}: {place} must be a transform, got {shortened(self._at(place))}; write it as a "
                "component"
            )
        if self.resolved(component.get("_disabled_", False), f"{place}{SEPARATOR}_disabled_"):
            return []
        place = self._followed(place)
        if "transforms" not in component:
            return [(place, component)]
        inner = self._followed(f"{place}{SEPARATOR}transforms")
        transforms = self._at(inner)
        if not isinstance(transforms, list):
            raise InputError(
                f"{self.file}: {inner} must be a list of transforms, got {shortened(transforms)}; correct it"
            )
        return [
            item
            for number in range(len(transforms))
            for item in self._listed(f"{inner}{SEPARATOR}{number}", depth + 1)
        ]

    def _followed(self, place: str) -> str:
        """Return the place that a place refers to, itself if it refers to none."""
        value, seen = self._at(place), [place]
        while isinstance(value, str) and (target := _reference(value)) is not None and target not in seen:
            value, seen = self._at(target, place), [*seen, target]
        return seen[-1]

    def arguments(
        self, component: Mapping[str, Any], place: str, ignored: Collection[str] = ()
    ) -> dict[str, Any]:
        """Return a component's arguments but the ignored ones, as plain values that name no class.

        Layers of `torch.nn` may be named.

        Raises:
            InputError: an expression, a reference to nothing, a component or a class as an argument, or text
                that may be an import path.
        """
        names = [name for name in component if name not in {*OF_COMPONENTS, *ignored}]
        arguments = {name: self.resolved(component[name], f"{place}{SEPARATOR}{name}") for name in names}
        self._check_names(arguments, place)
        return arguments

    def resolved(self, value: Any, place: str) -> Any:
        """Return a value without references and expressions.

        Args:
            value: the value at `place`.
            place: keys joined by `::`.

        Raises:
            InputError: an expression, a reference to nothing, a component or a class, or too many values.
        """
        self._values = 0
        try:
            return self._resolved(value, place, ())
        except RecursionError:
            raise InputError(
                f"{self.file}: {place} is nested too deeply; write its value at its place"
            ) from None

    def _resolved(self, value: Any, place: str, seen: tuple[str, ...]) -> Any:
        """Return a value as `resolved`; `seen` are the places whose references led here."""
        self._values += 1
        if self._values > MOST_VALUES:
            raise InputError(
                f"{self.file}: {place} must have at most {MOST_VALUES} values with its references followed, "
                "got more; write its value at its place"
            )
        if isinstance(value, Mapping):
            if found := next((key for key in ("_target_", *_OF_CLASSES) if key in value), None):
                kind = "component" if found == "_target_" else "class"
                raise InputError(
                    f"{self.file}: {place} must be a plain value, got the {kind} {shortened(value[found])}; "
                    "name the network in a config of your own instead of --bundle"
                )
            return {
                key: self._resolved(item, f"{place}{SEPARATOR}{key}", seen) for key, item in value.items()
            }
        if isinstance(value, list):
            return [
                self._resolved(item, f"{place}{SEPARATOR}{number}", seen) for number, item in enumerate(value)
            ]
        if not isinstance(value, str) or not value.startswith(("@", "%", "$")):
            return value
        target = _reference(value)
        if target is None:
            return self._literal(value, place)
        if target in seen:
            raise InputError(f"{self.file}: {place} refers to itself, {value!r}; write its value")
        return self._resolved(self._at(target, place), target, (*seen, target))

    def _check_names(self, value: Any, place: str) -> None:
        """Raise InputError for plain values from which a parser could import a module."""
        if isinstance(value, Mapping):
            for key, item in value.items():
                if not isinstance(key, str) or not _KEY.fullmatch(key) or key in _OF_CLASSES:
                    raise InputError(
                        f"{self.file}: {place} must have names of arguments as keys, got {shortened(key)}; "
                        "correct the bundle"
                    )
                self._check_names(item, f"{place}{SEPARATOR}{key}")
        elif isinstance(value, list):
            for number, item in enumerate(value):
                self._check_names(item, f"{place}{SEPARATOR}{number}")
        elif isinstance(value, str) and not _is_harmless(value):
            raise InputError(
                f"{self.file}: {place} must be a plain value or a layer of torch.nn, got {shortened(value)}, "
                "which is not imported; name the network in a config of your own instead of --bundle"
            )

    def _literal(self, text: str, place: str) -> Any:
        """Return the value of an expression that is a literal, or of a trusted one."""
        if text.startswith("$"):
            try:
                return _listed(ast.literal_eval(text[1:].strip()))
            except _LITERAL_ERRORS:
                pass
        if self.evaluate is None or not text.startswith("$"):
            what = "is code" if text.startswith("$") else "refers to another file"
            raise InputError(
                f"{self.file}: {place} must be a plain value, got {text!r}, which {what} and was not read; "
                f"write its value, or if you trust the bundle: --trust {self.file.parent.parent}"
            )
        value = _listed(self.evaluate(place))
        if not is_plain(value):
            raise InputError(
                f"{self.file}: {place} must give a plain value, {text!r} gave {type(value).__name__}; name "
                "the network in a config of your own instead of --bundle"
            )
        return value

    def _at(self, place: str, referring: str | None = None) -> Any:
        """Return the unresolved value at a place; None if there is none and nothing refers to it."""
        value: Any = self.content
        for key in place.split(SEPARATOR):
            if isinstance(value, list) and key.isdecimal() and int(key) < len(value):
                value = value[int(key)]
            elif isinstance(value, Mapping) and key in value:
                value = value[key]
            elif referring is None:
                return None
            else:
                raise InputError(
                    f"{self.file}: {referring} refers to {place}, which is not there; copy the bundle again"
                )
        return value


def read_mapping(files: Collection[Path]) -> tuple[Path, dict[str, Any]]:
    """Return the first of some JSON or YAML files that exists, and the mapping in it.

    Raises:
        InputError: none exists, or it holds no mapping.
    """
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        raise InputError(
            f"a MONAI bundle must hold {' or '.join(map(str, files))}, found none; name the bundle's folder"
        )
    try:
        text = file.read_text(encoding="utf-8")
        content = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise InputError(
            f"{file} must be a readable {file.suffix[1:].upper()} file, got {type(error).__name__}: "
            f"{' '.join(str(error).split())[:120]}; copy the bundle again"
        ) from None
    if not isinstance(content, dict):
        raise InputError(f"{file} must hold a mapping, got {type(content).__name__}; copy the bundle again")
    return file, content


def monai_evaluation(folder: Path, content: Mapping[str, Any]) -> Evaluate:
    """Return the function by which MONAI runs the expressions of a trusted bundle.

    Raises:
        InputError: MONAI is not installed, or an expression fails.
    """
    try:
        from monai.bundle import ConfigParser
    except ModuleNotFoundError:
        raise InputError("expressions of a bundle need MONAI; pip install 'seg_mia[monai]'") from None
    parser = ConfigParser({**content, "bundle_root": str(folder)})

    def evaluate(place: str) -> object:
        try:
            if "imports" in content:
                parser.get_parsed_content("imports")
            value: object = parser.get_parsed_content(place)
        except Exception as error:  # code of a bundle may raise anything
            raise InputError(
                f"{place} of the bundle {folder} cannot be computed: {type(error).__name__}: {error}"
            ) from error
        return value

    return evaluate


def _reference(text: str) -> str | None:
    """Return the place that a text refers to, `@a::b`, `%a::b` or `$@a::b` with `#` as the old separator."""
    bare = text.removeprefix("$").strip()
    if not bare.startswith(("@", "%")):
        return None
    place = bare[1:].replace("#", SEPARATOR)
    keys = place.split(SEPARATOR)
    return place if all(key.replace("_", "a").isalnum() for key in keys) else None


def _is_harmless(text: str) -> bool:
    """Return whether text names no module to import but torch's layers; YAML reads 1e-5 as text."""
    if _WORDS.fullmatch(text) or _LAYER.fullmatch(text):
        return True
    try:
        float(text)
    except ValueError:
        return False
    return True


def _listed(value: object) -> Any:
    """Return a value with lists in place of tuples."""
    if isinstance(value, list | tuple):
        return [_listed(item) for item in value]
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    return value
