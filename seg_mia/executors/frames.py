"""Messages between a process and the one that started it: length and content."""

import struct
from typing import BinaryIO

LENGTH = struct.Struct("!Q")


def write_frame(stream: BinaryIO, content: bytes) -> None:
    """Write one message. Raises OSError if the other process has ended."""
    stream.write(LENGTH.pack(len(content)) + content)
    stream.flush()


def read_frame(stream: BinaryIO) -> bytes:
    """Return the next message. Raises EOFError if the other process has ended."""
    (length,) = LENGTH.unpack(_read(stream, LENGTH.size))
    return _read(stream, length)


def _read(stream: BinaryIO, length: int) -> bytes:
    content = stream.read(length)
    if len(content) < length:
        raise EOFError("the other process has ended")
    return content
