"""Opening of image files whose headers state a plausible size."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Final

from PIL import Image as PillowImage

from seg_mia.errors import InputError

FORMATS: Final = ("PNG", "JPEG", "TIFF", "BMP")
VARIABLE: Final = "SEG_MIA_LARGEST_IMAGE"
LARGEST: Final = 2**28
"""Pixels of an image, at most, unless the variable allows more: a small file may state any size."""


class _OwnLimit:
    """Sets Pillow's limit aside while any thread reads an image."""

    def __init__(self) -> None:
        self._lock, self._readers = Lock(), 0
        self._limit: int | None = None

    def __enter__(self) -> None:
        with self._lock:
            if not self._readers:
                self._limit, PillowImage.MAX_IMAGE_PIXELS = PillowImage.MAX_IMAGE_PIXELS, None
            self._readers += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._readers -= 1
            if not self._readers:
                PillowImage.MAX_IMAGE_PIXELS = self._limit


_OWN_LIMIT = _OwnLimit()


@contextmanager
def opened(file: BytesIO | Path, path: Path) -> Generator[PillowImage.Image, None, None]:
    """Open an image, which may be decoded within the context.

    The limit replaces Pillow's, which warns from 89 million pixels on, less than a pathology image has, and
    is checked again when a TIFF file is decoded.

    Args:
        file: the file, or its bytes.
        path: of the file, for errors.

    Raises:
        InputError: more pixels than $SEG_MIA_LARGEST_IMAGE, or 2**28.
    """
    with _OWN_LIMIT, PillowImage.open(file, formats=FORMATS) as image:
        check_size(image.height, image.width, path)
        yield image


def check_size(height: int, width: int, path: Path) -> None:
    """Raise InputError where a header states more pixels than $SEG_MIA_LARGEST_IMAGE, or 2**28."""
    most = _largest()
    if height * width > most:
        raise InputError(
            f"{path} must have at most {most} pixels, its header states {width}x{height}; if that is its "
            f"size, set the environment variable {VARIABLE} to a larger number, otherwise replace the file"
        )


def _largest() -> int:
    text = os.environ.get(VARIABLE)
    if not text:
        return LARGEST
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"{VARIABLE} must be a number of pixels of at least 1, got {text!r}; unset it")
    return int(text)
