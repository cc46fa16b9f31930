"""Sheets of samples for a page: embedded without the names that stand in them."""

import base64
import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from seg_mia.results.pictures import names_in

PNG = b"\x89PNG\r\n\x1a\n"
LARGEST = 8_000_000
"""Maximum size in bytes of a sheet embedded in a page."""
MOST_PIXELS = 2**26


@dataclass(frozen=True)
class Sheet:
    """An embedded picture.

    Attributes:
        label: what it shows.
        data: the PNG file as a data URL.
        width: in pixels.
        height: likewise.
        rows: name of the sample in each row; empty if the names stand in the picture.
    """

    label: str
    data: str
    width: int
    height: int
    rows: list[str] = field(default_factory=list)

    def named(self, hashes: Mapping[str, str]) -> "Sheet":
        """Return the sheet with the hashes of the samples in place of their names."""
        rows = [hashes[name] for name in self.rows]
        return Sheet(self.label, self.data, self.width, self.height, rows)


def read_sheet(file: Path, label: str, *, ids: bool) -> Sheet | None:
    """Return a PNG file of samples for a page; None if it is damaged or too large.

    Args:
        file: written with the names of its rows (`seg_mia.results.pictures.png`).
        label: what it shows.
        ids: leave the names in the picture; otherwise the column that holds them is cut off, and a file that
            does not state where they are is not shown.
    """
    try:
        if file.stat().st_size > LARGEST:
            return None
        content = file.read_bytes()
        # The sizes stand at a fixed place of the header.
        width, height = struct.unpack(">II", content[16:24])
        if not content.startswith(PNG) or width * height > MOST_PIXELS:
            return None
        if ids:
            return Sheet(label, _url(content), width, height)
        with Image.open(io.BytesIO(content)) as picture:
            names = names_in(picture)
            if names is None:
                return None
            cut = picture.convert("RGB").crop((names.column, 0, width, height))
    except (OSError, SyntaxError, ValueError, struct.error):
        return None
    buffer = io.BytesIO()
    cut.save(buffer, format="PNG")
    return Sheet(label, _url(buffer.getvalue()), *cut.size, rows=names.names)


def _url(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"
