"""Salted hashes of sample ids, and one digest of a whole data set."""

import hashlib
import json
from collections.abc import Iterable

from seg_mia.data.source import Source
from seg_mia.errors import InputError


def hashed(ids: Iterable[str], salt: bytes) -> tuple[str, ...]:
    """Return a keyed 128-bit hash of each id, in hex: equal for equal ids only under the same salt.

    Raises:
        InputError: if the salt is not 16 to 64 bytes long.
    """
    if not 16 <= len(salt) <= 64:
        raise InputError(f"the salt must have 16 to 64 bytes, got {len(salt)}; use secrets.token_bytes(16)")
    return tuple(
        hashlib.blake2b(name.encode("utf-8", "surrogateescape"), key=salt, digest_size=16).hexdigest()
        for name in ids
    )


def fingerprint(source: Source) -> str:
    """Return the SHA-256 of all ids, groups, predefined parts and contents, independent of their order."""
    rows = sorted(
        (name, source.groups[i], source.digest(i), *_stated(source, i)) for i, name in enumerate(source.ids)
    )
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _stated(source: Source, index: int) -> tuple[str, ...]:
    return () if source.predefined_split is None else (source.predefined_split[index],)
