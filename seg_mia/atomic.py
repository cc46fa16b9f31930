"""Files that are written whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def written_whole(path: Path, *, mode: int = 0o666, overwrite: bool = True) -> Iterator[BinaryIO]:
    """Open a hidden file beside `path` that takes its place when the block ends without an exception.

    No process ever reads half of it, and what stood at `path` stays where the block or the disk fails.

    Args:
        path: what is written; missing folders above it are made.
        mode: permissions, from which the process' umask is taken.
        overwrite: otherwise the file of whoever was first stays, also among processes at the same time.

    Raises:
        OSError: the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not made of the name of `path`, which may be as long as the file system allows.
    partial = path.with_name(f".{os.getpid()}-{secrets.token_hex(4)}.partial")
    try:
        partial.touch(mode=mode, exist_ok=False)
        with partial.open("wb") as file:
            yield file
        if overwrite or not _linked(path, partial):
            partial.replace(path)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _linked(path: Path, partial: Path) -> bool:
    """Give a file its second name unless that is taken; return False on a file system without links."""
    try:
        path.hardlink_to(partial)
    except FileExistsError:
        return True
    except OSError:
        return False
    return True
