"""Weights from a file, read without running any of it, into an encoder or a whole network."""

import pickle
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from seg_mia.errors import InputError

_WRAPPERS = ("state_dict", "model")
_PREFIXES = ("module.", "model.", "network.", "encoder.")
# What classifiers have behind their last feature map. Dropped only where the encoder lacks the key.
_BEHIND_FEATURES = ("classifier.", "fc.", "head.", "last_linear.", "conv_head.", "bn2.", "norm.")
_UNREADABLE = (
    pickle.UnpicklingError, RuntimeError, EOFError, OSError, LookupError, TypeError, ValueError,
)  # fmt: skip
_BATCH_STATISTICS = (".running_mean", ".running_var", ".num_batches_tracked")


@runtime_checkable
class Pretrained(Protocol):
    """A network whose library offers ImageNet weights for its encoder."""

    def imagenet_encoder(self) -> dict[str, Tensor]:
        """Return the encoder's state dict for three channels, downloading it if need be."""


def load_encoder(network: nn.Module, source: str | Path) -> None:
    """Load pre-trained weights into `network.encoder`, in place, every tensor of it or none.

    `source` is "imagenet", which downloads the weights that the network's library offers, or a local state
    dict (.pth, .pt or .safetensors) with the encoder's own key names; timm's fit smp's `timm-` and `tu-`
    encoders. Classifier layers are dropped, and so are batch statistics where GroupNorm replaced BatchNorm.
    A first convolution for RGB is summed over RGB for one channel; for other numbers its channels are
    repeated in turn and scaled by 3 / channels, as smp does.

    Raises:
        InputError: no such weights, or they do not fit the encoder.
    """
    encoder = getattr(network, "encoder", None)
    if not isinstance(encoder, nn.Module):
        raise InputError(
            f"pre-trained encoder weights need a network with an `encoder`, got {type(network).__name__}; "
            "load a whole state dict instead"
        )
    if str(source) != "imagenet":
        state = read_state(Path(source))
    elif isinstance(network, Pretrained):
        state = network.imagenet_encoder()
    else:
        raise InputError(
            f"{type(network).__name__} must offer ImageNet weights to be given them, got none; "
            "give the path of a state dict"
        )
    name = getattr(network, "encoder_name", type(encoder).__name__)
    problem = f"{source} does not fit encoder {name}"
    encoder.load_state_dict(_fitted_encoder(state, encoder.state_dict(), problem))


def load_state(network: nn.Module, path: str | Path) -> None:
    """Load a whole state dict into `network`, in place, every tensor of it or none.

    The file holds the state dict itself, or a dict with the state dict under "state_dict" or "model"; a
    "module." before every key, as DataParallel leaves it, is dropped.

    Raises:
        InputError: no such file, it holds more than tensors, or its keys or shapes are not the network's.
    """
    state, wanted = read_state(Path(path)), network.state_dict()
    if not wanted.keys() <= state.keys() and all(key.startswith("module.") for key in state):
        state = _strip(state, "module.")
    _require_same(state, wanted, f"{path} does not fit {type(network).__name__}")
    network.load_state_dict(state)


def read_state(path: Path) -> dict[str, Tensor]:
    """Return the state dict in a .pth, .pt or .safetensors file, taken out of its usual wrappers.

    Raises:
        InputError: no such file, or it holds more than tensors.
    """
    if not path.is_file():
        raise InputError(f"weights must be a file, found none at {path}; check the path")
    state = _read_safetensors(path) if path.suffix == ".safetensors" else _read(path)
    while isinstance(state, Mapping):
        inner = next((state[key] for key in _WRAPPERS if isinstance(state.get(key), Mapping)), None)
        if inner is None:
            break
        state = inner
    if (
        not isinstance(state, Mapping)
        or not state
        or not all(isinstance(each, Tensor) for each in state.values())
    ):
        raise InputError(
            f"{path} must hold names and their tensors, got a {type(state).__name__} of something else; "
            "save network.state_dict()"
        )
    return {str(key): tensor for key, tensor in state.items()}


def _read(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        raise InputError(
            f"{path} holds more than tensors or is damaged, so it was not read; save network.state_dict()"
        ) from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
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
            f"{path} is not a safetensors file or is damaged; download or save it again"
        ) from error


def fitted_state(
    state: dict[str, Tensor], wanted: Mapping[str, Tensor], problem: str, *, unused: Callable[[str], bool]
) -> dict[str, Tensor]:
    """Return `state` with the keys and shapes of `wanted`, its first convolution fitted to their channels.

    Prefixes of usual wrappers go, and so do the keys that `wanted` lacks where `unused` holds for them.

    Raises:
        InputError: they still differ; the message starts with `problem`.
    """
    state = _without_prefixes(state, wanted.keys())
    kept = {key: tensor for key, tensor in state.items() if key in wanted or not unused(key)}
    for key, tensor in wanted.items():
        if key in kept:
            kept[key] = with_channels(kept[key], tensor)
        elif key.endswith(".num_batches_tracked"):  # absent from old files, and read by nothing
            kept[key] = tensor
    _require_same(kept, wanted, problem)
    return kept


def with_channels(weight: Tensor, wanted: Tensor) -> Tensor:
    """Turn a convolution over RGB, (O, 3, h, w), into one over the channels of `wanted`; others stay.

    One channel is seen as its RGB replication; channel c of C is seen as RGB channel c % 3, times 3 / C.
    """
    if weight.ndim != 4 or weight.shape[1] != 3 or wanted.ndim != 4 or wanted.shape[1] == 3:
        return weight
    channels, weight = wanted.shape[1], weight.to(wanted.dtype)
    if channels == 1:
        return weight.sum(1, keepdim=True)
    return weight[:, torch.arange(channels) % 3] * (3 / channels)


def _fitted_encoder(state: dict[str, Tensor], wanted: dict[str, Tensor], problem: str) -> dict[str, Tensor]:
    own_prefix = "model." if all(key.startswith("model.") for key in wanted) else ""  # timm's encoders in smp
    bare = {key.removeprefix(own_prefix): tensor for key, tensor in wanted.items()}
    fitted = fitted_state(state, bare, problem, unused=lambda key: _is_unused(key, bare))
    return {own_prefix + key: tensor for key, tensor in fitted.items()}


def _without_prefixes(state: dict[str, Tensor], wanted: Iterable[str]) -> dict[str, Tensor]:
    wanted = set(wanted)
    for _ in _PREFIXES:
        for prefix in _PREFIXES:
            if wanted.isdisjoint(state) and any(key.startswith(prefix) for key in state):
                state = _strip(state, prefix)
    return state


def _strip(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}


def _is_unused(key: str, wanted: Mapping[str, Tensor]) -> bool:
    if key.startswith(_BEHIND_FEATURES):
        return True
    layer, _, statistic = key.rpartition(".")
    return f".{statistic}" in _BATCH_STATISTICS and f"{layer}.weight" in wanted


def _require_same(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], problem: str) -> None:
    shapes = [
        f"{key} {tuple(state[key].shape)} for {tuple(tensor.shape)}"
        for key, tensor in wanted.items()
        if key in state and state[key].shape != tensor.shape
    ]
    differences = {
        "missing": [key for key in wanted if key not in state],
        "unexpected": [key for key in state if key not in wanted],
        "other shape": shapes,
    }
    found = [f"{what}: {_first(keys)}" for what, keys in differences.items() if keys]
    if found:
        raise InputError(
            f"{problem}: {'; '.join(found)}; give the weights of the same architecture and settings"
        )


def _first(keys: list[str]) -> str:
    rest = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return ", ".join(keys[:3]) + rest
