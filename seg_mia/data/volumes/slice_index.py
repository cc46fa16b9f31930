"""What it takes long to find out about large files, kept in the cache folder for the next start."""

import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from seg_mia.data.cache import writing
from seg_mia.data.images.reading import digest

_FORMAT = 1  # raise it when equal labels are counted otherwise than before
_SETTLED = 2.0  # seconds after which a file's times tell whether it has changed since


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
    """Digests of files and the labels of their slices, in one JSON file.

    A file's digest is believed as long as its size, times and inode stay, as git does; labels are kept under
    the digests of what they were read from.

    Args:
        file: where to keep it; None keeps nothing.

    Attributes:
        changed: whether anything had to be found out that is not kept yet.
    """

    def __init__(self, file: Path | None = None) -> None:
        self.file = file
        self._digests = dict[Path, str]()
        self.changed = False
        kept = _read(file)
        self._files: dict[str, list[Any]] = kept["files"]
        self._labels: dict[str, Labels] = kept["labels"]

    def digest(self, paths: Sequence[Path]) -> str:
        """Return a SHA-256 of the files' bytes, in this order. Raises InputError if one cannot be read."""
        each = [self._one(path) for path in paths]
        return each[0] if len(each) == 1 else hashlib.sha256("".join(each).encode()).hexdigest()

    def labels(self, key: str, count: Callable[[], Labels]) -> Labels:
        """Return what is kept under a key, or count it and keep it."""
        if key not in self._labels:
            self._labels[key] = count()
            self.changed = True
        return self._labels[key]

    def save(self) -> None:
        """Write what is new, by a rename, so that no process meets half of it."""
        if self.file is None or not self.changed:
            return
        with writing(self.file.parent):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            partial = self.file.with_name(f"{self.file.name}.{os.getpid()}-{secrets.token_hex(4)}")
            partial.write_text(json.dumps({"format": _FORMAT, "files": self._files, "labels": self._labels}))
            partial.replace(self.file)
        self.changed = False

    def _one(self, path: Path) -> str:
        if path in self._digests:
            return self._digests[path]
        stamp = _stamp(path)
        kept = self._files.get(str(path))
        if stamp is not None and kept is not None and kept[:-1] == stamp:
            found = str(kept[-1])
        else:
            begun = time.time()
            found = digest(path)
            if stamp is not None and stamp == _stamp(path) and begun - max(stamp[1:3]) / 1e9 > _SETTLED:
                self._files[str(path)] = [*stamp, found]
                self.changed = True
        self._digests[path] = found
        return found


def _stamp(path: Path) -> list[int] | None:
    """Return what changes when a file's bytes do; its change time is the system's and cannot be set."""
    try:
        found = path.stat()
    except OSError:  # the digest will say so
        return None
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _read(file: Path | None) -> dict[str, Any]:
    """Return what was kept; nothing where it is missing or damaged."""
    empty: dict[str, Any] = {"files": {}, "labels": {}}
    if file is None:
        return empty
    try:
        kept = json.loads(file.read_text())
        files = {path: [*map(int, row[:4]), str(row[4])] for path, row in kept["files"].items()}
        labels = {
            key: Labels(int(slices), [Count(int(number), int(label), int(n)) for number, label, n in rows])
            for key, (slices, rows) in kept["labels"].items()
        }
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError):
        return empty
    return {"files": files, "labels": labels} if kept.get("format") == _FORMAT else empty
