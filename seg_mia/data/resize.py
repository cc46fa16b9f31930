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
    pixels = by_area(pixels, *smaller)
    pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
    pixels = pixels.reshape(height, width, image.shape[2])  # OpenCV drops a single channel
    return pixels.astype(np.uint8) if image.dtype == np.uint8 else pixels.clip(0, 1).astype(np.float32)


def by_area(pixels: NDArray[Any], width: int, height: int) -> NDArray[Any]:
    """Reduce (H, W, C) or (H, W) by area, four channels at a time: OpenCV takes no more."""
    starts = range(0, pixels.shape[2] if pixels.ndim == 3 else 1, 4)
    parts = [
        cv2.resize(
            np.ascontiguousarray(pixels[..., start : start + 4]) if len(starts) > 1 else pixels,
            (width, height),
            interpolation=cv2.INTER_AREA,
        )
        for start in starts
    ]
    return parts[0] if len(parts) == 1 else np.dstack(parts)


def resized_mask(mask: Mask, height: int, width: int) -> Mask:
    """Resize class ids (h, w) by nearest neighbours."""
    nearest = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    return nearest.astype(np.uint8)
