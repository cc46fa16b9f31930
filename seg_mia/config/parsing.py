"""Parser support: available classes, parsing of a command, and plain values of parsed settings."""

import pkgutil
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

from jsonargparse import ArgumentParser, Namespace


def import_all(*packages: ModuleType) -> None:
    """Import all modules of some packages, recursively, so that help lists their classes."""
    for package in packages:
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            import_module(module.name)


def parsed_once(parser: ArgumentParser, of_command: ArgumentParser, words: Sequence[str]) -> Namespace:
    """Parse a command and its options by the command's own parser.

    The parser of all commands calls it, and then checks each value once more, and each option of a class
    again. It alone prints settings.

    Args:
        parser: parser of all commands.
        of_command: the command's own.
        words: the command, then its options.

    Raises:
        argparse.ArgumentError: invalid options.
    """
    command, *options = words
    if any(option.partition("=")[0] == "--print_config" for option in options):
        parser.parse_args(words)  # ends the process
    parsed = of_command.parse_args(options)
    return Namespace(config=None, subcommand=command, **{command: parsed})  # type: ignore[no-untyped-call]


def plain_settings(part: Any) -> Any:
    """Return a part of the parsed config as plain values, without the parser's metadata."""
    if isinstance(part, Namespace):
        part = part.as_dict()
    if isinstance(part, dict):
        return {key: plain_settings(value) for key, value in part.items() if not str(key).startswith("__")}
    return part
