"""Config names and files: shipped configs, found from any working directory."""

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from seg_mia.errors import InputError

Config = dict[str, Any]
"""YAML content: options by name, values of any type."""
TRAININGS = "."
"""Kind of the configs outside any folder: one or more for each data set."""
BARE = (TRAININGS, "defended", "audit", "texture")
"""Kinds accepted by name in `--config`."""


def config_folder() -> Path:
    """Return the folder of shipped configs: inside the installed package, else beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "lightning_configs"
    return installed if installed.is_dir() else package.parent / "lightning_configs"


def find_config(name: str, kind: str = "") -> Path:
    """Return the file of `name`: a path, or a bare name among the shipped configs of a kind.

    Without a kind, among all that `--config` accepts. Raises InputError with the known names if there is no
    such file.
    """
    shipped = [folder / file for folder in _folders(kind) for file in (name, f"{name}.yaml")]
    for candidate in (Path(name), *shipped):
        if candidate.is_file():
            return candidate
    label = f"{kind} config" if kind else "config"
    raise InputError(
        f"no {label} {name!r}: not a file, and the known names are {', '.join(known(kind)) or 'none'}"
    )


def known(kind: str = "") -> list[str]:
    """Return the bare names of the shipped configs of a kind, or of all that `--config` accepts."""
    return sorted(path.stem for folder in _folders(kind) for path in folder.glob("*.yaml"))


def _folders(kind: str) -> list[Path]:
    return [config_folder() / part for part in ((kind,) if kind else BARE)]


def is_inline(config: str) -> bool:
    """Return whether a config is given as text instead of a file name."""
    return config.lstrip().startswith("{")


def find_file(name: str, kind: str = "") -> str:
    """Return the file of a name; inline configs, and class paths of a kind, are returned unchanged."""
    is_path = "/" in name or name.endswith((".yaml", ".yml"))
    class_path = kind != "" and "." in name and not is_path and _importable(name.rpartition(".")[0])
    return name if is_inline(name) or class_path else str(find_config(name, kind))


def _importable(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def display_name(file: str) -> str:
    """Return a config's name if it is shipped, else its path or text."""
    is_shipped = not is_inline(file) and Path(file).parent in _folders("")
    return Path(file).name if is_shipped else file


def named(file: str) -> str:
    """Return the folder name of a config or a class path."""
    return Path(file).stem if file.endswith((".yaml", ".yml")) else file.rpartition(".")[2].lower()


def inline(value: object) -> str:
    """Return plain values as JSON that is also valid YAML: infinity is `.inf` there."""
    words = {"Infinity": ".inf", "-Infinity": "-.inf", "NaN": ".nan"}
    parts = r'"(?:\\.|[^"\\])*"|-?Infinity|NaN'
    return re.sub(parts, lambda match: words.get(match[0], match[0]), json.dumps(value))


def read_yaml(config: str) -> Config:
    """Return the mapping in a YAML file, or in an inline text."""
    where = "the inline config" if is_inline(config) else config
    try:
        text = config if is_inline(config) else Path(config).read_text(encoding="utf-8")
        content = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{where} must be valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise InputError(f"{where} must hold a mapping of options, got {type(content).__name__}")
    return content
