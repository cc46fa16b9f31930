"""Parser support: available classes, and plain values of parsed settings."""

import pkgutil
from importlib import import_module
from types import ModuleType
from typing import Any

from jsonargparse import Namespace


def import_all(*packages: ModuleType) -> None:
    """Import all modules of some packages, recursively, so that help lists their classes."""
    for package in packages:
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            import_module(module.name)


def plain_settings(part: Any) -> Any:
    """Return a part of the parsed config as plain values, without the parser's metadata."""
    if isinstance(part, Namespace):
        part = part.as_dict()
    if isinstance(part, dict):
        return {key: plain_settings(value) for key, value in part.items() if not str(key).startswith("__")}
    return part
