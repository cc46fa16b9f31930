"""The error for masks with values that are no label ids of the data set."""

from collections.abc import Mapping

from seg_mia.data.source import listed
from seg_mia.errors import InputError

_SHOWN = 8


class UnknownLabelsError(InputError):
    """A mask holds values that are no label ids of the data set."""


def counted(pixels: Mapping[int, int], *, colours: bool = False) -> str:
    """Return label ids, or colours 0xRRGGBB, with their numbers of pixels, the most frequent first."""
    ordered = sorted(pixels, key=lambda value: (-pixels[value], value))
    return listed([f"{name_of(i, colours=colours)} ({pixels[i]} pixels)" for i in ordered], _SHOWN)


def name_of(value: int, *, colours: bool) -> str:
    """Return a label id as text, a colour as `#rrggbb`."""
    return f"#{value:06x}" if colours else str(value)
