"""Numeric signals of a network on samples, cached beside its checkpoint.

Signals are computed in float64 from float32 logits; half precision would turn close values into ties, on
which low false positive rates depend. Only the numbers are stored, never logits.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from tokenize import TokenError
from typing import Any, Final, NamedTuple
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
from seg_mia.errors import InputError
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
    beside: Sequence[Signal] = (),
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
        beside: further signals to cache where the network is asked anyway, and gives what they need.

    Raises:
        InputError: an output or a signal that is not finite.
    """
    axes = mirrored_axes(augment, axes=data.cached.masks.ndim - 1)

    def wanted(signal: Signal) -> _Wanted:
        turns = axes if signal.mirrors else ((),)
        return _Wanted(signal, turns, _file(side, signal, turns, data, indices), [])

    columns = [wanted(signal) for signal in signals]
    values = [read_signal(column.file, len(indices)) for column in columns]
    missing = [column for column, known in zip(columns, values, strict=True) if known is None]
    if missing:
        given = {turn for column in missing for turn in column.turns}
        further = [
            column
            for column in map(wanted, beside)
            if column.file is not None
            and given.issuperset(column.turns)
            and column.file not in {other.file for other in columns}
            and read_signal(column.file, len(indices)) is None
        ]
        computed = iter(_computed(side, missing, further, data, indices, device))
        values = [next(computed) if known is None else known for known in values]
    return [value for value in values if value is not None]


class _Wanted(NamedTuple):
    """A signal to compute: over which mirror images, for which cache file, and its values of each batch."""

    signal: Signal
    turns: Sequence[tuple[int, ...]]
    file: Path | None
    parts: list[torch.Tensor]

    def add(
        self, logits: Mapping[tuple[int, ...], torch.Tensor], image: torch.Tensor, mask: torch.Tensor
    ) -> None:
        """Add the values of a batch: means over the mirror images."""
        values = [self.signal(logits[turn], image, mask).double().cpu() for turn in self.turns]
        self.parts.append(torch.stack(values).mean(dim=0))

    def stored(self) -> Values:
        """Return the values of all samples, and store them; raise InputError if they are not finite."""
        values: Values = checked(torch.cat(self.parts), type(self.signal).__name__).numpy()
        if self.file is not None:
            with written_whole(self.file) as stream:
                np.save(stream, values, allow_pickle=False)
        return values


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
    wanted: Sequence[_Wanted],
    further: Sequence[_Wanted],
    data: SegmentationData,
    indices: NDArray[np.int64],
    device: torch.device,
) -> list[Values]:
    """Return the wanted signals; of further ones, store those that the outputs permit."""
    network = side.network.to(device).eval()
    samples, size = data.dataset(indices), data.query_batch
    turns = max((column.turns for column in wanted), key=len)
    for start in tqdm(range(0, len(indices), size), desc="signals", leave=False, disable=None):
        image, mask = _batch(samples, range(start, min(start + size, len(indices))), device)
        name = data.source.ids[int(indices[start])]
        logits = {axes: _mirrored_logits(network, image, mask, axes, name) for axes in turns}
        check_classes(logits[()].shape[1], data)
        for column in wanted:
            column.add(logits, image, mask)
        further = [column for column in further if _permitted(partial(column.add, logits, image, mask))]
    values = [column.stored() for column in wanted]
    for column in further:
        _permitted(column.stored)
    return values


def _permitted(compute: Callable[[], object]) -> bool:
    """Return whether a computation that nobody asked for was possible."""
    try:
        compute()
    except InputError:
        return False
    return True


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
