"""Label counts of volume slices and remarks on headers, stored in the cache folder to avoid slow rescans."""

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

_FORMAT = 3  # to be raised when the wording of a remark changes
_COUNTED = (2, 3)  # formats whose label counts are those of today; only the last when the counting changes


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


class Stored(NamedTuple):
    """Content of an index: labels and remarks by key."""

    labels: dict[str, Labels]
    remarks: dict[str, tuple[str, ...]]


class SliceIndex:
    """Label counts of slices and remarks in one JSON file, keyed by digests of the source files.

    Args:
        file: path of the JSON file; None stores nothing.

    Attributes:
        changed: whether there is something new to save.
    """

    def __init__(self, file: Path | None = None) -> None:
        self.file = file
        self.changed = False
        self._digests = dict[Path, str]()
        self._labels, self._remarks = _read(file)

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

    def remarks(self, scan: Scan) -> tuple[str, ...]:
        """Return the stored remarks on a scan's header, or read the header and store them."""
        key = f"{self.digest(scan.files)} {type(scan).__name__} {scan.cache_key}"
        if key not in self._remarks:
            self._remarks[key] = scan.remarks()
            self.changed = True
        return self._remarks[key]

    def save(self) -> None:
        """Write new counts and remarks."""
        if self.file is None or not self.changed:
            return
        with writing(self.file.parent), written_whole(self.file) as file:
            content = {"format": _FORMAT, "labels": self._labels, "remarks": self._remarks}
            file.write(json.dumps(content).encode())
        self.changed = False


def _read(file: Path | None) -> Stored:
    """Return the stored counts and remarks; empty if the file is missing or damaged.

    Of a former format, whose labels were counted in the same way, the counts alone.
    """
    if file is None:
        return Stored({}, {})
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        labels = {
            key: Labels(int(slices), [Count(int(number), int(label), int(n)) for number, label, n in rows])
            for key, (slices, rows) in content["labels"].items()
        }
        if content["format"] != _FORMAT:
            return Stored(labels if content["format"] in _COUNTED else {}, {})
        remarks = {key: tuple(map(str, texts)) for key, texts in content["remarks"].items()}
        return Stored(labels, remarks)
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError):
        return Stored({}, {})
