"""Meaning of a DICOM slice's stored values by its header (DICOM PS3.3, C.7.5.1, C.7.6.3 and C.11.1)."""

from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from seg_mia.errors import InputError

_HOUNSFIELD = {"HU", "HU_MOD", "US"}
_AIR = -900  # Hounsfield units: at or below it, every tissue window is black
_OTHERWISE = {
    "ModalityLUTSequence": "a table instead of RescaleSlope; apply it, or use NIfTI (dcm2niix)",
    "DoseGridScaling": "a dose; convert it to NIfTI",
    "FloatPixelData": "floats; convert it to NIfTI",
    "DoubleFloatPixelData": "floats; convert it to NIfTI",
}
"""Fields that define values by other means than `RescaleSlope`, with the remedy."""


AnyNumbers = TypeVar("AnyNumbers", int, NDArray[Any])


class Cell(NamedTuple):
    """Position of a value within the word of its pixel.

    Attributes:
        allocated: bits per word (BitsAllocated).
        stored: bits per value (BitsStored).
        high: position of the highest bit, from 0 (HighBit).
        signed: whether the highest bit is a sign (PixelRepresentation).
    """

    allocated: int
    stored: int
    high: int
    signed: bool

    @property
    def usual(self) -> bool:
        """Whether the value occupies the low bits of its word."""
        return self.high == self.stored - 1

    def numbers(self, words: NDArray[Any]) -> NDArray[Any]:
        """Return the values of whole words (h, w), without other bits such as old overlays."""
        unsigned, signed = (np.dtype(f"{kind}{self.allocated // 8}") for kind in "ui")
        upper = np.left_shift(words.astype(unsigned), unsigned.type(self.allocated - 1 - self.high))
        kind = signed if self.signed else unsigned
        numbers: NDArray[Any] = np.right_shift(upper.view(kind), kind.type(self.allocated - self.stored))
        return numbers

    def inverted(self, numbers: AnyNumbers) -> AnyNumbers:
        """Return values mirrored within the range of their bits, as white is their lowest in MONOCHROME1."""
        return (-1 if self.signed else 2**self.stored - 1) - numbers

    def number(self, word: int) -> int:
        """Return a header value stored as a whole word, regardless of its sign there."""
        values = 1 << self.allocated
        unsigned = word % values
        return unsigned - values if self.signed and unsigned >> (self.allocated - 1) else unsigned


def check_meaning(head: Any, path: Path) -> None:
    """Reject a slice whose values are not defined by `RescaleSlope` and `RescaleIntercept` alone.

    Args:
        head: DICOM data set.
        path: its file, for the error message.

    Raises:
        InputError: names the file, the field and the remedy.
    """
    for name, why in _OTHERWISE.items():
        if name in head:
            raise InputError(f"{path} must be a plain grey slice, got {name}, {why}")
    shape = head.get("PresentationLUTShape") or None
    if shape not in (None, "INVERSE" if is_inverse(head) else "IDENTITY"):
        raise InputError(
            f"{path} must state once which value is white, got PhotometricInterpretation "
            f"{head.get('PhotometricInterpretation')} and PresentationLUTShape {shape}; convert it (dcm2niix)"
        )
    kind = head.get("RescaleType") or "HU"
    if head.get("Modality", "CT") == "CT" and kind not in _HOUNSFIELD:
        raise InputError(
            f"{path} must give Hounsfield units, got RescaleType {kind}; use the series of plain CT values"
        )
    if head.get("RescaleSlope") is None and "RealWorldValueMappingSequence" in head:
        raise InputError(
            f"{path} must state RescaleSlope, got RealWorldValueMappingSequence alone; convert it (dcm2niix)"
        )
    cell_of(head, path)


def is_inverse(head: Any) -> bool:
    """Whether the lowest value of a slice is white."""
    return bool(head.get("PhotometricInterpretation") == "MONOCHROME1")


def cell_of(head: Any, path: Path) -> Cell:
    """Return the position of values within their words.

    Raises:
        InputError: an impossible position, or words that are not whole bytes.
    """
    allocated, stored = (head.get(name) for name in ("BitsAllocated", "BitsStored"))
    high, sign = head.get("HighBit"), head.get("PixelRepresentation")
    if None in (allocated, stored, sign):
        raise InputError(
            f"{path} must state BitsAllocated, BitsStored and PixelRepresentation, one is missing; export it "
            "again"
        )
    cell = Cell(int(allocated), int(stored), int(stored) - 1 if high is None else int(high), int(sign) == 1)
    if cell.allocated not in (8, 16, 32) or not 1 <= cell.stored <= cell.high + 1 <= cell.allocated:
        raise InputError(
            f"{path} must have 8, 16 or 32 bits and its numbers within them, got BitsAllocated "
            f"{cell.allocated}, BitsStored {cell.stored} and HighBit {cell.high}; export it again"
        )
    return cell


def scale_of(head: Any, path: Path) -> tuple[float, float]:
    """Return slope and intercept, mandatory for CT.

    Raises:
        InputError: CT without them, or a slope of zero.
    """
    slope, intercept = head.get("RescaleSlope"), head.get("RescaleIntercept")
    if (slope is None or intercept is None) and head.get("Modality", "CT") == "CT":
        raise InputError(
            f"{path} must state RescaleSlope and RescaleIntercept to give Hounsfield units, found none; "
            "export it again"
        )
    scale = float(slope if slope is not None else 1), float(intercept if intercept is not None else 0)
    if scale[0] == 0 or not np.isfinite(scale).all():
        raise InputError(
            f"{path} must state a RescaleSlope other than 0 and a number as RescaleIntercept, got {scale[0]} "
            f"and {scale[1]}; export it again"
        )
    return scale


def shown(numbers: NDArray[Any], head: Any, path: Path, *, cell: Cell) -> NDArray[Any]:
    """Return the values of a slice with its highest as white; bright padding becomes the darkest other value.

    Values of MONOCHROME1 are mirrored within the range of their bits, before slope and intercept, as
    SimpleITK does.

    Args:
        numbers: (h, w), before slope and intercept.
        head: DICOM data set.
        path: its file, for the error message.
        cell: position of values within their words.

    Raises:
        InputError: ambiguous padding between darker and brighter values; in CT, the value of air is allowed.
    """
    if is_inverse(head):
        numbers = cell.inverted(numbers)
    stated = head.get("PixelPaddingValue")
    if stated is None:
        return numbers
    limits = [cell.number(int(limit)) for limit in (stated, head.get("PixelPaddingRangeLimit", stated))]
    low, high = sorted(cell.inverted(limit) if is_inverse(head) else limit for limit in limits)
    padding = (numbers >= low) & (numbers <= high)
    unmarked = numbers[~padding]
    if not padding.any() or not unmarked.size:
        return numbers
    slope, intercept = scale_of(head, path)
    below, above = bool((unmarked < low).any()), bool((unmarked > high).any())
    if (not above if slope < 0 else not below) or (
        head.get("Modality", "CT") == "CT" and max(low * slope, high * slope) + intercept <= _AIR
    ):
        return numbers
    if below and above:
        raise InputError(
            f"{path} must have padding that differs from its values, got PixelPaddingValue {stated} between "
            f"{unmarked.min()} and {unmarked.max()}; correct that field, or remove it if those are image "
            "values"
        )
    filled = numbers.copy()
    filled[padding] = unmarked.max() if slope < 0 else unmarked.min()
    return filled
