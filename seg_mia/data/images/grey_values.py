"""Grey values in [0, 1] of stored ones."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_mia.data.source import Image
from seg_mia.errors import InputError


def scaled(pixels: NDArray[Any], path: Path, value_range: tuple[float, float] | None) -> Image:
    """Map a range to [0, 1]; without one keep 8 bits, divide 16 bits by 65535 and check floats."""
    if value_range is not None:
        if not np.isfinite(pixels).all():
            raise InputError(f"{path} must hold finite values, got NaN or infinity; replace them first")
        low, high = value_range
        ranged = (pixels.astype(np.float64) - low) / (high - low)
        return ranged.clip(0, 1).astype(np.float32)
    if pixels.dtype == np.uint16:
        return pixels.astype(np.float32) / np.float32(65535)
    if pixels.dtype.kind == "f":
        return unit(pixels, path)
    if pixels.dtype != np.uint8:
        raise InputError(
            f"{path} must hold 8 or 16 bits without a sign, or state what is black and white, got "
            f"{pixels.dtype} from {pixels.min()} to {pixels.max()}; set value_range, such as "
            f"--data.value_range '[{pixels.min()}, {pixels.max()}]'"
        )
    return pixels.astype(np.uint8)


def unit(pixels: NDArray[Any], path: Path) -> NDArray[np.float32]:
    """Return floats after checking that they lie in [0, 1]."""
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= 0 and high <= 1):
        raise InputError(
            f"{path} must hold floats in [0, 1], got [{low:.3g}, {high:.3g}]; rescale it, or set value_range"
        )
    return pixels.astype(np.float32)
