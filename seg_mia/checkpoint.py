"""Checkpoint metadata, read without trusting the file."""

import pickle
import struct
import time
import warnings
from collections.abc import Collection, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from seg_mia.config.spec import ClassSpec, as_declared, check_spec, parameters, resolve
from seg_mia.errors import InputError
from seg_mia.models.state_files import write_tensors
from seg_mia.models.user_errors import input_errors

KEY = "seg_mia"
FORMAT = 1
NETWORK = "network."
SAME = 2**-8
"""Relative tolerance of equal weights: the rounding error of bfloat16, with 8 significant bits."""
MACHINE = ("cache", "workers", "limit", "near_duplicates")
"""Settings of a data module excluded from checkpoint metadata."""
TICK = 2.0
"""Seconds within which two changes of a file may have the same time, or clocks may differ."""
_UNREADABLE = (
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    struct.error,
)


Content = dict[str, Any]
"""Tensors and plain values by name, in the form of a file: of any type until checked."""


@dataclass(frozen=True)
class Card:
    """Checked checkpoint metadata: its classes may be imported, and all values are plain.

    Attributes:
        model: class_path and init_args of the trained task.
        data: the same of the data module, or None in an exported file.
        classes: number of classes, including background.
        channels: image channels.
        split: role, salted hashes of members, non-members and reference, or None in an exported file.
        fingerprint: digest of ids and contents of the data set, or None in an exported file.
        training: plain facts about the run: epoch, seed, versions, last logged values.
        network: class_path and init_args of the deployed network, if defences change it.
        privacy: guarantee and privacy spent of a differentially private training, in plain values.
    """

    model: ClassSpec
    classes: int
    channels: int
    data: ClassSpec | None = None
    split: Content | None = None
    fingerprint: str | None = None
    training: Content | None = None
    network: ClassSpec | None = None
    privacy: Content | None = None


def read(path: str | Path) -> Content:
    """Read a checkpoint's tensors and plain values; no code in the file is executed.

    Raises:
        InputError: no such file, no checkpoint, or content other than tensors and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"checkpoint {path} is not a file; train one with `python -m seg_mia fit --config NAME`"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about files that are refused below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise InputError(
            f"{path} must be a checkpoint of plain tensors and values, got another file, or one with code "
            "that loading would run; nothing was executed. Use a file written by `python -m seg_mia fit` or "
            "`export`"
        ) from None
    except _UNREADABLE as error:
        raise InputError(
            f"{path} cannot be read as a checkpoint ({_first_line(error)}); check that it is complete"
        ) from None
    if not isinstance(content, dict) or not isinstance(content.get(KEY), dict):
        raise InputError(
            f"{path} must have an entry {KEY!r}, as written by seg_mia, and has none; train with `python -m "
            "seg_mia fit`"
        )
    return content


def read_card(path: str | Path, *, trust: Collection[str] = ()) -> Card:
    """Read the metadata of a checkpoint, and check that all its classes are permitted.

    Args:
        path: checkpoint file.
        trust: class paths outside `seg_mia` that the user permits in the metadata.

    Raises:
        InputError: not a checkpoint of this tool, another format, or metadata with a class that is not
            permitted.
    """
    try:
        return deepcopy(card_of({KEY: metadata(path)}, path, trust=trust))
    except RecursionError:
        raise InputError(f"{path} is refused: its card is nested too deeply") from None


def metadata(path: str | Path) -> Mapping[str, Any]:
    """Return the unchecked metadata in a checkpoint, which must not be altered.

    While a file stays as it is, it is read once: its weights take a tenth of a second.

    Raises:
        InputError: as `read`.
    """
    path = Path(path)
    state = _settled(path)
    return read(path)[KEY] if state is None else _metadata(path, state)


def _settled(path: Path) -> tuple[int, ...] | None:
    """Return what changes with a file's content; None for no file, or one that was written just now."""
    try:
        state = path.stat()
    except (OSError, ValueError):
        return None
    if abs(time.time() - state.st_mtime) < TICK:
        return None
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns


@lru_cache(maxsize=32)
def _metadata(path: Path, state: tuple[int, ...]) -> Content:  # noqa: ARG001  # a changed file is another one
    content: Content = read(path)[KEY]
    return content


def card_of(content: Mapping[str, Any], path: str | Path, *, trust: Collection[str] = ()) -> Card:
    """Return the checked metadata in the `content` from `read`."""
    card = content[KEY]
    if card.get("format") != FORMAT:
        raise InputError(
            f"{path} must have card format {FORMAT}, got {card.get('format')!r}; train again, or use the "
            "version that wrote it"
        )
    try:
        fields = {name: card[name] for name in Card.__dataclass_fields__ if card.get(name) is not None}
        checked = Card(**fields)
        _check_types(checked)
        check_spec(checked.model, trust=trust, base=nn.Module)
        check_spec(network_spec(checked), trust=trust, base=nn.Module)
        if checked.data is not None:
            check_spec(checked.data, trust=trust)
    except (InputError, TypeError, KeyError, RecursionError) as error:
        raise InputError(f"{path} is refused: its card {_first_line(error)}") from None
    return checked


def _check_types(card: Card) -> None:
    numbers = type(card.classes) is int and type(card.channels) is int
    optional = (card.data, card.split, card.training, card.network, card.privacy)
    parts = all(part is None or isinstance(part, dict) for part in optional)
    if not (numbers and parts and isinstance(card.fingerprint, str | None)):
        raise InputError("has entries of unknown types")
    if card.data is not None and not isinstance(card.data.get("init_args"), dict):
        raise InputError("describes its data without init_args")


def without_machine(data: ClassSpec) -> ClassSpec:
    """Return a data module's specification without machine-specific settings, such as the cache folder.

    They are removed when metadata is written and again when it is read: untrusted metadata cannot set them.
    """
    init_args = {name: value for name, value in data["init_args"].items() if name not in MACHINE}
    return {"class_path": data["class_path"], "init_args": init_args}


def network_spec(card: Card) -> ClassSpec:
    """Return class_path and init_args of the deployed network."""
    network: ClassSpec | None = card.network or card.model["init_args"].get("network")
    if not isinstance(network, dict):
        raise InputError("names no network; train or adopt it again")
    return network


def load_victim(
    path: str | Path, *, trust: Collection[str] = (), device: str | torch.device = "cpu"
) -> nn.Module:
    """Load the network of a checkpoint: eval mode, images in [0, 1] to logits (N, K, h, w).

    Requires neither Lightning nor the data. Classes outside `seg_mia` are imported only if listed in `trust`.

    Raises:
        InputError: errors of `read_card`, or weights that do not fit the network.
    """
    content = read(path)
    network = build(network_spec(card_of(content, path, trust=trust)), trust=trust)
    load_weights(network, content, path)
    return network.to(device).eval()


def build(spec: ClassSpec, *, trust: Collection[str] = ()) -> nn.Module:
    """Build the module of a checked specification, its nested modules first."""
    check_spec(spec, trust=trust, base=nn.Module)
    kind = resolve(spec["class_path"])
    declared = parameters(kind)
    arguments = {
        name: build(cast(ClassSpec, value), trust=trust)
        if isinstance(value, dict) and "class_path" in value
        else as_declared(value, declared.get(name, Any))
        for name, value in spec.get("init_args", {}).items()
    }
    with input_errors(
        f"{kind.__name__} cannot be built", "its constructor must accept the arguments in the card"
    ):
        module = kind(**arguments)
    assert isinstance(module, nn.Module)
    return module


def load_weights(network: nn.Module, content: Mapping[str, object], path: str | Path) -> None:
    """Load the weights in a checkpoint's `content` into `network`, strictly."""
    state = content.get("state_dict")
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise InputError(
            f"{path} must have weights ('state_dict') and has none; use a file written by `python -m seg_mia "
            "fit`"
        )
    weights = {name.removeprefix(NETWORK): value for name, value in state.items() if name.startswith(NETWORK)}
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(f"the weights in {path} do not fit its network: {_first_line(error)}") from None


def same_weights(first_content: Mapping[str, object], second_content: Mapping[str, object]) -> bool:
    """Return whether two checkpoints hold the same weights, up to rounding in half precision.

    Between trainings with two seeds some layer differs by more than a hundredth, even if both start from the
    same encoder weights, or keep these.
    """
    files = [_files(content) for content in (first_content, second_content)]
    if files[0] and files[0] == files[1]:
        return True
    first, second = _weights(first_content), _weights(second_content)
    if not first or [len(value) for value in first] != [len(value) for value in second]:
        return False
    return all(float((a - b).norm()) <= SAME * float(a.norm()) for a, b in zip(first, second, strict=True))


def parameter_count(content: Mapping[str, object]) -> int:
    """Return the number of floating-point values in the network of `read`'s content.

    Batch statistics are excluded; buffers that never change, such as a normalisation's, are counted.
    """
    state = content.get("state_dict")
    named = state.items() if isinstance(state, dict) else ()
    network = {name: value for name, value in named if str(name).startswith(NETWORK)}
    return sum(value.numel() for value in _weights({"state_dict": network}))


def _weights(content: Mapping[str, object]) -> list[torch.Tensor]:
    """Return a checkpoint's weights, flattened and in order, regardless of wrappers of a defence.

    Batch statistics are excluded: queries on other images in training mode change them.
    """
    state = content.get("state_dict")
    named = state.items() if isinstance(state, dict) else ()
    values = [value for name, value in named if not str(name).endswith((".running_mean", ".running_var"))]
    tensors = [value for value in values if isinstance(value, torch.Tensor) and value.is_floating_point()]
    return [value.detach().double().flatten() for value in tensors]


def _files(content: Mapping[str, object]) -> list[bytes]:
    """Return the networks in a checkpoint's weights that are files."""
    state = content.get("state_dict")
    entries = (
        [value.get("content") for value in state.values() if isinstance(value, dict)]
        if isinstance(state, dict)
        else []
    )
    return [entry.numpy().tobytes() for entry in entries if isinstance(entry, torch.Tensor)]


def drop_optimiser(path: Path) -> None:
    """Rewrite a completed training's checkpoint without the states of optimisers, twice the weights' size."""
    content = read(path)
    write_tensors(path, content | {"optimizer_states": [], "lr_schedulers": []})


def export(path: str | Path, out: str | Path) -> Path:
    """Write a checkpoint for sharing: weights and architecture; no split, paths or data settings.

    Raises InputError if `out` exists or `path` is no checkpoint.
    """
    content, out = read(path), Path(out)
    if out.exists():
        raise InputError(f"{out} exists; name a new file or remove it first")
    try:
        card = content[KEY]
        model = {
            "class_path": card["model"]["class_path"],
            "init_args": {"network": card.get("network") or card["model"]["init_args"]["network"]},
        }
        public = {"format": FORMAT, "model": model, "classes": card["classes"], "channels": card["channels"]}
        if card.get("privacy") is not None:
            public["privacy"] = card["privacy"]
        weights = {name: value for name, value in content["state_dict"].items() if name.startswith(NETWORK)}
    except (KeyError, TypeError, AttributeError):
        raise InputError(
            f"{path} must have a complete card and weights; use a file written by `python -m seg_mia fit`"
        ) from None
    write_tensors(out, {KEY: public, "state_dict": weights})
    return out


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2]) if lines else type(error).__name__


def seed_of(card: Card) -> int | None:
    """Return the seed of a checkpoint's training, if it is in the metadata and the training was here."""
    training = card.training or {}
    seed = training.get("seed")
    return seed if isinstance(seed, int) and not training.get("adopted") else None


def same_start(victim: Card, shadow: Card) -> bool:
    """Return whether two trainings had the same initial weights: one seed, one class of network.

    False if either was trained elsewhere, or started from the weights in a file.
    """
    kinds = [network.get("class_path") for network in map(_network, (victim, shadow))]
    from_file = any(card.model["init_args"].get("weights") for card in (victim, shadow))
    seed = seed_of(victim)
    return seed is not None and seed == seed_of(shadow) and kinds[0] == kinds[1] and not from_file


def _network(card: Card) -> Content:
    network = card.model["init_args"].get("network")
    return network if isinstance(network, dict) else {}
