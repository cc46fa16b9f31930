"""Safe reading of weight files without code execution, diagnosis of unreadable ones, and whole writing."""

import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seg_mia.atomic import written_whole
from seg_mia.errors import InputError, name_some

State = dict[str, Tensor]
_DEEPEST = 4
_MOST = 2**26  # bytes of a pickle that are searched for a word
_UNREADABLE = (
    pickle.UnpicklingError, RuntimeError, EOFError, OSError, LookupError, TypeError, ValueError,
    AttributeError,
)  # fmt: skip
_ENDINGS = {".pt", ".pth", ".ckpt", ".safetensors", ".bin"}
_BEHIND = {
    b"pytorch-lightning_version": '["state_dict"]',
    b"network_weights": '["network_weights"]',
    b"model_state_dict": '["model_state_dict"]',
    b"state_dict": '["state_dict"]',
}
"""Usual keys of the weights within a file."""


def write_tensors(path: Path, content: object) -> None:
    """Write plain values and tensors whole, as torch.save does; the old file is kept if that fails.

    Raises:
        OSError: the folder cannot be written, or the disk is full, of which torch.save reports only that its
            position in the stream is not the expected one.
    """
    with written_whole(path) as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None


def content_of(path: Path) -> Any:
    """Return all plain values and tensors of a file written by torch.save; NumPy scalars are skipped.

    Raises:
        InputError: an unreadable file, or objects other than tensors and plain values (never run).
    """
    return _read(path)


def states(path: Path) -> dict[str, State]:
    """Return every state dict in a file (.pth, .pt, .ckpt, .safetensors), keyed by its location.

    A state dict maps names to tensors only; the location "" is the whole file. NumPy scalars are skipped.

    Raises:
        InputError: missing file, no state dict, or objects other than tensors and plain values (never run).
    """
    if path.is_dir():
        files = sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.suffix in _ENDINGS)
        raise InputError(
            f"weights must be a file, {path} is a folder; give the weights in it"
            f"{f': {name_some(files)}' if files else ', it has no file that looks like them'}"
        )
    if not path.is_file():
        raise InputError(f"weights must be a file, found none at {path}; check the path")
    content = _read_safetensors(path) if _is_safetensors(path) else _read(path)
    state_dicts = dict(_state_dicts(content))
    if not state_dicts:
        raise InputError(
            f"{path} must hold a state dict, got {_described(content)}; save network.state_dict()"
        )
    return state_dicts


def _state_dicts(content: Any) -> Iterator[tuple[str, State]]:
    """Yield all state dicts; each mapping is visited once, as mappings may contain themselves."""
    pending, seen = [("", content, 0)], set[int]()
    while pending:
        path, node, depth = pending.pop(0)
        if not isinstance(node, Mapping) or id(node) in seen:
            continue
        seen.add(id(node))
        if node and all(isinstance(tensor, Tensor) for tensor in node.values()):
            yield path, {str(key): tensor for key, tensor in node.items()}
        elif depth < _DEEPEST:
            pending += [
                (f"{path}.{key}" if path else str(key), child, depth + 1) for key, child in node.items()
            ]


def _described(content: Any) -> str:
    """Describe the content of a file without weights: its type and first keys."""
    if not isinstance(content, Mapping) or not content:
        return f"a {type(content).__name__} of other content"
    keys = [str(key) for key in content]
    return f"a {type(content).__name__} with {name_some(keys, 8)}"


class _Skipped:
    """Stand-in for a NumPy scalar or its type in a file: holds nothing, so that no NumPy object is built."""

    def __init__(self, *content: object) -> None:
        """Accept and forget the content."""

    def __setstate__(self, state: object) -> None:
        """Accept and forget the state."""


_NUMPY: list[Any] = [
    (_Skipped, name)
    for name in ("numpy._core.multiarray.scalar", "numpy.core.multiarray.scalar", "numpy.dtype")
]
"""Names of NumPy scalars in files, such as nnU-Net's checkpoints, that keep them beside the weights."""


def _read(path: Path) -> Any:
    try:
        with (
            warnings.catch_warnings(),
            torch.serialization.safe_globals(_NUMPY),
            path.open("rb") as file,  # by a path torch goes by its ending
        ):
            warnings.simplefilter("ignore")  # torch warns about files rejected below
            return torch.load(file, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        raise InputError(f"{path} {_kind(path)}") from error


def _kind(path: Path) -> str:
    """Describe a file that is not plain weights, with a remedy."""
    with path.open("rb") as file:
        head = file.read(64)
    if zipfile.is_zipfile(path):
        return _kind_of_archive(path)
    if head.startswith(b"\x89HDF\r\n"):
        return "is an HDF5 file, as Keras saves it; give a state dict of PyTorch"
    if head.startswith(b"\x08") and _is_onnx(path, head):
        return (
            "is an ONNX graph, whose weights have other names than the network's; audit it as the network "
            "seg_mia.models.file.Onnx, or save network.state_dict() where it was trained"
        )
    if head.startswith(b"PK"):
        return "is cut short or damaged, so it was not read; copy it again"
    if head.startswith(b"\x80"):  # a pickle's first opcode, as torch wrote before archives
        return (
            "holds more than tensors or is cut short, so it was not read; copy it again, or save "
            "network.state_dict()"
        )
    remedy = (
        "download it again" if path.suffix == ".safetensors" else "save network.state_dict()"
    )  # safetensors cut within the header are nothing
    return f"is no file of PyTorch or safetensors, so it was not read; {remedy}"


def _kind_of_archive(path: Path) -> str:
    with zipfile.ZipFile(path) as archive:
        names = [name.partition("/")[2] for name in archive.namelist()]
        if "constants.pkl" in names or any(name.startswith("code/") for name in names):
            return (
                "is a TorchScript archive, a program with its weights, so it was not read; save "
                "torch.jit.load(FILE).state_dict(), or audit it as the network "
                "seg_mia.models.file.TorchScript"
            )
        if any("archive_format" in name or name.startswith(("models/", "serialized_")) for name in
               [*names, *archive.namelist()]):  # fmt: skip
            return (
                "is a program of torch.export, so it was not read; save torch.export.load(FILE).state_dict, "
                "or audit it as the network seg_mia.models.file.Exported"
            )
        pickled = next((name for name in archive.namelist() if name.endswith("data.pkl")), None)
        if pickled is None:
            return "is an archive without weights of PyTorch; save network.state_dict()"
        with suppress(OSError, zipfile.BadZipFile, RuntimeError), archive.open(pickled) as file:
            return _of_objects(path, file.read(_MOST))
    return "is damaged, so it was not read; copy it again"


def _of_objects(path: Path, pickled: bytes) -> str:
    """Return the remedy for a pickle with code, from the names in it, without running it."""
    named = _objects(path)
    lightning = b"pytorch-lightning_version" in pickled
    key = next((key for mark, key in _BEHIND.items() if mark in pickled), ".state_dict()")
    return (
        f"{'is a checkpoint of Lightning that' if lightning else ''} holds more than tensors"
        f"{f' ({named})' if named else ''}, which reading would run, so it was not read; where you trust it, "
        f"save torch.load(FILE, weights_only=False){key} and give that, or save network.state_dict()"
    ).removeprefix(" ")


def _objects(path: Path) -> str:
    with suppress(*_UNREADABLE), torch.serialization.safe_globals(_NUMPY), path.open("rb") as file:
        names = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(file))
        return name_some(names)
    return ""


def _is_onnx(path: Path, head: bytes) -> bool:
    return path.suffix == ".onnx" or re.search(rb"pytorch|tf2onnx|onnx|skl2onnx", head) is not None


def _is_safetensors(path: Path) -> bool:
    """Whether a file starts like safetensors: the length of a JSON header, then the header."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        # A header is at most 100 MB, the limit that safetensors itself sets.
        if not 2 <= length <= min(path.stat().st_size - 8, 10**8):
            return False
        if file.read(1) != b"{":
            return False
        file.seek(8)
        with suppress(ValueError, UnicodeDecodeError, RecursionError):
            return isinstance(json.loads(file.read(length)), dict)
    return False


def _read_safetensors(path: Path) -> State:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise InputError(
            f"{path} needs the package safetensors, which is missing; pip install safetensors"
        ) from error
    try:
        return load_file(path, device="cpu")
    except SafetensorError as error:
        raise InputError(
            f"{path} is a safetensors file that is cut short or damaged; download or save it again"
        ) from error
