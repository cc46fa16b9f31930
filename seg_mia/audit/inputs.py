"""Everything that a stage's result depends on, as one key."""

import argparse
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser, set_parsing_settings
from lightning import __version__ as lightning

import seg_mia
from seg_mia import data as readers
from seg_mia.configs import inline, is_inline, read_yaml
from seg_mia.data.base import SegmentationData
from seg_mia.errors import InputError
from seg_mia.messages import one_line, refusal
from seg_mia.options import import_all
from seg_mia.plan import Plan
from seg_mia.runs import OF_A_ROLE
from seg_mia.spec import class_paths

PLACES = {"root", "cache", "runs"}
"""Settings that say where something lies; what lies there is known by other means."""
IMMATERIAL = ("--data.cache", "--data.workers", "--trainer.enable_progress_bar")
"""Options that change how long a stage takes, but not its result."""


def key_of(what: Plan, known: dict[str, str]) -> str:
    """Return one digest of all that a plan's outcome depends on.

    This tool's own source, the versions of torch and Lightning, the words, the content of every file that
    words or configs name, the checkpoints, the data's fingerprint, and the source of classes outside seg_mia.

    Args:
        what: the plan.
        known: fingerprints of data by its settings, which this adds to.
    """
    said = what.options or {}
    parts = [
        _tool(),
        what.command,
        what.adopt,
        [_word(word) for word in _joined(what.args) if not word.startswith(IMMATERIAL)],
        [_file(path) for path in (what.checkpoint, what.shadow and what.shadow.file) if path],
        said.get("control"),
        _fingerprint(what, known),
        [_source(path) for path in _foreign(what)],
    ]
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()


@cache
def _tool() -> list[str]:
    """Return digests of this package's source and the versions of what it computes with."""
    root = Path(seg_mia.__file__).parent
    own = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        own.update(f"{file.relative_to(root)}\n".encode() + file.read_bytes())
    return [seg_mia.__version__, own.hexdigest(), str(torch.__version__), str(lightning)]


def _joined(words: Sequence[str]) -> list[str]:
    """Return words with each option and its value as one, `--name=value`."""
    found = list[str]()
    for word in words:
        if not word.startswith("--") and found and found[-1].startswith("--") and "=" not in found[-1]:
            found[-1] += f"={word}"
        else:
            found.append(word)
    return found


def _word(word: str) -> object:
    flag, _, value = word.partition("=")
    if is_inline(value):
        return [flag, value]
    path = Path(value)
    if value.endswith((".yaml", ".yml")) and path.is_file():
        return [flag, _with_files(read_yaml(value))]
    return [flag, value if flag.rpartition(".")[2] in PLACES else _on_disk(path)]


def _with_files(value: Any) -> Any:
    """Return plain values, where a text names a file with that file's digest."""
    if isinstance(value, dict):
        return {name: item if name in PLACES else _with_files(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_files(item) for item in value]
    return _on_disk(Path(value)) if isinstance(value, str) and len(value) < 4096 else value


def _on_disk(path: Path) -> object:
    """Return the digest of a file, or of every file in a folder of weights or masks, beside its name."""
    try:
        if path.is_file():
            return [str(path), _file(path)]
        if path.is_dir() and str(path) not in {".", ""} and len(path.parts) > 1:
            files = sorted(file for file in path.rglob("*") if file.is_file() and file.suffix != ".tmp")
            return [str(path), [[str(file.relative_to(path)), _file(file)] for file in files]]
    except (OSError, ValueError):
        pass
    return str(path)


def _file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _foreign(what: Plan) -> list[str]:
    """Return class paths outside this package that the words, the configs or the victim's card name."""
    named = list[Any]()
    for word in _joined(what.args):
        value = word.partition("=")[2]
        if is_inline(value) or (value.endswith((".yaml", ".yml")) and Path(value).is_file()):
            named += class_paths(read_yaml(value))
        elif word.startswith(("--model=", "--data=", "--attack=")) or ".network=" in word:
            named.append(value)
    return sorted({path for path in named if not path.startswith("seg_mia.")})


def _source(path: str) -> object:
    """Return the digest of the file that a class is written in."""
    try:
        found = find_spec(path.rpartition(".")[0])
    except (ImportError, ValueError):
        return path
    file = Path(found.origin) if found and found.origin else None
    return [path, _file(file) if file and file.is_file() else None]


def _fingerprint(what: Plan, known: dict[str, str]) -> str:
    """Return the fingerprint of the data that a plan reads, which decodes it if no process has before."""
    read = data_of(what)
    if read is None:
        return ""
    settings = {
        name: value
        for name, value in read.hparams.items()
        if name not in OF_A_ROLE or name in {"root", "cache"}
    }
    name = json.dumps([type(read).__qualname__, settings], default=str, sort_keys=True)
    if name not in known:
        read.prepare_data()
        known[name] = read.fingerprint
    return known[name]


def data_of(what: Plan) -> SegmentationData | None:
    """Return the data module that a plan's configs and words describe; None where they describe none.

    Raises InputError for what does not fit.
    """
    sections, own = list[Any](), list[str]()
    for word in _joined(what.args):
        flag, _, value = word.partition("=")
        if flag == "--config":
            sections.append(read_yaml(value).get("data"))
        elif flag == "--data" or flag.startswith("--data."):
            own.append(word)
    words = [f"--config={inline({'data': section})}" for section in sections if section] + own
    if not words:
        return None
    import_all(readers)
    # A string in a card must not become a class: values without a declared type are never built.
    set_parsing_settings(instantiate_subclass_spec_in_any=False, validate_subclass_spec_in_any=False)
    parser = ArgumentParser(exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config")
    parser.add_subclass_arguments(SegmentationData, "data", required=True)
    try:
        data: SegmentationData = parser.instantiate_classes(parser.parse_args(words)).data
    except argparse.ArgumentError as error:
        raise InputError(one_line(str(error))) from None
    except ValueError as error:
        raise refusal(error) or error from None
    return data
