"""Bringing images and masks of any size to one square."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_mia.data.source import Image, Mask


def resized(image: Image, size: int) -> Image:
    """Resize (H, W, C) to a square: first what shrinks, by area, then what grows, bilinearly."""
    pixels: NDArray[Any] = image
    smaller = (min(pixels.shape[1], size), min(pixels.shape[0], size))
    pixels = cv2.resize(pixels, smaller, interpolation=cv2.INTER_AREA)
    pixels = cv2.resize(pixels, (size, size), interpolation=cv2.INTER_LINEAR)
    pixels = pixels.reshape(size, size, image.shape[2])  # OpenCV drops a single channel
    return pixels.astype(np.uint8) if image.dtype == np.uint8 else pixels.clip(0, 1).astype(np.float32)


def resized_mask(mask: Mask, size: int) -> Mask:
    """Resize class ids (h, w) to a square, each pixel by its nearest."""
    square = cv2.resize(mask, (size, size), interpolation=cv2.INTER_NEAREST_EXACT)
    return square.astype(np.uint8)
