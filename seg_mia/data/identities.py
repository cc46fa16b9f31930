"""Salted hashes of samples and patients, and the private table that leads back from them to names."""

import csv
import io
import os
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from filelock import FileLock

from seg_mia.atomic import written_whole
from seg_mia.data.fingerprint import hashed
from seg_mia.errors import unwritable
from seg_mia.runs import SALT, results_of

T = TypeVar("T")
TABLE = "identities.csv"
"""Name of the table of hashes and names."""
OTHER_SALT = "identities.salt"
"""Salt in a folder without a training's: `salt` alone would tell that its checkpoint was trained there."""
LOCK = ".identities.lock"
HEADER = ("hash", "name")


def own_salt(folder: Path) -> bytes:
    """Return the salt stored beside a training, created at the first call.

    Without it, the hashed ids in a checkpoint do not reveal its training samples.
    """
    return _salt(folder / SALT)


def identity_folder(victim: str, runs: Path) -> Path:
    """Return the folder of an audited victim's salt: its run's, or that of its results (`results_of`).

    Args:
        victim: the victim's run folder or its checkpoint.
        runs: folder of runs.
    """
    path = Path(victim)
    return path if path.is_dir() else results_of(path, runs)


def identities(names: Iterable[str], *folders: Path) -> dict[str, str]:
    """Return the salted hash of each name, and enter new ones into a private table.

    The table (`identities.csv`: hash, name) is how the owner of the data finds a patient whose hash stands in
    a report; only the owner may read it.

    Args:
        names: ids of samples or names of patients.
        folders: folders of the salt and of the table: the first with a salt that can be read or created, and
            the first that can be written, such as an audited victim's run, then the folder of the audit.

    Returns:
        hash of each name, 32 hexadecimal digits.

    Raises:
        InputError: no folder can be written.
    """
    listed = sorted(set(names))
    if not listed:
        return {}
    salt = _first(folders, _identity_salt)
    hashes = dict(zip(listed, hashed(listed, salt), strict=True))
    _first(folders, lambda folder: _enter(hashes, folder / TABLE))
    return hashes


def _first(folders: Sequence[Path], use: Callable[[Path], T]) -> T:
    """Return the result of the first folder that can be used; raise InputError if none can."""
    for folder in folders[:-1]:
        try:
            return use(folder)
        except OSError:
            continue
    try:
        return use(folders[-1])
    except OSError as error:
        raise unwritable(folders[-1] / TABLE, error) from None


def _identity_salt(folder: Path) -> bytes:
    """Return the salt of a folder's identities: its training's if it has one, else one of its own."""
    other = folder / OTHER_SALT
    return _salt(folder / SALT if (folder / SALT).exists() and not other.exists() else other)


def _salt(file: Path) -> bytes:
    if not file.exists():
        # Another rank may be first; all of them must read the same salt.
        with written_whole(file, mode=0o600, overwrite=False) as salt:
            salt.write(secrets.token_hex(16).encode())
    return bytes.fromhex(file.read_text())


def _enter(hashes: Mapping[str, str], file: Path) -> None:
    """Enter the hashes that a table lacks; it is replaced as a whole, by one process at a time."""
    entries = {code: name for name, code in hashes.items()}
    if _is_private(file) and entries.items() <= _entries(file).items():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_name(LOCK)):
        rows = _entries(file) | entries
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerows([HEADER, *rows.items()])
        with written_whole(file, mode=0o600) as table:
            table.write(buffer.getvalue().encode("utf-8", "surrogateescape"))


def _is_private(file: Path) -> bool:
    """Return whether a table exists that nobody else may read."""
    return file.exists() and (os.name != "posix" or not file.stat().st_mode & 0o077)


def _entries(file: Path) -> dict[str, str]:
    """Return the names in a table by hash, without a last line that was cut off."""
    if not file.exists():
        return {}
    text = file.read_bytes().decode("utf-8", "surrogateescape")
    rows = list(csv.reader(io.StringIO(text, newline="")))
    complete = rows if text.endswith("\n") else rows[:-1]
    return {row[0]: row[1] for row in complete if len(row) == 2 and tuple(row) != HEADER}
