"""What networks from outside this package depend on besides their source and weights, as part of a key.

Their constructor may read a file, their answer may come from a service. Nobody can know all that foreign code
does; so a key holds what it is seen to read, and what it answers on a few images of the data.
"""

import hashlib
import logging
import os
import secrets
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from seg_mia.config.spec import class_paths, resolve
from seg_mia.data.base import SegmentationData
from seg_mia.models.heads import heads

log = logging.getLogger(__name__)

IMAGES = 8
"""How many of the data's images a network is asked about, evenly spread over all."""
SERVICES = {
    "socket.connect", "socket.getaddrinfo", "urllib.Request", "subprocess.Popen", "os.system",
    "os.posix_spawn",
}  # fmt: skip
"""Events of Python's audit hooks by which a program turns to another."""
CODE = {".py", ".pyc", ".so", ".pyi"}
"""Files that are imported: their source is part of the key already."""
KERNEL = ("/proc/", "/sys/", "/dev/")


@dataclass
class Reads:
    """What was opened for reading, and how other programs were turned to."""

    files: set[str] = field(default_factory=set)
    services: set[str] = field(default_factory=set)


_watching = list[Reads]()
_hooked = list[bool]()


def foreign(value: object) -> list[str]:
    """Return the class paths outside this package that a specification names, at any depth."""
    return sorted({path for path in class_paths(value) if not path.startswith("seg_mia.")})


def outside(named: Sequence[str], make: Callable[[], nn.Module], data: SegmentationData | None) -> object:
    """Return what tells whether a network answers as it did, as plain values.

    Args:
        named: class paths outside this package that it is made of; they are imported first.
        make: builds the network with its weights.
        data: whose images it is asked about, as described; None where there are none.

    Returns:
        the digest of its answers, and of each file that it reads meanwhile; of one that turns to a service or
        another program, or that fails, a value that never comes again.
    """
    images = None if data is None else _images(data)
    try:
        for path in named:
            resolve(path)
        with watched() as reads:
            answers = _answers(make, images)
    except Exception as error:  # noqa: BLE001  # foreign code may raise anything; the stage itself will tell it
        log.debug("%s cannot be asked: %s", named, error)
        return secrets.token_hex()
    if reads.services:
        services = ", ".join(sorted(reads.services))
        log.info(
            "%s turns to other programs (%s): nothing is taken from earlier runs", ", ".join(named), services
        )
        return secrets.token_hex()
    return [answers, sorted(digest for name in reads.files if (digest := _digest(Path(name))))]


@contextmanager
def watched() -> Iterator[Reads]:
    """Note what is opened for reading and which other programs are turned to, by any thread."""
    if not _hooked:  # a hook stays for good: it is added once, and looks on only here
        sys.addaudithook(_note)
        _hooked.append(True)
    reads = Reads()
    _watching.append(reads)
    try:
        yield reads
    finally:
        _watching.remove(reads)


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watching:
        return
    if event in SERVICES:
        for reads in _watching:
            reads.services.add(event)
    elif event == "open" and _is_read(arguments):
        name = os.path.abspath(os.fsdecode(arguments[0]))  # noqa: PTH100  # pathlib may raise, a hook must not
        for reads in _watching:
            reads.files.add(name)


def _is_read(arguments: tuple[Any, ...]) -> bool:
    path, mode, flags = arguments
    if not isinstance(path, str | bytes | os.PathLike):
        return False
    if isinstance(mode, str):
        return not set(mode) & set("wax+")
    return isinstance(flags, int) and flags & os.O_ACCMODE == os.O_RDONLY


def _digest(file: Path) -> str | None:
    """Return a file's digest; None for code, for what the system makes up, and for what is gone."""
    if file.suffix in CODE or str(file).startswith(KERNEL):
        return None
    try:
        if not file.is_file():
            return None
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError:
        return None


def _images(data: SegmentationData) -> torch.Tensor:
    data.prepare_data()
    count = len(data.source.ids)
    samples = data.dataset(np.unique(np.linspace(0, count - 1, min(IMAGES, count)).astype(np.int64)))
    return torch.stack([samples[0, row].image for row in range(len(samples))])


def _answers(make: Callable[[], nn.Module], images: torch.Tensor | None) -> str:
    """Return the digest of all heads' logits, from weights that a seed decides where none are loaded."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        network = make().eval()
        outputs = [] if images is None else heads(network(images))
    digest = hashlib.sha256()
    for logits in outputs:
        digest.update(str(tuple(logits.shape)).encode() + logits.float().contiguous().numpy().tobytes())
    return digest.hexdigest()
