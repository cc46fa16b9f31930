"""Identity of audited files: digests that tell later whether a file is still the audited one."""

import hashlib
from pathlib import Path
from typing import Literal

from seg_mia.results.base import Result

FileKind = Literal["checkpoint", "scores", "result"]


class HashedFile(Result):
    """A file of an audit and its digest.

    Attributes:
        path: below the folder of runs, or as named if it lies elsewhere.
        kind: whether it holds weights, scores of samples, or other results.
        sha256: digest of its content, in hexadecimal.
        bytes: its size.
    """

    path: str
    kind: FileKind
    sha256: str
    bytes: int


class WeightsIdentity(Result):
    """The weights that were attacked.

    Attributes:
        path: the checkpoint, below the folder of runs, or as named if it lies elsewhere.
        sha256: digest of the checkpoint.
        bytes: its size.
        parameters: floating-point values of the network, batch statistics excluded; None if not known.
    """

    path: str
    sha256: str
    bytes: int
    parameters: int | None


def sha256_of(file: Path) -> str:
    """Return the SHA-256 digest of a file in hexadecimal; raise OSError if it cannot be read."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
