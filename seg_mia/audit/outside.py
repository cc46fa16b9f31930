"""Cache keys of third-party networks: dependencies besides their source and weights.

A constructor may read a file, and outputs may come from a service. The full behaviour of third-party code is
unknown; a key therefore includes the files it is observed to read, and its outputs on a few images.
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

from seg_mia.config.on_demand import is_importing
from seg_mia.config.spec import SERVICE, class_paths, resolve
from seg_mia.data.base import SegmentationData
from seg_mia.models.heads import heads
from seg_mia.models.service import Service

log = logging.getLogger(__name__)

IMAGES = 8
"""Number of images on which a network is queried, evenly spaced over the data."""
SERVICES = {
    "socket.connect", "socket.getaddrinfo", "urllib.Request", "subprocess.Popen", "os.system",
    "os.posix_spawn",
}  # fmt: skip
"""Audit events of Python by which a program contacts another."""
CODE = {".py", ".pyc", ".so", ".pyi"}
"""Imported files, whose source is already part of the key."""
KERNEL = ("/proc/", "/sys/", "/dev/")


@dataclass
class Reads:
    """Files opened for reading, and contacts with other programs."""

    files: set[str] = field(default_factory=set)
    services: set[str] = field(default_factory=set)


_watching = list[Reads]()
_hooked = list[bool]()


def foreign(value: object) -> list[str]:
    """Return the paths of third-party classes, and of services, in a specification, at any depth."""
    paths = class_paths(value)
    return sorted({path for path in paths if not path.startswith("seg_mia.") or path == SERVICE})


def outside(named: Sequence[str], make: Callable[[], nn.Module], data: SegmentationData | None) -> object:
    """Return plain values that change if a network's outputs may have changed.

    Args:
        named: third-party class paths of the network; they are imported first.
        make: builds the network with its weights.
        data: specification of the data with the images to query; None if there are none.

    Returns:
        the digest of its outputs, and of each file read meanwhile; for a network that contacts another
        program, other than a `Service` of a stated version, or that fails, a value that is never repeated.
    """
    images = None if data is None else _images(data)
    try:
        for path in named:
            resolve(path)
        with watched() as reads:
            network = _seeded(make)
            answers = _answers(network, images)
    except Exception as error:  # noqa: BLE001  # foreign code may raise anything; the stage itself will tell it
        log.debug("no version of %s: %s", named, error)
        return secrets.token_hex()
    if reads.services and not (set(named) == {SERVICE} and _has_version(network)):
        services = ", ".join(sorted(reads.services))
        log.info(
            "%s depends on other programs (%s): results of earlier runs are not reused",
            ", ".join(named),
            services,
        )
        return secrets.token_hex()
    return [answers, sorted(digest for name in reads.files if (digest := _digest(Path(name))))]


@contextmanager
def watched() -> Iterator[Reads]:
    """Record files opened for reading and other programs contacted, by any thread."""
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
    if not _watching or is_importing():
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
    """Return a file's digest; None for code, virtual system files and deleted files."""
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


def _has_version(network: nn.Module) -> bool:
    """Return whether all services in a network state a version."""
    return all(module.version for module in network.modules() if isinstance(module, Service))


def _seeded(make: Callable[[], nn.Module]) -> nn.Module:
    """Return a network with seeded weights if none are loaded."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make().eval()


def _answers(network: nn.Module, images: torch.Tensor | None) -> str:
    """Return the digest of all heads' logits."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        outputs = [] if images is None else heads(network(images))
    digest = hashlib.sha256()
    for logits in outputs:
        digest.update(str(tuple(logits.shape)).encode() + logits.float().contiguous().numpy().tobytes())
    return digest.hexdigest()
