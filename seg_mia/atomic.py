"""Atomic file writing."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def written_whole(path: Path, *, mode: int = 0o666, overwrite: bool = True) -> Iterator[BinaryIO]:
    """Open a hidden file that replaces `path` if the block ends without an exception.

    No process reads a partial file, and the previous file at `path` is kept if the block or the disk fails.

    Args:
        path: file to write; missing parent folders are created.
        mode: permissions, reduced by the process' umask.
        overwrite: replace an existing file; otherwise the first file is kept, also among concurrent
            processes.

    Raises:
        OSError: the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(path)
    try:
        partial.touch(mode=mode, exist_ok=False)
        with partial.open("wb") as file:
            yield file
        if overwrite or not _linked(path, partial):
            partial.replace(path)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def link_whole(path: Path, source: Path) -> None:
    """Replace `path` by a second name of the file `source`, or by a copy on a file system without links.

    Both must be replaced, never changed in place, when their content changes.
    """
    partial = _partial(path)
    try:
        try:
            partial.hardlink_to(source)
        except OSError:
            shutil.copyfile(source, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)  # still there if both names were one file's before


def _partial(path: Path) -> Path:
    """Return a hidden name, not made of that of `path`, which may be as long as the file system allows."""
    return path.with_name(f".{os.getpid()}-{secrets.token_hex(4)}.partial")


def _linked(path: Path, partial: Path) -> bool:
    """Link a file to its second name unless that exists; return False on a file system without links."""
    try:
        path.hardlink_to(partial)
    except FileExistsError:
        return True
    except OSError:
        return False
    return True
