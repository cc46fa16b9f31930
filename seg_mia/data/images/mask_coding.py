"""Masks with a value coding that contradicts the settings and would appear empty."""

from pathlib import Path

from seg_mia.data.images.reading import read_mask
from seg_mia.errors import InputError

GREY_LEVELS = 16
"""A mask with a largest value above 0 and below this holds class ids, not grey levels."""


def largest_lost(path: Path, threshold: int | None) -> int:
    """Return the largest value of a mask file without values above the threshold; 0 if all are 0.

    Returns 0 without a threshold or with values above it, as nothing is lost then.
    """
    if threshold is None or read_mask(path, threshold=threshold, classes=2).any():
        return 0
    if not read_mask(path, threshold=0, classes=2).any():
        return 0
    low, high = 1, threshold  # the largest value is in low .. high
    while low < high:
        middle = (low + high) // 2
        if read_mask(path, threshold=middle, classes=2).any():
            low = middle + 1
        else:
            high = middle
    return high


def refuse_lost(path: Path, threshold: int | None, *, below: int = GREY_LEVELS) -> None:
    """Raise InputError for a mask file with nonzero values but none above the threshold.

    Args:
        path: mask file.
        threshold: values above it are foreground; None disables the check.
        below: largest values from here on are accepted as grey levels of background.
    """
    value = largest_lost(path, threshold)
    if 0 < value < below:
        raise InputError(
            f"{path} must hold values above the threshold {threshold} or only 0, got at most {value}, so it "
            "would count as empty; code it as 0 and 255"
        )
