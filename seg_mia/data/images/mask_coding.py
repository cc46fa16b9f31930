"""Masks whose values are coded otherwise than the settings say, and would be taken for empty."""

from pathlib import Path

from seg_mia.data.images.reading import read_mask
from seg_mia.errors import InputError

GREY_LEVELS = 16
"""A mask whose largest value is above 0 and below this holds class ids, not grey levels."""


def largest_lost(path: Path, threshold: int | None) -> int:
    """Return the largest value of a mask file without any above the threshold; 0 where all of it is 0.

    Without a threshold, and where something is above it, nothing is lost: 0.
    """
    if threshold is None or read_mask(path, threshold=threshold, classes=2).any():
        return 0
    low, high = 0, threshold  # the largest value lies in low .. high
    while low < high:
        middle = (low + high) // 2
        if read_mask(path, threshold=middle, classes=2).any():
            low = middle + 1
        else:
            high = middle
    return high


def refuse_lost(path: Path, threshold: int | None, *, below: int = GREY_LEVELS) -> None:
    """Raise InputError for a mask file that a threshold makes background as a whole, though not all is 0.

    Args:
        path: the file.
        threshold: values above it are foreground; None refuses nothing.
        below: largest values from here on are taken for grey levels that are meant to be background.
    """
    value = largest_lost(path, threshold)
    if 0 < value < below:
        raise InputError(
            f"{path} must hold values above the threshold {threshold} or nothing but 0, got {value} at most, "
            "so it would count as empty; code it as 0 and 255"
        )
