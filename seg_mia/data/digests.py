"""Persistent digests of files, recomputed only for files that have changed."""

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from seg_mia.atomic import written_whole

_FORMAT = 1
_SETTLED = 2.0  # seconds after which a file's times tell whether it has changed since
_WIDTH = 4  # numbers in a stamp

_rows = dict[str, list[Any]]()  # of the process: stamp and digest by absolute path
_used = set[str]()  # for whose digests, since `persistent_digests` was entered


@contextmanager
def persistent_digests(file: Path) -> Iterator[None]:
    """Use the digests stored in a file, and store new ones there at the end.

    As in git, a digest is valid while size, times and inode of its file are unchanged. Digests of files
    modified in the last two seconds are not stored. The file of digests is replaced atomically; of two
    concurrent writers one may lose entries, which are computed again. A missing, damaged or read-only file
    only costs time.
    """
    before = _read(file)
    for path, row in before.items():
        _rows.setdefault(path, row)
    _used.clear()
    try:
        yield
    finally:
        used = {path: _rows[path] for path in _used if path in _rows}
        if any(before.get(path) != row for path, row in used.items()):
            _write(file, used)


def content_digest(path: Path) -> bytes:
    """Return the SHA-256 of a file, from the stored digests if the file is unchanged.

    Raises:
        OSError: the file cannot be read.
    """
    began, stamp = time.time(), _stamp(path)
    name = str(path.absolute())
    row = _rows.get(name)
    if row is not None and row[:_WIDTH] == stamp:
        with suppress(ValueError, TypeError, IndexError):
            known = _bytes(row[_WIDTH])
            _used.add(name)
            return known
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
    _rows.pop(name, None)
    if stamp == _stamp(path) and began - max(stamp[1:3]) / 1e9 > _SETTLED:
        _rows[name] = [*stamp, digest.hex()]
        _used.add(name)
    return digest


def _stamp(path: Path) -> list[int]:
    """Return size, times and inode of a file; its change time is set by the system alone."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _bytes(text: str) -> bytes:
    """Return a digest; raise ValueError or TypeError for an invalid one."""
    digest = bytes.fromhex(text)
    if len(digest) != hashlib.sha256().digest_size:
        raise ValueError("not a SHA-256")
    return digest


def _read(file: Path) -> dict[str, list[Any]]:
    """Return the stored digests; none if the file is missing or damaged."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        rows = content["files"] if content["format"] == _FORMAT else {}
        return {path: list(row) for path, row in rows.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _write(file: Path, rows: dict[str, list[Any]]) -> None:
    """Merge rows into the current file, without entries of deleted files."""
    stored = {path: row for path, row in _read(file).items() if Path(path).exists()}
    with suppress(OSError), written_whole(file) as store:
        store.write(json.dumps({"format": _FORMAT, "files": {**stored, **rows}}).encode())
