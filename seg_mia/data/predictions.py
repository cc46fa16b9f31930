"""Cached outputs of a checkpoint's network on samples."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset
from tqdm import tqdm

import seg_mia
from seg_mia.atomic import written_whole
from seg_mia.config.spec import is_self_contained
from seg_mia.data.base import SegmentationData
from seg_mia.data.digests import content_digest
from seg_mia.errors import InputError
from seg_mia.models.heads import final
from seg_mia.models.prompts import prompts_from

FOLDER = "predictions"
_LARGEST = 60000.0  # half precision ends at 65504


class SignalBatch(NamedTuple):
    """Input of signals: logits (N, K, h, w), images, masks (N, h, w), membership and indices (N,)."""

    logits: Tensor
    image: Tensor
    mask: Tensor
    member: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody asks of a batch


class SignalMaps(Dataset[SignalBatch], ABC):
    """Samples for a classifier of maps, read by (epoch, position).

    Attributes:
        indices: a number for each sample, unique, (n,).
        members: membership of each sample, (n,).
        groups: patient or video of each sample, (n,).
        workers: processes that read samples.
    """

    indices: NDArray[np.int64]
    members: NDArray[np.bool_]
    groups: NDArray[np.str_]
    workers: int

    def __len__(self) -> int:
        return len(self.indices)

    @abstractmethod
    def part(self, positions: NDArray[np.int64]) -> Self:
        """Return some of the samples."""


class SignalSamples(SignalMaps):
    """Samples with cached outputs of a network.

    Args:
        data: after setup.
        indices: of the samples in the data set, (n,).
        members: membership of each sample, (n,).
        logits: cached logits, (m, K, h, w), or a function that returns those of one sample by its row.
        rows: row of each sample in `logits`, (n,); the first n if not given.
    """

    def __init__(
        self,
        data: SegmentationData,
        indices: NDArray[np.int64],
        members: NDArray[np.bool_],
        logits: NDArray[np.float16] | Callable[[int], NDArray[np.float16]],
        rows: NDArray[np.int64] | None = None,
    ) -> None:
        self.data, self.indices, self.members, self.logits = data, indices, members, logits
        self.rows = np.arange(len(indices)) if rows is None else rows
        self.samples = data.dataset(indices)
        self.groups = np.array([data.source.groups[i] for i in indices])
        self.workers = data.workers

    def __getitem__(self, draw: tuple[int, int]) -> SignalBatch:
        """Return the sample at (epoch, position)."""
        position = draw[1]
        image, mask, index = self.samples[draw]
        row = int(self.rows[position])
        logits = torch.from_numpy(np.array(self.logits(row) if callable(self.logits) else self.logits[row]))
        return SignalBatch(logits, image, mask, torch.tensor(bool(self.members[position])), index)

    def part(self, positions: NDArray[np.int64]) -> Self:
        """Return some of the samples."""
        indices, members, rows = self.indices[positions], self.members[positions], self.rows[positions]
        return type(self)(self.data, indices, members, self.logits, rows)

    def answered(self, positions: NDArray[np.int64]) -> Self:
        """Return the samples, with logits of some asked for now where each is asked for when it is read."""
        ask = self.logits
        if not callable(ask):
            return self
        known = {row: ask(row) for row in self.rows[positions].tolist()}

        def answer(row: int) -> NDArray[np.float16]:
            return known[row] if row in known else ask(row)

        return type(self)(self.data, self.indices, self.members, answer, self.rows)


def predictions(
    network: nn.Module,
    data: SegmentationData,
    indices: NDArray[np.int64],
    *,
    built: object,
    checkpoint: Path,
    folder: Path,
    device: torch.device,
) -> NDArray[np.float16]:
    """Return the network's logits on samples, (n, K, h, w), computed unless cached in `folder`.

    A network class from outside this package, or a service without a version, is queried every time: its
    output may depend on more than its checkpoint.

    Queries use evaluation mode, samples without augmentation, and float32.

    Args:
        network: with the checkpoint's weights.
        data: after setup.
        indices: of the samples in the data set, (n,).
        built: class and arguments of the network as plain values: equal weights may give other outputs.
        checkpoint: file of the weights; its content is part of the cache key.
        folder: cache folder; files are named by a digest of all that determines the outputs.
        device: device of the network.

    Raises:
        InputError: an output is not finite, or of other classes than the data's.
    """
    if not is_reproducible(built):
        return asked(network, data, indices, device)
    stored = folder / f"{cache_name(checkpoint, data, indices, built)}.npy"
    with suppress(FileNotFoundError, ValueError, EOFError):  # not there, or damaged: ask
        return _read(stored, len(indices))
    answers = asked(network, data, indices, device)
    with written_whole(stored) as file:
        np.save(file, answers, allow_pickle=False)
    return _read(stored, len(indices))


def is_reproducible(built: object) -> bool:
    """Return whether a network's outputs follow from its checkpoint."""
    return is_self_contained(built)


def cache_name(
    checkpoint: Path, data: SegmentationData, indices: NDArray[np.int64], built: object, *further: object
) -> str:
    """Return a digest of all that determines a network's outputs on samples, and of `further` plain values.

    Arguments as in `predictions`.
    """
    key = [
        content_digest(checkpoint).hex(),
        data.fingerprint,
        dict(data.source.settings),
        [data.source.ids[index] for index in indices],
        built,
        seg_mia.__version__,
        *further,
    ]
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:24]


def check_classes(channels: int, data: SegmentationData) -> None:
    """Raise InputError for a network with `channels` logits whose classes are not the data's."""
    classes = max(2, channels)
    if classes != data.source.classes:
        raise InputError(
            f"a network and its data must have the same classes, got {classes} and {data.source.classes}; "
            "name the data it was trained on"
        )


def finite_logits(network: nn.Module, images: Tensor, name: str) -> Tensor:
    """Return a network's logits (N, K, *S), float32; InputError naming a sample if some are not finite."""
    logits = final(network(images)).float()
    if not torch.isfinite(logits).all():
        raise InputError(
            f"the network's logits must be finite, got NaN or infinity near sample {name!r}; its "
            "training diverged, repeat it with a lower --model.lr"
        )
    return logits


def _read(file: Path, count: int) -> NDArray[np.float16]:
    answers: NDArray[np.float16] = np.load(file, mmap_mode="r", allow_pickle=False)
    if answers.ndim < 4 or len(answers) != count or answers.dtype != np.float16:
        raise ValueError("damaged")
    return answers


@torch.no_grad()
def asked(
    network: nn.Module, data: SegmentationData, indices: NDArray[np.int64], device: torch.device
) -> NDArray[np.float16]:
    """Return the network's logits on samples, as `predictions` does, always computed."""
    network.to(device).eval()
    samples, size = data.dataset(indices), data.query_batch
    answers = []
    for start in tqdm(range(0, len(indices), size), desc="querying the network", leave=False, disable=None):
        batch = [samples[0, row] for row in range(start, min(start + size, len(indices)))]
        images, masks = (torch.stack([sample[part] for sample in batch]).to(device) for part in (0, 1))
        with prompts_from(masks):
            logits = finite_logits(network, images, data.source.ids[int(indices[start])])
        check_classes(logits.shape[1], data)
        answers.append(logits.clamp(-_LARGEST, _LARGEST).half().cpu().numpy())
    return np.concatenate(answers)
