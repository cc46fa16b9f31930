"""Numeric signals of a network on samples, cached beside its checkpoint.

Signals are computed in float64 from float32 logits; half precision would turn close values into ties, on
which low false positive rates depend. Only the numbers are stored, never logits.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tokenize import TokenError
from typing import Any, Final
from warnings import catch_warnings

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from seg_mia.atomic import written_whole
from seg_mia.data.augment import Augmentation, mirrored_axes
from seg_mia.data.base import SegmentationData
from seg_mia.data.predictions import cache_name, check_classes, finite_logits, is_reproducible
from seg_mia.data.samples import Samples
from seg_mia.data.trained_model import TrainedModel
from seg_mia.membership.signals import Signal, checked
from seg_mia.models.prompts import prompts_from
from seg_mia.runs import run_of

FOLDER: Final = "signals"
DAMAGES: Final = (
    FileNotFoundError, ValueError, EOFError, MemoryError, OverflowError, SyntaxError, TokenError, UserWarning,
)  # fmt: skip
"""What NumPy raises of a missing or damaged file, or says of one of another version."""
Values = NDArray[np.float64]


def signal_values(
    side: TrainedModel,
    signals: Sequence[Signal],
    data: SegmentationData,
    indices: NDArray[np.int64],
    device: torch.device,
    *,
    augment: Augmentation = "none",
) -> list[Values]:
    """Return each signal of a network on samples, (n,) or (n, numbers), computed unless cached.

    Queries use evaluation mode and samples without augmentation. A signal with `mirrors` is the mean over the
    mirror images that the policy `augment` contains, with the output mirrored back. A network class from
    outside this package is queried every time: its output may depend on files or services outside its
    checkpoint.

    Args:
        side: the network.
        signals: numeric signals.
        data: the samples to read, after setup.
        indices: of the samples in the data set, (n,).
        device: device of the queries.
        augment: augmentation of the attacked network's training.

    Raises:
        InputError: an output or a signal that is not finite.
    """
    mirrored = mirrored_axes(augment, axes=data.cached.masks.ndim - 1)
    axes = [mirrored if signal.mirrors else ((),) for signal in signals]
    files = [_file(side, signal, turns, data, indices) for signal, turns in zip(signals, axes, strict=True)]
    values = [read_signal(file, len(indices)) for file in files]
    missing = [number for number, known in enumerate(values) if known is None]
    if missing:
        computed = _computed(side, [(signals[i], axes[i]) for i in missing], data, indices, device)
        for number, value in zip(missing, computed, strict=True):
            values[number] = value
            if (file := files[number]) is not None:
                with written_whole(file) as stream:
                    np.save(stream, value, allow_pickle=False)
    return [value for value in values if value is not None]


def _file(
    side: TrainedModel,
    signal: Signal,
    axes: Sequence[tuple[int, ...]],
    data: SegmentationData,
    indices: NDArray[np.int64],
) -> Path | None:
    """Return the cache file of a signal; None if it must not be cached."""
    path, options = _described(signal)
    if not is_reproducible([side.built, *({"class_path": name} for name in _paths(signal))]):
        return None
    spec = [path, list(axes), options]
    return run_of(side.file) / FOLDER / f"{cache_name(side.file, data, indices, side.built, spec)}.npy"


def _described(signal: Signal) -> tuple[str, dict[str, Any]]:
    """Return the class path and the options of a signal, those of a nested signal likewise."""
    options = {
        name: _described(value) if isinstance(value, Signal) else value
        for name, value in vars(signal).items()
    }
    return f"{type(signal).__module__}.{type(signal).__qualname__}", options


def _paths(signal: Signal) -> list[str]:
    """Return the class paths of a signal and of nested ones."""
    nested = [path for value in vars(signal).values() if isinstance(value, Signal) for path in _paths(value)]
    return [_described(signal)[0], *nested]


def read_signal(file: Path | None, count: int) -> Values | None:
    """Return the cached values of `count` samples; None if there are none, or damaged ones."""
    if file is None:
        return None
    with suppress(*DAMAGES), catch_warnings(action="error"):
        values: Values = np.load(file, allow_pickle=False)
        if values.ndim and len(values) == count and values.dtype == np.float64:
            return values
    return None


@torch.no_grad()
def _computed(
    side: TrainedModel,
    wanted: Sequence[tuple[Signal, Sequence[tuple[int, ...]]]],
    data: SegmentationData,
    indices: NDArray[np.int64],
    device: torch.device,
) -> list[Values]:
    network = side.network.to(device).eval()
    samples, size = data.dataset(indices), data.query_batch
    turns = max((axes for _, axes in wanted), key=len)
    parts: list[list[torch.Tensor]] = [[] for _ in wanted]
    for start in tqdm(range(0, len(indices), size), desc="signals", leave=False, disable=None):
        image, mask = _batch(samples, range(start, min(start + size, len(indices))), device)
        name = data.source.ids[int(indices[start])]
        logits = {axes: _mirrored_logits(network, image, mask, axes, name) for axes in turns}
        check_classes(logits[()].shape[1], data)
        for (signal, axes), part in zip(wanted, parts, strict=True):
            part.append(_mean_signal(signal, [logits[turn] for turn in axes], image, mask))
    return [
        checked(torch.cat(part), type(signal).__name__).numpy()
        for (signal, _), part in zip(wanted, parts, strict=True)
    ]


def _mirrored_logits(
    network: nn.Module, image: torch.Tensor, mask: torch.Tensor, axes: tuple[int, ...], name: str
) -> torch.Tensor:
    """Return the logits of images mirrored along `axes`, mirrored back; prompts are mirrored along."""
    with prompts_from(mask.flip([axis - 1 for axis in axes])):
        return finite_logits(network, image.flip(axes), name).flip(axes)


def _batch(samples: Samples, rows: Sequence[int], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    drawn = [samples[0, row] for row in rows]
    image, mask = (torch.stack([getattr(sample, name) for sample in drawn]) for name in ("image", "mask"))
    return image.to(device), mask.to(device)


def _mean_signal(
    signal: Signal, logits: Sequence[torch.Tensor], image: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """Return the mean of a signal over queries, float64 (N, ...)."""
    values = [signal(output, image, mask).double().cpu() for output in logits]
    return torch.stack(values).mean(dim=0)
