"""Refusal of TorchScript and torch.export files that could do more than compute.

TorchScript can write files (`torch.save` is one of its operators). torch's reader of .pt2 archives falls back
to unpickling, evaluates text as SymPy expressions, and resolves any name below `torch` as a function of the
graph. Here the text of both is searched before torch reads it. This limits what a file can do; it is no proof
that torch's readers have no other weakness, so checkpoints with such files still need `--trust`.
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
    r"|(?:_operator|operator)\.[a-z_]+|math\.[a-z]+|torch\.sym_\w+"
)
_EXPRESSION = re.compile(
    r"(?:\s|[()+*/,<>=&|~-]|\d+(?:\.\d+)?|\b(?:True|False|[su]\d+|int_oo|Integer|Rational|Mul|Add|Pow|Abs|Mod"
    r"|PythonMod|FloorDiv|CleanDiv|CeilDiv|Max|Min|Eq|Ne)\b|Symbol\('[su]\d+'(?:, [a-z]+=True)*\))*"
)
_BROKEN = (zipfile.BadZipFile, KeyError, ValueError, RecursionError, EOFError, OSError, RuntimeError)


def check_torchscript(content: bytes, name: str) -> None:
    """Raise InputError unless `content` is a TorchScript archive whose code only computes."""
    with _archive(content, name, "a TorchScript archive, torch.jit.save(module, FILE)") as archive:
        code = [entry for entry in archive.namelist() if entry.endswith(".py") and "/code/" in entry]
        if not code:
            raise InputError(f"{name} must be a TorchScript archive, and holds no code; {_kind(archive)}")
        for entry in code:
            text = archive.read(entry).decode()
            found = _FILE_ACCESS.search(text) or _OPERATORS.search(text)
            if found:
                raise InputError(
                    f"{name} is refused: its code calls {found[0].strip('( ')!r}, which can reach beyond "
                    "the network; export the network alone"
                )


def check_exported(content: bytes, name: str) -> None:
    """Raise InputError unless `content` is a .pt2 archive with a graph of torch's own operators.

    Pickled parts may hold only tensors and plain values, symbolic sizes only arithmetic.
    """
    with _archive(content, name, "a torch.export archive, torch.export.save(program, FILE)") as archive:
        entries = archive.namelist()
        if not any(re.search(r"(^|/)models/\w+\.json$", entry) for entry in entries):
            raise InputError(f"{name} must be an archive of torch.export.save; {_kind(archive)}")
        for entry in entries:
            if entry.endswith((".so", ".cpp", ".o", ".cubin", ".py")) or "custom_obj" in entry:
                raise InputError(f"{name} is refused: it holds {entry}, not only a graph; export it again")
            if entry.endswith(".json"):
                _check_graph(json.loads(archive.read(entry)), name)
            elif archive.read(entry)[:2] in (b"PK", b"\x80\x02"):
                _check_pickle(archive.read(entry), f"{entry} in {name}")


def _check_graph(content: Any, name: str) -> None:
    for key, value in _texts(content):
        if key == "target" and "." in value and not _GRAPH_TARGETS.fullmatch(value):
            raise InputError(
                f"{name} is refused: its graph calls {value!r}, which is not an operator of torch's own "
                "(aten); export the network without custom operators"
            )
        if key in {"expr_str", "expr"} and not _EXPRESSION.fullmatch(value):
            raise InputError(
                f"{name} is refused: its size {value[:60]!r} is not arithmetic; export it with fixed sizes"
            )


def _texts(content: Any) -> Iterator[tuple[str, str]]:
    """Yield key and value of every text in a JSON value."""
    if isinstance(content, dict):
        for key, value in content.items():
            if isinstance(value, str):
                yield key, value
            else:
                yield from _texts(value)
    elif isinstance(content, list):
        for value in content:
            yield from _texts(value)


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
