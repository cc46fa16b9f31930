"""Labels of the slices of volumes, kept in the cache folder: they take long to look through."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from seg_mia.atomic import written_whole
from seg_mia.data.cache import writing
from seg_mia.data.images.reading import digest

_FORMAT = 2  # raise it when equal labels are counted otherwise than before


class Count(NamedTuple):
    """How many pixels of one label id a slice has."""

    slice: int
    label: int
    pixels: int


class Labels(NamedTuple):
    """How many slices a volume has, and what labels are on them."""

    slices: int
    counts: list[Count]


class SliceIndex:
    """The labels of slices in one JSON file, under the digests of what they were read from.

    Args:
        file: where to keep it; None keeps nothing.

    Attributes:
        changed: whether labels had to be counted that are not kept yet.
    """

    def __init__(self, file: Path | None = None) -> None:
        self.file = file
        self.changed = False
        self._digests = dict[Path, str]()
        self._labels = _read(file)

    def digest(self, paths: Sequence[Path]) -> str:
        """Return a SHA-256 of the files' bytes, in this order. Raises InputError if one cannot be read."""
        for path in paths:
            if path not in self._digests:
                self._digests[path] = digest(path)
        digests = [self._digests[path] for path in paths]
        return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()

    def labels(self, key: str, count: Callable[[], Labels]) -> Labels:
        """Return what is kept under a key, or count it and keep it."""
        if key not in self._labels:
            self._labels[key] = count()
            self.changed = True
        return self._labels[key]

    def save(self) -> None:
        """Write what is new."""
        if self.file is None or not self.changed:
            return
        with writing(self.file.parent), written_whole(self.file) as file:
            file.write(json.dumps({"format": _FORMAT, "labels": self._labels}).encode())
        self.changed = False


def _read(file: Path | None) -> dict[str, Labels]:
    """Return what was kept; nothing where it is missing or damaged."""
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
