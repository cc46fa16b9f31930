"""Image files written byte by byte, with header fields that libraries do not write."""

import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Chunk = tuple[bytes, bytes]

_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Adam7: first column and row, and the steps along both (PNG, 8.2)."""


def packed(row: NDArray[Any], bits: int) -> bytes:
    """Return whole numbers (n,) of 1, 2, 4 or 8 bits, the first in the highest bits."""
    each = np.unpackbits(row.astype(np.uint8)[:, None], axis=1)[:, 8 - bits :]
    return np.packbits(each.ravel()).tobytes()


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(
    path: Path,
    pixels: NDArray[Any],
    depth: int,
    kind: int,
    *,
    before: Sequence[Chunk] = (),
    after: Sequence[Chunk] = (),
    interlaced: bool = False,
) -> Path:
    """Write a PNG of any depth and colour type, with chunks before and after its pixels."""
    height, width = pixels.shape[:2]
    whole = pixels.reshape(height, width, _SAMPLES[kind])
    parts = [whole[y::down, x::right] for x, y, right, down in _PASSES] if interlaced else [whole]
    rows = [row.reshape(-1) for part in parts if part.size for row in part]
    lines = [row.astype(">u2").tobytes() if depth == 16 else packed(row, depth) for row in rows]
    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, int(interlaced))
    body = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + line for line in lines)))
    extra = [b"".join(chunk(*each) for each in chunks) for chunks in (before, after)]
    whole_file = chunk(b"IHDR", head) + extra[0] + body + extra[1] + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + whole_file)
    return path


def tiff(
    path: Path, data: bytes, size: tuple[int, int], tags: Mapping[int, int | None], order: str = "<"
) -> Path:
    """Write a one-strip TIFF (height, width) of 8-bit grey; `tags` change its fields, None leaves one out."""
    height, width = size
    usual = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: len(data)}
    fields = {tag: value for tag, value in sorted({**usual, **tags}.items()) if value is not None}
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in fields.items())
    even = data + b"\0" * (len(data) % 2)
    start = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8 + len(even))
    path.write_bytes(
        start + even + struct.pack(f"{order}H", len(fields)) + entries + struct.pack(f"{order}I", 0)
    )
    return path


def bmp(
    path: Path,
    rows: Sequence[bytes],
    width: int,
    bits: int,
    *,
    palette: NDArray[Any] | None = None,
    colours: int = 0,
    fields: Sequence[int] = (),
    top_down: bool = False,
) -> Path:
    """Write a BMP of rows from top to bottom; `fields` are the bit masks of red, green and blue."""
    lines = [row + b"\0" * (-len(row) % 4) for row in (rows if top_down else rows[::-1])]
    table = b"" if palette is None else b"".join(bytes([*map(int, rgb[::-1]), 0]) for rgb in palette)
    masks = struct.pack(f"<{len(fields)}I", *fields)
    height = -len(rows) if top_down else len(rows)
    size = sum(map(len, lines))
    head = struct.pack(
        "<IiiHHIIiiII", 40, width, height, 1, bits, 3 if fields else 0, size, 2835, 2835, colours, 0
    )
    start = 14 + len(head) + len(masks) + len(table)
    path.write_bytes(
        b"BM" + struct.pack("<IHHI", start + size, 0, 0, start) + head + masks + table + b"".join(lines)
    )
    return path
