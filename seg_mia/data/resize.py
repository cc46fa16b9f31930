"""Resizing of images and masks."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_mia.data.source import Image, Mask


def resized(image: Image, height: int, width: int) -> Image:
    """Resize (H, W, C): first the shrinking axes by area, then the growing ones bilinearly."""
    pixels: NDArray[Any] = image
    smaller = (min(pixels.shape[1], width), min(pixels.shape[0], height))
    pixels = cv2.resize(pixels, smaller, interpolation=cv2.INTER_AREA)
    pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
    pixels = pixels.reshape(height, width, image.shape[2])  # OpenCV drops a single channel
    return pixels.astype(np.uint8) if image.dtype == np.uint8 else pixels.clip(0, 1).astype(np.float32)


def resized_mask(mask: Mask, height: int, width: int) -> Mask:
    """Resize class ids (h, w) by nearest neighbours."""
    nearest = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    return nearest.astype(np.uint8)
