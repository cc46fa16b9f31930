"""Salted hashes of samples and patients, and the private table that leads back from them to names."""

import csv
import io
import secrets
from collections.abc import Iterable
from pathlib import Path

from seg_mia.atomic import written_whole
from seg_mia.data.fingerprint import hashed
from seg_mia.errors import unwritable
from seg_mia.runs import SALT, results_of

TABLE = "identities.csv"
"""Name of the table of hashes and names beside a salt."""
HEADER = "hash,name\n"


def own_salt(folder: Path) -> bytes:
    """Return the salt stored beside a run, created at the first call.

    Without it, the hashed ids in a checkpoint do not reveal its training samples.
    """
    file = folder / SALT
    if not file.exists():
        # Another rank may be first; all of them must read the same salt.
        with written_whole(file, mode=0o600, overwrite=False) as salt:
            salt.write(secrets.token_hex(16).encode())
    return bytes.fromhex(file.read_text())


def identity_folder(victim: str, runs: Path) -> Path:
    """Return the folder of an audited victim's salt: its run's, or that of its results (`results_of`).

    Args:
        victim: the victim's run folder or its checkpoint.
        runs: folder of runs.
    """
    path = Path(victim)
    return path if path.is_dir() else results_of(path, runs)


def identities(names: Iterable[str], folder: Path) -> dict[str, str]:
    """Return the salted hash of each name, and enter new ones into the folder's private table.

    The table (`identities.csv`: hash, name) is how the owner of the data finds a patient whose hash stands in
    a report; only the owner may read it.

    Args:
        names: ids of samples or names of patients.
        folder: folder of the salt and of the table, the audited victim's run.

    Returns:
        hash of each name, 32 hexadecimal digits.

    Raises:
        InputError: the folder cannot be written.
    """
    listed = sorted(set(names))
    if not listed:
        return {}
    try:
        hashes = dict(zip(listed, hashed(listed, own_salt(folder)), strict=True))
        _enter(hashes, folder / TABLE)
    except OSError as error:
        raise unwritable(folder / TABLE, error) from None
    return hashes


def _enter(hashes: dict[str, str], file: Path) -> None:
    """Append the hashes that a table lacks, in one step: other processes may append, too."""
    known = set[str]()
    if file.exists():
        with file.open(newline="", encoding="utf-8", errors="surrogateescape") as table:
            known = {row[0] for row in csv.reader(table) if row}
    buffer = io.StringIO()
    rows = [(code, name) for name, code in hashes.items() if code not in known]
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    if rows:
        text = ("" if known else HEADER) + buffer.getvalue()
        file.touch(mode=0o600)
        with file.open("ab") as table:
            table.write(text.encode("utf-8", "surrogateescape"))
