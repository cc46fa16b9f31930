"""Refusal of TorchScript and torch.export files that could do more than compute.

TorchScript can write files (`torch.save` is one of its operators). torch's reader of .pt2 archives falls back
to unpickling, evaluates text as SymPy expressions, resolves any name below `torch` as a function of the
graph, and runs code into which it pastes guards and names. Here the text of both is searched before torch
reads it. This limits what a file can do; it is no proof that torch's readers have no other weakness, so
checkpoints with such files still need `--trust`.
"""

import io
import json
import pickle
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from seg_mia.errors import InputError

_FILE_ACCESS = re.compile(r"\b(?:save|load|from_file|_load_for_lite_interpreter|exec|eval)\s*\(")
_OPERATORS = re.compile(r"\bops\.(?!prim\b|aten\b|torchvision\b|quantized\b)\w+\.\w+")
_GRAPH_TARGETS = re.compile(
    r"torch\.ops\.(?:aten|prims)\.(?!from_file\b|save\b)\w+\.\w+"
    r"|torch\.ops\.higher_order\.(?:wrap_with_set_grad_enabled|wrap_with_autocast|cond)"
    r"|_operator\.(?:add|sub|mul|floordiv|truediv|mod|pow|neg|pos|eq|ne|lt|le|gt|ge|and_|or_|not_|getitem)"
    r"|math\.[a-z]+|torch\.sym_\w+"
    r"|\w+"  # names without dots name nothing in Python
)
_EXPRESSION = re.compile(
    r"(?:\s|[()+*/,<>=&|~-]|\d+(?:\.\d+)?|\b(?:True|False|[su]\d+|int_oo|Integer|Rational|Mul|Add|Pow|Abs|Mod"
    r"|PythonMod|FloorDiv|CleanDiv|CeilDiv|Max|Min|Eq|Ne)\b|Symbol\('[su]\d+'(?:, [a-z]+=True)*\))*"
)
_GUARD = re.compile(
    r"(?:[ ()+*/%<>=!-]|\d+(?:\.\d+)?|\b(?:and|or|not|True|False|Mod|max|min)\b"
    r"|\bL\['\w+'\](?:\['\w+'\]|\[\d+\])*\.(?:size\(\)\[\d+\]|stride\(\)\[\d+\]|storage_offset\(\)))*"
)
_NAME = re.compile(r"[\w.:+ -]*")
"""Names and versions, which cannot end a name or a quoted text in code."""
_BROKEN = (zipfile.BadZipFile, KeyError, ValueError, RecursionError, EOFError, OSError, RuntimeError)


def check_torchscript(content: bytes, name: str) -> None:
    """Raise InputError unless `content` is a TorchScript archive whose code only computes."""
    with _archive(content, name, "a TorchScript archive, torch.jit.save(module, FILE)") as archive:
        code = [entry for entry in _entries(archive, name) if re.search(r"/code/.*\.py$", entry, re.I)]
        if not code:
            raise InputError(f"{name} must be a TorchScript archive, and holds no code; {_kind(archive)}")
        for entry in code:
            text = archive.read(entry).decode()
            match = _FILE_ACCESS.search(text) or _OPERATORS.search(text)
            if match:
                raise InputError(
                    f"{name} is refused: its code calls {match[0].strip('( ')!r}, which can reach beyond "
                    "the network; export the network alone"
                )


def check_exported(content: bytes, name: str) -> None:
    """Raise InputError unless `content` is a .pt2 archive with a graph of torch's own operators.

    Pickled parts may hold only tensors and plain values, symbolic sizes only arithmetic.
    """
    with _archive(content, name, "a torch.export archive, torch.export.save(program, FILE)") as archive:
        entries = _entries(archive, name)
        if not any(re.search(r"(^|/)models/\w+\.json$", entry) for entry in entries):
            raise InputError(f"{name} must be an archive of torch.export.save; {_kind(archive)}")
        for entry in entries:
            if re.search(r"\.(so|cpp|o|cubin|py)$|custom_obj", entry, re.I):
                raise InputError(f"{name} is refused: it holds {entry}, not only a graph; export it again")
            if entry.lower().endswith(".json"):
                _check_graph(json.loads(archive.read(entry)), name)
            elif entry.lower().endswith(".pt"):
                _check_pickle(archive.read(entry), f"{entry} in {name}")


def _check_graph(content: Any, name: str) -> None:
    for key, value in _leaves(content):
        if key == "use_pickle" and value:
            raise InputError(f"{name} is refused: it holds pickled weights; export plain tensors")
        if isinstance(value, str) and not _is_safe(key, value):
            raise InputError(
                f"{name} is refused: its {key} {value[:60]!r} is more than torch's own operators, a name "
                "or arithmetic of sizes, and torch would run it; export the network alone"
            )


def _is_safe(key: str, value: str) -> bool:
    """Return whether torch's reader cannot run a text, which it may paste into Python code."""
    match key:
        case "as_string" | "as_strings":
            return True  # quoted before it is pasted
        case "target" | "as_operator":
            return _GRAPH_TARGETS.fullmatch(value) is not None
        case "expr_str" | "expr":
            return _EXPRESSION.fullmatch(value) is not None
        case "guards_code":
            return _GUARD.fullmatch(value) is not None
        case "in_spec" | "out_spec":
            return "__enum__" not in value  # the reader imports the module that one names
        case _:
            return _NAME.fullmatch(value) is not None


def _leaves(content: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every plain value in a JSON value with the key above it, and every key as a possible name.

    Metadata of nodes are left out: they are not part of the code.
    """
    if isinstance(content, dict):
        for name, value in content.items():
            yield "name", name
            if name != "metadata":
                yield from _leaves(value, name)
    elif isinstance(content, list):
        for value in content:
            yield from _leaves(value, key)
    else:
        yield key, content


def _check_pickle(content: bytes, name: str) -> None:
    try:
        torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise InputError(
            f"{name} is refused: it holds pickled objects other than tensors, which could run code; export "
            "the network again with tensors as example inputs"
        ) from None


@contextmanager
def _archive(content: bytes, name: str, wanted: str) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive in memory; errors of a damaged one become one line."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            yield archive
    except InputError:
        raise
    except _BROKEN:
        raise InputError(f"{name} must be {wanted}, got another or a damaged file; export it again") from None


def _entries(archive: zipfile.ZipFile, name: str) -> list[str]:
    """Return the names in an archive; of two alike, torch's reader might take the other one."""
    names = archive.namelist()
    if len({entry.lower() for entry in names}) < len(names):
        raise InputError(f"{name} is refused: it holds two entries of one name; export it again")
    return names


def _kind(archive: zipfile.ZipFile) -> str:
    """Return in words what an archive seems to be."""
    entries = archive.namelist()
    if any(re.search(r"(^|/)models/\w+\.json$", entry) for entry in entries):
        return "it is a torch.export archive: use seg_mia.models.file.Exported"
    if any("/code/" in entry for entry in entries):
        return "it is a TorchScript archive: use seg_mia.models.file.TorchScript"
    if any(entry.endswith("data.pkl") for entry in entries):
        return "it looks like weights: name the network's class, and give them as --model.weights"
    return "it is another kind of archive"
