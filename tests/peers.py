"""Frameworks that tests compare with, in an environment of their own (`make peers`)."""

import importlib
import warnings
from importlib.util import find_spec
from typing import Any


def missing(names: tuple[str, ...]) -> list[str]:
    """Return the packages that are not installed."""
    return [name for name in names if find_spec(name) is None]


def imported(name: str) -> Any:
    """Return a module, imported without its own warnings; None where its package is not installed."""
    if missing((name.partition(".")[0],)):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)
