"""Loading of weights into an encoder or a whole network, without code execution."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from seg_mia.errors import InputError, name_some
from seg_mia.models.pretraining import PretrainedWeights, loaded_file, loaded_network, loaded_tensors
from seg_mia.models.state_files import State, states
from seg_mia.models.state_names import Match, matched

log = logging.getLogger(__name__)

_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.", "encoder.")
# Layers of classifiers after the last feature map. Dropped only if the encoder lacks the key.
_BEHIND_FEATURES = ("classifier.", "fc.", "head.", "last_linear.", "conv_head.", "bn2.", "norm.")
_BATCH_STATISTICS = (".running_mean", ".running_var", ".num_batches_tracked")


@runtime_checkable
class Pretrained(Protocol):
    """Network with ImageNet encoder weights from its library."""

    def imagenet_encoder(self) -> dict[str, Tensor]:
        """Return the encoder's state dict for three channels, downloaded if necessary."""


@runtime_checkable
class ReadsWeights(Protocol):
    """Network that reads its weights itself, from a folder or a file of its own layout."""

    def read_weights(self, path: Path) -> str:
        """Load the weights in place, and return a description."""


def load_encoder(network: nn.Module, source: str | Path) -> PretrainedWeights:
    """Load pre-trained weights into `network.encoder`, in place, every tensor or none; return their identity.

    `source` is "imagenet" (weights of the network's library, downloaded) or a local state dict (.pth, .pt or
    .safetensors) with the encoder's own key names; timm's keys match smp's `timm-` and `tu-` encoders.
    Classifier layers are dropped, as are batch statistics where GroupNorm replaced BatchNorm. A first
    convolution for RGB is summed over RGB for one channel; for other numbers its channels are repeated
    cyclically and scaled by 3 / channels, as in smp.

    Raises:
        InputError: no such weights, or they do not match the encoder.
    """
    encoder = getattr(network, "encoder", None)
    if not isinstance(encoder, nn.Module):
        raise InputError(
            f"pre-trained encoder weights need a network with an `encoder`, got {type(network).__name__}; "
            "load a whole state dict instead"
        )
    if str(source) != "imagenet":
        state_dicts = states(Path(source))
        origin = loaded_file(Path(source), "encoder")
    elif isinstance(network, Pretrained):
        state_dicts = {"": network.imagenet_encoder()}
        origin = loaded_tensors("imagenet", state_dicts[""], "encoder")
    else:
        raise InputError(
            f"ImageNet weights are not available for {type(network).__name__}; give the path of a state dict"
        )
    name = getattr(network, "encoder_name", type(encoder).__name__)
    problem = f"{source} does not fit encoder {name}"
    encoder.load_state_dict(_only_encoder(Path(source), state_dicts, encoder.state_dict(), problem))
    return origin


def load_state(network: nn.Module, path: str | Path, key: str | None = None) -> str:
    """Load a whole state dict into `network`, in place: every tensor or none.

    The file contains the state dict itself, or a dict with it at any key. Name prefixes and insertions by
    DataParallel, torch.compile, Lightning and others are dropped, and prefixes of wrappers in the network
    added, provided that all names and shapes then match.

    Args:
        network: network to load into.
        path: file of weights.
        key: location of the state dict in the file, keys joined by dots; needed if several match and differ.

    Returns:
        description of the chosen state dict and dropped name parts; "" for an unmodified state dict.

    Raises:
        InputError: missing file, content beyond tensors, no state dict at `key`, mismatched names or shapes,
            or more than one matching state dict.
    """
    path = Path(path)
    if isinstance(network, ReadsWeights):
        return _own_reading(network, path, key)
    expected = network.state_dict()
    problem = f"{path} does not fit {type(network).__name__}"
    path_in_file, match = _chosen(
        path, {name: matched(state, expected) for name, state in _at(path, key).items()}, problem
    )
    network.load_state_dict(match.state)
    taken = [*([f"under {path_in_file!r}"] if path_in_file else []), *match.changes()]
    report = f"{path}: weights loaded {', '.join(taken)}; all names and shapes match" if taken else ""
    if report:
        log.info(report)
    return report


def load_initial(
    network: nn.Module, encoder: str | None, weights: str | None, key: str | None
) -> list[PretrainedWeights]:
    """Load the weights that a training starts from, in place; return their identities, none for random ones.

    Args:
        network: network to load into.
        encoder: source of `load_encoder`, if any.
        weights: file or folder of `load_state`, if any, which may replace the encoder's.
        key: location of the state dict in that file.

    Raises:
        InputError: errors of `load_encoder` and `load_state`.
    """
    loaded = [] if encoder is None else [load_encoder(network, encoder)]
    if weights is not None:
        load_state(network, weights, key)
        loaded.append(loaded_network(Path(weights), network))
    return loaded


def _own_reading(network: ReadsWeights, path: Path, key: str | None) -> str:
    if key is not None:
        raise InputError(f"weights_key does not apply to {type(network).__name__}, got {key!r}; leave it out")
    report = network.read_weights(path)
    log.info(report)
    return report


def _at(path: Path, key: str | None) -> dict[str, State]:
    """Return the state dicts of a file, or only the one at `key`."""
    state_dicts = states(path)
    if key is None:
        return state_dicts
    if key not in state_dicts:
        places = [repr(name) for name in _usual(state_dicts) if name]
        location = f"under {name_some(places, 8)}" if places else "at the file's top level: leave it out"
        raise InputError(
            f"weights_key must be where {path} holds a state dict, got {key!r}; it has one {location}"
        )
    return {key: state_dicts[key]}


def _chosen(path: Path, matches: dict[str, Match], problem: str) -> tuple[str, Match]:
    """Return the single matching state dict and its location; equal tensors count as one."""
    fitting = [(path_in_file, match) for path_in_file, match in matches.items() if match.fits]
    if not fitting:
        path_in_file, nearest = min(matches.items(), key=lambda item: (not item[1].state, item[1].distance))
        raise InputError(_difference(problem, path_in_file, nearest))
    first = fitting[0][1].state
    differing = [path_in_file for path_in_file, match in fitting[1:] if not _equal(first, match.state)]
    if differing:
        raise ambiguous(path, [fitting[0][0], *differing], f"--model.weights_key {differing[-1]}")
    return fitting[0]


def ambiguous(path: Path, places: Sequence[str], option: str = "") -> InputError:
    """Return the message for a file with several matching state dicts, with the choosing option, if any."""
    key = places[-1].split(".")[0]
    remedy = (
        f"name the one that is deployed, {option}"
        if option
        else f"save only the one that is deployed, torch.save(torch.load(FILE)[{key!r}], NEW)"
    )
    return InputError(
        f"{path} holds {len(places)} matching state dicts that differ, under {', '.join(places)}; {remedy}"
    )


def _equal(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def _difference(problem: str, path_in_file: str, match: Match) -> str:
    """Describe the mismatch of a state dict in one line."""
    assumptions = [f"under {path_in_file!r}"] if path_in_file else []
    assumptions += [f"without {match.front!r} in front"] if match.front else []
    seen = f" ({', '.join(assumptions)})" if assumptions else ""
    if not match.missing and not match.shapes:
        return (
            f"{problem}{seen}: all weights are present, and also {name_some(match.unexpected)}; save only "
            "those of the network, network.state_dict()"
        )
    differences = {"missing": match.missing, "unexpected": match.unexpected, "other shape": match.shapes}
    problems = [f"{kind}: {name_some(keys)}" for kind, keys in differences.items() if keys]
    return f"{problem}{seen}: {'; '.join(problems)}; give the weights of the same architecture and settings"


def read_state(path: Path) -> State:
    """Return the single state dict in a .pth, .pt or .safetensors file.

    Raises:
        InputError: missing file, content beyond tensors, or several state dicts.
    """
    state_dicts = states(path)
    places = _usual(state_dicts)
    if len(places) > 1:
        raise ambiguous(path, places)
    return state_dicts[places[0]]


def _usual(state_dicts: Mapping[str, State]) -> list[str]:
    """Return the locations of state dicts, except those of optimisers, whose tensors are numbered."""
    numbered = {
        path_in_file
        for path_in_file in state_dicts
        if any(part.isdigit() for part in path_in_file.split("."))
    }
    return [path_in_file for path_in_file in state_dicts if path_in_file not in numbered] or list(state_dicts)


def fitted_state(
    state: dict[str, Tensor], expected: Mapping[str, Tensor], problem: str, *, unused: Callable[[str], bool]
) -> dict[str, Tensor]:
    """Return `state` with the keys and shapes of `wanted`, its first convolution adapted in channels.

    Usual wrapper prefixes are dropped, as are keys absent from `wanted` for which `unused` holds.

    Raises:
        InputError: keys or shapes still differ; the message starts with `problem`.
    """
    state = _without_prefixes(state, expected.keys())
    fitted = {key: tensor for key, tensor in state.items() if key in expected or not unused(key)}
    for key, tensor in expected.items():
        if key in fitted:
            fitted[key] = with_channels(fitted[key], tensor)
        elif key.endswith(".num_batches_tracked"):  # absent from old files and unused
            fitted[key] = tensor
    _require_same(fitted, expected, problem)
    return fitted


def with_channels(weight: Tensor, expected: Tensor) -> Tensor:
    """Convert an RGB convolution (O, 3, h, w) to the channels of `wanted`; other tensors do not change.

    One channel acts as its RGB replication; channel c of C acts as RGB channel c % 3, times 3 / C.
    """
    if weight.ndim != 4 or weight.shape[1] != 3 or expected.ndim != 4 or expected.shape[1] == 3:
        return weight
    channels, weight = expected.shape[1], weight.to(expected.dtype)
    if channels == 1:
        return weight.sum(1, keepdim=True)
    return weight[:, torch.arange(channels) % 3] * (3 / channels)


def _only_encoder(
    path: Path, state_dicts: dict[str, State], expected: dict[str, Tensor], problem: str
) -> State:
    """Return the single state dict of a file that matches an encoder."""
    fitting, refusals = dict[str, State](), list[InputError]()
    for path_in_file, state in state_dicts.items():
        try:
            fitting[path_in_file] = _fitted_encoder(state, expected, problem)
        except InputError as error:
            refusals.append(error)
    if not fitting:
        raise refusals[0]
    first, *alternatives = fitting
    if differing := [
        path_in_file for path_in_file in alternatives if not _equal(fitting[first], fitting[path_in_file])
    ]:
        raise ambiguous(path, [first, *differing])
    return fitting[first]


def _fitted_encoder(state: dict[str, Tensor], expected: dict[str, Tensor], problem: str) -> dict[str, Tensor]:
    own_prefix = (
        "model." if all(key.startswith("model.") for key in expected) else ""
    )  # timm's encoders in smp
    bare = {key.removeprefix(own_prefix): tensor for key, tensor in expected.items()}
    fitted = fitted_state(state, bare, problem, unused=lambda key: _is_unused(key, bare))
    return {own_prefix + key: tensor for key, tensor in fitted.items()}


def _without_prefixes(state: dict[str, Tensor], expected: Iterable[str]) -> dict[str, Tensor]:
    expected = set(expected)
    for _ in _PREFIXES:
        for prefix in _PREFIXES:
            if expected.isdisjoint(state) and any(key.startswith(prefix) for key in state):
                state = _strip(state, prefix)
    return state


def _strip(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}


def _is_unused(key: str, expected: Mapping[str, Tensor]) -> bool:
    if key.startswith(_BEHIND_FEATURES):
        return True
    layer, _, statistic = key.rpartition(".")
    return f".{statistic}" in _BATCH_STATISTICS and f"{layer}.weight" in expected


def _require_same(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], problem: str) -> None:
    shapes = [
        f"{key} {tuple(state[key].shape)} for {tuple(tensor.shape)}"
        for key, tensor in expected.items()
        if key in state and state[key].shape != tensor.shape
    ]
    differences = {
        "missing": [key for key in expected if key not in state],
        "unexpected": [key for key in state if key not in expected],
        "other shape": shapes,
    }
    problems = [f"{kind}: {name_some(keys)}" for kind, keys in differences.items() if keys]
    if problems:
        raise InputError(
            f"{problem}: {'; '.join(problems)}; give the weights of the same architecture and settings"
        )
