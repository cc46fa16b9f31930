"""What a parser is given and what it gives back: classes to choose from, plain values."""

import pkgutil
from importlib import import_module
from types import ModuleType
from typing import Any

from jsonargparse import Namespace


def import_all(*packages: ModuleType) -> None:
    """Import every module of some packages and of those inside them, so that help lists their classes."""
    for package in packages:
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            import_module(module.name)


def plain_settings(part: Any) -> Any:
    """Return a part of the parsed config as plain values, without the parser's own notes."""
    if isinstance(part, Namespace):
        part = part.as_dict()
    if isinstance(part, dict):
        return {key: plain_settings(value) for key, value in part.items() if not key.startswith("__")}
    return part
