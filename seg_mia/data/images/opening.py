"""Opening of image files whose headers state a plausible size."""

import os
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
_OPENING = Lock()


def opened(file: BytesIO | Path, path: Path) -> PillowImage.Image:
    """Open an image without decoding it.

    The limit replaces Pillow's, which warns from 89 million pixels on, less than a pathology image has.

    Args:
        file: the file, or its bytes.
        path: of the file, for errors.

    Raises:
        InputError: more pixels than $SEG_MIA_LARGEST_IMAGE, or 2**28.
    """
    with _OPENING:
        limit = PillowImage.MAX_IMAGE_PIXELS
        PillowImage.MAX_IMAGE_PIXELS = None
        try:
            image = PillowImage.open(file, formats=FORMATS)
        finally:
            PillowImage.MAX_IMAGE_PIXELS = limit
    most = _largest()
    if image.width * image.height > most:
        size = f"{image.width}x{image.height}"
        image.close()
        raise InputError(
            f"{path} must have at most {most} pixels, its header states {size}; if that is its size, set the "
            f"environment variable {VARIABLE} to a larger number, otherwise replace the file"
        )
    return image


def _largest() -> int:
    text = os.environ.get(VARIABLE)
    if not text:
        return LARGEST
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"{VARIABLE} must be a number of pixels of at least 1, got {text!r}; unset it")
    return int(text)
