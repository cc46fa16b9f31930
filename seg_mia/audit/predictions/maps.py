"""Predictions as maps of one size for a membership classifier: images, or slices of volumes that vote."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from seg_mia.data.prediction_files.reader import PredictionFiles, Record
from seg_mia.data.prediction_files.table import Row
from seg_mia.data.predictions import SignalBatch, SignalMaps
from seg_mia.data.progress import DecodingBar
from seg_mia.errors import InputError
from seg_mia.membership.scores import Guesses
from seg_mia.metrics.labels import IGNORE

SIDE = 128
"""Side in pixels of maps of predictions that differ in size, or of volumes."""
SLICES = 8
"""Most slices of a volume that are classified."""
_LARGEST = 60000.0  # half precision ends at 65504


@dataclass(frozen=True)
class StoredMaps(SignalMaps):
    """Maps on disk.

    Attributes:
        logits: (m, K, h, w).
        masks: (m, h, w).
        images: (m, C, h, w).
        indices: positions in these, (n,).
        members: membership of each, (n,).
        groups: patient of each, (n,).
        rows: position of each map's row, (n,).
    """

    logits: NDArray[np.float16]
    masks: NDArray[np.uint8]
    images: NDArray[np.float32]
    indices: NDArray[np.int64]
    members: NDArray[np.bool_]
    groups: NDArray[np.str_]
    rows: NDArray[np.int64]
    workers: int = 0

    def __getitem__(self, draw: tuple[int, int]) -> SignalBatch:
        """Return the map at (epoch, position)."""
        index = int(self.indices[draw[1]])
        return SignalBatch(
            torch.from_numpy(np.array(self.logits[index])),
            torch.from_numpy(np.array(self.images[index])),
            torch.from_numpy(self.masks[index].astype(np.int64)),
            torch.tensor(bool(self.members[draw[1]])),
            torch.tensor(index),
        )

    def part(self, positions: NDArray[np.int64]) -> Self:
        """Return some of the maps."""
        chosen = {name: getattr(self, name)[positions] for name in ("indices", "members", "groups", "rows")}
        return type(self)(self.logits, self.masks, self.images, **chosen)

    def voted(self, guesses: Guesses) -> Guesses:
        """Return the mean score of each row's maps."""
        counts = np.bincount(self.rows)

        def mean(scores: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.asarray(np.bincount(self.rows, weights=scores) / counts, dtype=np.float64)

        return Guesses(
            mean(guesses.scores),
            guesses.threshold,
            [(mean(scores), threshold) for scores, threshold in guesses.seeds],
            [mean(scores) for scores in guesses.last],
        )


def stored_maps(
    files: PredictionFiles, rows: Sequence[Row], folder: Path, size: tuple[int, int] | None
) -> StoredMaps:
    """Write the maps of some rows to a folder, and return them.

    Args:
        files: the predictions.
        rows: rows to read, one at a time.
        folder: an empty folder.
        size: size to resize maps to; None keeps that of the images.
    """
    folder.mkdir(parents=True)
    names = ("logits", "masks", "images")
    streams = {name: (folder / name).open("wb") for name in names}
    counts, shapes = list[int](), dict[str, tuple[int, ...]]()
    with DecodingBar("reading maps", "prediction") as bar:
        for number, row in enumerate(rows, start=1):
            planes: tuple[NDArray[Any], ...] = _planes(files.record(row), size)
            counts.append(len(planes[1]))
            for name, array in zip(names, planes, strict=True):
                if shapes.setdefault(name, array.shape[1:]) != array.shape[1:]:
                    raise InputError(
                        f"{row.where}: classifiers take {name} of one shape, got {array.shape[1:]} after "
                        f"{shapes[name]}; convert them, or leave classifiers out"
                    )
                streams[name].write(array.tobytes())
            bar(number, len(rows))
    for stream in streams.values():
        stream.close()
    total = sum(counts)
    source = np.repeat(np.arange(len(rows)), counts)
    return StoredMaps(
        logits=np.memmap(folder / "logits", np.float16, "r", shape=(total, *shapes["logits"])),
        masks=np.memmap(folder / "masks", np.uint8, "r", shape=(total, *shapes["masks"])),
        images=np.memmap(folder / "images", np.float32, "r", shape=(total, *shapes["images"])),
        indices=np.arange(total),
        members=np.array([row.member for row in rows])[source],
        groups=np.array([row.patient for row in rows])[source],
        rows=source,
    )


def map_size(shapes: Sequence[tuple[int, ...]]) -> tuple[int, int] | None:
    """Return the size to resize maps to; None where all are images of one size."""
    return None if len(set(shapes)) == 1 and len(shapes[0]) == 2 else (SIDE, SIDE)


def _planes(
    record: Record, size: tuple[int, int] | None
) -> tuple[NDArray[np.float16], NDArray[np.uint8], NDArray[np.float32]]:
    """Return logits (p, K, h, w), masks (p, h, w) and images (p, C, h, w) of a record's slices."""
    logits, mask = record.logits[0].float().clamp(-_LARGEST, _LARGEST), record.mask[0]
    image = torch.zeros(1, *mask.shape) if record.image is None else torch.from_numpy(np.array(record.image))
    if mask.ndim == 2:
        parts = [part.unsqueeze(1) for part in (logits, mask[None], image)]
    else:
        axis = mask.ndim - 1 - int(np.argmin(mask.shape[::-1]))
        chosen = torch.from_numpy(slices_of(mask, axis))
        parts = [part.movedim(axis + 1, 1)[:, chosen] for part in (logits, mask[None], image)]
    planes = [part.movedim(1, 0) for part in parts]
    if size is not None:
        planes = [_resized(planes[0], size), _nearest(planes[1], size), _resized(planes[2], size)]
    return (
        np.ascontiguousarray(planes[0].half().numpy()),
        np.ascontiguousarray(planes[1][:, 0].to(torch.uint8).numpy()),
        np.ascontiguousarray(planes[2].float().numpy()),
    )


def slices_of(mask: Tensor, axis: int) -> NDArray[np.int64]:
    """Return at most `SLICES` evenly spaced slices of a mask (d, h, w) with foreground, or of all."""
    foreground = ((mask > 0) & (mask != IGNORE)).movedim(axis, 0).flatten(1).any(dim=1).numpy()
    chosen = np.flatnonzero(foreground) if foreground.any() else np.arange(len(foreground))
    positions = np.linspace(0, len(chosen) - 1, min(SLICES, len(chosen))).round().astype(np.int64)
    return np.asarray(chosen[positions], dtype=np.int64)


def _resized(planes: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(planes, size=size, mode="bilinear", align_corners=False)


def _nearest(planes: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(planes.float(), size=size, mode="nearest").long()
