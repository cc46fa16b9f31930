"""Command lines and files of audits, parsed into their settings."""

import argparse
import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TypeVar

from jsonargparse import ArgumentParser, set_parsing_settings

from seg_mia.config.composition import refuse_training
from seg_mia.config.files import inline, is_inline, read_yaml
from seg_mia.config.messages import one_line
from seg_mia.config.options import Layer, Option, options_in, taken, words_of
from seg_mia.errors import InputError

LISTS = ("attacks", "defences", "seeds", "trust", "fail_on")
PREDICTIONS = "predictions"
Kind = TypeVar("Kind")


def audit_options(words: Sequence[str]) -> tuple[list[str], list[Option]]:
    """Return the audit files of a command line, and its other options."""
    return taken(options_in(_listed(words)), "config")


def is_of_predictions(words: Sequence[str]) -> bool:
    """Return whether a command line asks for an audit of predictions, itself or by a file."""
    files, options = audit_options(words)
    if any(option.is_below(PREDICTIONS) for option in options):
        return True
    return any(PREDICTIONS in read_yaml(file) for file in files)


def parsed_settings(
    kind: type[Kind],
    files: Sequence[str],
    options: Sequence[Option],
    description: str,
    *,
    name: str = "",
    further: Sequence[str] = (),
) -> Kind:
    """Return the settings in audit files and options, which take precedence.

    Args:
        kind: data class of the settings.
        files: audit files, later ones taking precedence.
        options: other options of the command line.
        description: of the command, for its help.
        name: name of the audit without a file; that of the settings if empty.
        further: further options, as candidates for a misspelt one.

    Raises:
        InputError: a training config, an unknown or invalid setting.
    """
    # A mapping in a file must not become an object: stages build what it names, from their own command line.
    set_parsing_settings(instantiate_subclass_spec_in_any=False, validate_subclass_spec_in_any=False)
    parser = ArgumentParser(
        prog="seg_mia audit", description=description, exit_on_error=False, allow_abbrev=False
    )
    parser.add_argument(
        "-c", "--config", action="config", help="Audit file: a name in lightning_configs, or a path."
    )
    parser.add_class_arguments(kind)
    for file in files:
        refuse_training(Layer(file, read_yaml(file)))
    if stems := [Path(file).stem for file in files if not is_inline(file)] or [name] * bool(name):
        parser.set_defaults({"name": stems[-1]})
    try:
        args = [*(f"--config={file}" for file in files), *words_of(options)]
        parsed = parser.instantiate(parser.parse_args(args))
    except argparse.ArgumentError as error:
        names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
        raise InputError(one_line(str(error), {*names, *further, "config", "fail-on"})) from None
    values = parsed.as_dict()
    return kind(**{field.name: values[field.name] for field in fields(kind)})  # type: ignore[arg-type]


def check_name(name: str) -> None:
    """Raise InputError for an audit's name that is no folder's."""
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise InputError(
            f"an audit's name may hold letters, digits, _, - and dots, got {name!r}; change --name"
        )


def _listed(words: Sequence[str]) -> list[str]:
    """Return the words with each `--trust WORD` and similar as a list of one, or one more list entry.

    The first replaces the file's whole list; only gates are added to the file's.
    """
    args, pending, begun = list[str](), "", {"fail_on"}
    for word in words:
        flag, equals, value = word.partition("=")
        name = flag.removeprefix("--").replace("fail-on", "fail_on") if flag.startswith("--") else ""
        if pending and flag.startswith("--"):
            break
        if pending or (name in LISTS and equals):
            args.append(_entry(pending or name, word if pending else value, begun))
            pending = ""
        elif name in LISTS:
            pending = name
        else:
            args.append(word)
    if pending == "fail_on":
        raise InputError('--fail-on needs an expression, such as "mia.auc>0.6"')
    if pending:
        raise InputError(f"--{pending} needs a value, or several, [A, B]")
    return args


def _entry(name: str, value: str, begun: set[str]) -> str:
    """Return a list, or one entry of it, as one word."""
    if value.startswith("[") or value == "null":
        return f"--{name}={value}"
    is_begun = name in begun
    begun.add(name)
    if is_begun:
        return f"--{name}+={value}"
    return f"--{name}=[{value}]" if is_inline(value) else f"--{name}={inline([value])}"
