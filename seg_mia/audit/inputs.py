"""Everything that a stage's result depends on, as one key."""

import argparse
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from importlib.metadata import requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentParser, Namespace, set_parsing_settings
from lightning.pytorch import LightningModule
from torch import nn

import seg_mia
from seg_mia import data as readers
from seg_mia import defences, tasks
from seg_mia.audit.outside import foreign, outside
from seg_mia.checkpoint import load_victim, network_spec, read_card
from seg_mia.config.files import inline, is_inline, read_yaml
from seg_mia.config.messages import one_line, refusal
from seg_mia.config.parsing import import_all
from seg_mia.config.spec import class_paths
from seg_mia.data.base import SegmentationData
from seg_mia.errors import InputError
from seg_mia.experiment.plan import Plan
from seg_mia.models.style_autoencoder import EXPORT
from seg_mia.runs import CHECKPOINTS, LAST, OF_A_ROLE, checkpoint_file

IMMATERIAL = {"root", "cache", "runs", "workers", "enable_progress_bar"}
"""Settings that say where something lies, or how fast it is read: what lies there is known by other means."""
FOLDERS = {"target_folder", "weights", "surrogate"}
"""Settings that may name a folder whose files count."""


def key_of(what: Plan, known: dict[str, str]) -> str:
    """Return one digest of all that a plan's outcome depends on.

    This package's source and the versions of what it computes with, the words, the content of every file that
    words or configs name, the checkpoints, the data's fingerprint, the source of classes outside seg_mia, and
    what networks of such classes read and answer.

    Args:
        what: the plan.
        known: fingerprints of data by its settings, which this adds to.
    """
    said = what.options or {}
    words = _joined(what.args)
    card = 1 if what.card is not None else 0  # comes first; it names files that were read in the training
    trusted = {*_foreign(words), *said.get("trust", ())}
    data = data_of(what)
    parts = [
        _tool(),
        what.command,
        what.adopt,
        [_word(word, trusted=place > card) for place, word in enumerate(words) if not _is_immaterial(word)],
        [file_digest(path) for path in (what.checkpoint, *(shadow.file for shadow in what.shadows)) if path],
        said.get("control"),
        _fingerprint(data, known),
        [_source(path) for path in sorted(trusted)],
        [outside(named, make, data) for named, make in _networks(what, words)],
    ]
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()


@cache
def _tool() -> list[object]:
    """Return the digest of this package's source, the versions of what it needs, and the accelerator."""
    root = Path(seg_mia.__file__).parent
    own = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        own.update(f"{file.relative_to(root)}\n".encode() + file.read_bytes())
    needs = [need for need in requires("seg_mia") or [] if "extra" not in need]
    names = sorted({re.split(r"[^\w.-]", need)[0] for need in needs})
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return [own.hexdigest(), [(name, version(name)) for name in names], device]


def _joined(words: Sequence[str]) -> list[str]:
    """Return words with each option and its value as one, `--name=value`."""
    found = list[str]()
    for word in words:
        if not word.startswith("--") and found and found[-1].startswith("--") and "=" not in found[-1]:
            found[-1] += f"={word}"
        else:
            found.append(word)
    return found


def _is_immaterial(word: str) -> bool:
    return word.partition("=")[0].rpartition(".")[2].lstrip("-") in IMMATERIAL


def _word(word: str, *, trusted: bool) -> object:
    """Return an option and what its value stands for; files named in what is not trusted are not opened."""
    flag, _, value = word.partition("=")
    name = flag.rpartition(".")[2]
    if value.endswith((".yaml", ".yml")) and Path(value).is_file():
        return [flag, _with_files(read_yaml(value), trusted=trusted)]
    plain = _plain(value) if value.lstrip().startswith(("{", "[")) else value
    return [flag, _with_files(plain, trusted=trusted, name=name)]


def _plain(value: str) -> Any:
    """Return what a text says as YAML, the text itself where it says nothing."""
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        return value


def _with_files(value: Any, *, trusted: bool, name: str = "") -> Any:
    """Return plain values, where a text names a file with that file's digest instead."""
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if key not in IMMATERIAL}
        return {key: _with_files(item, trusted=trusted, name=str(key)) for key, item in kept.items()}
    if isinstance(value, list):
        return [_with_files(item, trusted=trusted, name=name) for item in value]
    if isinstance(value, str) and trusted and 0 < len(value) < 4096:
        return _on_disk(Path(value), folders=name in FOLDERS)
    return value


def _on_disk(path: Path, *, folders: bool) -> object:
    """Return the digest of a file, or of a folder's; of a run's the weights that are read from it."""
    try:
        if path.is_file():
            return file_digest(path)
        if folders and path.is_dir():
            last = path / CHECKPOINTS / LAST
            place = path / EXPORT if (path / EXPORT).is_dir() else path
            files = [last] if last.is_file() and place == path else sorted(place.rglob("*"))
            return [[file.name, file_digest(file)] for file in files if file.is_file()]
    except (OSError, ValueError):
        pass
    return str(path)


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _foreign(words: Sequence[str]) -> list[str]:
    """Return class paths outside this package that the words, the configs or the victim's card name."""
    named = list[Any]()
    for word in words:
        value = word.partition("=")[2]
        if is_inline(value) or (value.endswith((".yaml", ".yml")) and Path(value).is_file()):
            named += class_paths(read_yaml(value))
        elif re.match(r"--(model|data|attack|[^=]*\.network|[^=]*\.class_path)=", word):
            named.append(value)
    return sorted({path for path in named if not path.startswith("seg_mia.")})


def _source(path: str) -> object:
    """Return digests of all Python files that a class may be made of: its package's, or those beside it."""
    module = path.rpartition(".")[0]
    try:
        found = find_spec(module.partition(".")[0]) if module else None
    except (ImportError, ValueError):
        return path
    if found is None or found.origin is None:
        return path
    place = Path(found.origin).parent
    files = sorted(place.rglob("*.py") if found.submodule_search_locations else place.glob("*.py"))
    return [path, [[str(file.relative_to(place)), file_digest(file)] for file in files]]


def _networks(what: Plan, words: Sequence[str]) -> Iterator[tuple[list[str], Callable[[], nn.Module]]]:
    """Yield the foreign classes of each network that a plan trains or asks, and what builds it.

    A victim, a shadow, a surrogate that words name, or what is to be trained or adopted.
    """
    trust = tuple((what.options or {}).get("trust") or ())
    files = [what.checkpoint if what.card else None, *(shadow.file for shadow in what.shadows)]
    files += [
        checkpoint_file(value, "surrogate")
        for flag, _, value in (word.partition("=") for word in words)
        if flag.endswith(".surrogate") and value
    ]
    for file in filter(None, files):
        named = foreign(network_spec(read_card(file, trust=trust)))
        if named:
            yield named, partial(load_victim, file, trust=trust)
    if what.card is None and (named := _foreign(words)):
        yield named, partial(_untrained, what)


def _untrained(what: Plan) -> nn.Module:
    """Return the network that a plan is to train or adopt, without weights, and without what defends it."""
    import_all(defences, tasks)
    found = _parsed(what, "model", LightningModule)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(nn.Module, "network", required=True)
    spec = None if found is None else found[1]["model"]["init_args"]["network"]
    network: nn.Module = parser.instantiate_classes(parser.parse_object({"network": spec})).network
    return network


def _fingerprint(read: SegmentationData | None, known: dict[str, str]) -> str:
    """Return the fingerprint of the data that a plan reads, which decodes it if no process has before."""
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


def may_name(what: Plan, defence: str) -> bool:
    """Say whether a training's configs and words name a defence, or one from elsewhere that may be such."""
    listed = list[Any]()
    for word in _joined(what.args):
        flag, _, value = word.partition("=")
        if flag.rstrip("+").endswith(".defences"):
            listed.append(_plain(value))
        elif flag in {"--config", "--model"} and (is_inline(value) or Path(value).is_file()):
            listed += _defences(read_yaml(value))
    items = [item for one in listed for item in (one if isinstance(one, list) else [one])]
    paths = [*class_paths(items), *(item for item in items if isinstance(item, str))]
    return any(path.rpartition(".")[2] == defence or not path.startswith("seg_mia.") for path in paths)


def _defences(value: Any) -> list[Any]:
    """Return whatever stands under `defences`, at any depth."""
    if isinstance(value, list):
        return [found for item in value for found in _defences(item)]
    if not isinstance(value, dict):
        return []
    own = [value["defences"]] if "defences" in value else []
    return own + [found for item in value.values() for found in _defences(item)]


def data_of(what: Plan) -> SegmentationData | None:
    """Return the data module that a plan's configs and words describe; None where they describe none.

    Raises InputError for what does not fit.
    """
    import_all(readers)
    try:
        found = _parsed(what, "data", SegmentationData)
        data: SegmentationData | None = None if found is None else found[0].instantiate_classes(found[1]).data
    except argparse.ArgumentError as error:
        raise InputError(one_line(str(error))) from None
    except ValueError as error:
        raise refusal(error) or error from None
    return data


def _parsed(what: Plan, part: str, base: type) -> tuple[ArgumentParser, Namespace] | None:
    """Return a parser and what it reads of a part in configs and words; None where they say nothing."""
    sections, own = list[Any](), list[str]()
    for word in _joined(what.args):
        flag, _, value = word.partition("=")
        if flag == "--config":
            sections.append(read_yaml(value).get(part))
        elif flag == f"--{part}" or flag.startswith(f"--{part}."):
            own.append(word)
    words = [f"--config={inline({part: section})}" for section in sections if section] + own
    if not words:
        return None
    # A string in a card must not become a class: values without a declared type are never built.
    set_parsing_settings(instantiate_subclass_spec_in_any=False, validate_subclass_spec_in_any=False)
    parser = ArgumentParser(exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config")
    parser.add_subclass_arguments(base, part, required=True)
    return parser, parser.parse_args(words)
