"""Digests of a report's files in SHA256SUMS, the form of `sha256sum --check`."""

import re
from collections.abc import Sequence
from pathlib import Path

from seg_mia.results.files import write_text
from seg_mia.results.identity import sha256_of

PAGE, NUMBERS, SUMS = "report.html", "report.json", "SHA256SUMS"
DPO, DPO_PDF, CARD = "annex_dpo.html", "annex_dpo.pdf", "MODEL_CARD.md"
ANNEXES = (DPO, DPO_PDF, CARD)
LINE = re.compile(r"([0-9a-f]{64}) [ *]([\w.-]+)")


def write_sums(folder: Path, written: Sequence[str], digest: str) -> None:
    """Write the digests of the files just written, and of earlier annexes of the same report.

    Args:
        folder: folder of the report.
        written: names of the files just written.
        digest: digest of report.json.
    """
    earlier = [name for name in _earlier(folder, digest) if name not in written]
    lines = [f"{sha256_of(folder / name)}  {name}\n" for name in (*written, *earlier)]
    write_text(folder / SUMS, "".join(lines))


def read_sums(folder: Path) -> dict[str, str]:
    """Return the listed digests by name; lines of another form are ignored: they list nothing."""
    try:
        text = (folder / SUMS).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return {}
    matches = (LINE.fullmatch(line) for line in text.splitlines())
    return {line[2]: line[1] for line in matches if line is not None}


def names_digest(file: Path, digest: str) -> bool:
    """Return whether a page or card names the digest of report.json."""
    try:
        return digest in file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def _earlier(folder: Path, digest: str) -> list[str]:
    """Return unchanged annexes of this report; a PDF belongs to it with its page."""
    listed = read_sums(folder)
    unchanged = [
        name
        for name in ANNEXES
        if name in listed and (folder / name).is_file() and sha256_of(folder / name) == listed[name]
    ]
    return [
        name
        for name in unchanged
        if names_digest(folder / (DPO if name == DPO_PDF else name), digest)
        and (name != DPO_PDF or DPO in unchanged)
    ]
