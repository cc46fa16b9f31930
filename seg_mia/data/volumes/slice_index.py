"""Label counts of volume slices, stored in the cache folder to avoid slow rescans."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from seg_mia.atomic import written_whole
from seg_mia.data.cache import writing
from seg_mia.data.images.reading import digest
from seg_mia.data.volumes.geometry import Axis, Scan, across, check_same

_FORMAT = 2  # to be raised when the counting of labels changes


class Count(NamedTuple):
    """Pixel count of one label id in a slice."""

    slice: int
    label: int
    pixels: int


class Labels(NamedTuple):
    """Number of slices in a volume, and their label counts."""

    slices: int
    counts: list[Count]


def counted_labels(image: Scan, label: Scan, axis: Axis) -> Labels:
    """Check a label's grid and return its pixel count per slice and id, without id 0."""
    length = check_same(image, label).shape[across(axis)]
    volume = label.read()
    counts = list[Count]()
    for number in range(length):
        pixels = np.bincount(volume.labels(axis, number).ravel())
        counts += [Count(number, int(i), int(pixels[i])) for i in np.flatnonzero(pixels) if i]
    return Labels(length, counts)


class SliceIndex:
    """Label counts of slices in one JSON file, keyed by digests of the source files.

    Args:
        file: path of the JSON file; None stores nothing.

    Attributes:
        changed: whether there are new counts to save.
    """

    def __init__(self, file: Path | None = None) -> None:
        self.file = file
        self.changed = False
        self._digests = dict[Path, str]()
        self._labels = _read(file)

    def digest(self, paths: Sequence[Path]) -> str:
        """Return a SHA-256 of the files' bytes, in this order. Raises InputError for unreadable files."""
        for path in paths:
            if path not in self._digests:
                self._digests[path] = digest(path)
        digests = [self._digests[path] for path in paths]
        return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()

    def labels(self, key: str, count: Callable[[], Labels]) -> Labels:
        """Return the stored labels of a key, or count and store them."""
        if key not in self._labels:
            self._labels[key] = count()
            self.changed = True
        return self._labels[key]

    def save(self) -> None:
        """Write new counts."""
        if self.file is None or not self.changed:
            return
        with writing(self.file.parent), written_whole(self.file) as file:
            file.write(json.dumps({"format": _FORMAT, "labels": self._labels}).encode())
        self.changed = False


def _read(file: Path | None) -> dict[str, Labels]:
    """Return the stored counts; empty if the file is missing or damaged."""
    if file is None:
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        labels = {
            key: Labels(int(slices), [Count(int(number), int(label), int(n)) for number, label, n in rows])
            for key, (slices, rows) in content["labels"].items()
        }
        return labels if content["format"] == _FORMAT else {}
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError):
        return {}
