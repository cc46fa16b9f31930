"""Grey windows of volumes: one for all channels, one for each, or from the percentiles of each volume."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_mia.data.volumes.geometry import Scan, Volume, in_unit
from seg_mia.errors import InputError, refuse_idle

Window = tuple[float, float]
"""Level, the centre, and width, in the unit of the volume."""
USUAL: Window = (40.0, 400.0)
"""The usual window of the abdomen, in Hounsfield units."""
WindowSetting = list[list[float] | None]
_MOST = 1 << 24
"""Voxels from which percentiles are taken, at most: evenly spaced ones of larger volumes."""


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Grey window of each channel: level - width / 2 and below is black, level + width / 2 and above white.

    Attributes:
        level: centre of the window, in the unit of the volume (Hounsfield units for CT).
        width: its width.
        channels: window of each channel, where they differ; None takes `percentiles`.
        percentiles: the two percentiles of a volume's voxels other than 0 that are black and white in its
            channels without a window of their own, instead of level and width.
    """

    level: float = USUAL[0]
    width: float = USUAL[1]
    channels: tuple[Window | None, ...] = ()
    percentiles: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for level, width in (*(window for window in self.channels if window), (self.level, self.width)):
            if not (width > 0 and np.isfinite([level, width]).all()):
                raise InputError(f"width must be above 0 and level a number, got {width} and {level}")
        ends = self.percentiles
        if ends is not None and not (len(ends) == 2 and 0 <= ends[0] < ends[1] <= 100):
            raise InputError(
                f"percentiles must be two ascending numbers of 0 to 100, such as [0.5, 99.5], got "
                f"{list(ends)}; correct them"
            )
        if ends is not None and self.channels and None not in self.channels:
            raise InputError(
                "percentiles are for channels without a window, and windows has one for each; leave out "
                "percentiles, or give null for a channel"
            )
        if None in self.channels and ends is None:
            raise InputError("a channel without a window needs percentiles, got none; set --data.percentiles")

    def check(self, channels: int) -> None:
        """Raise InputError unless there is a window for each channel, or one for all."""
        if self.channels and len(self.channels) != channels:
            raise InputError(
                f"windows must be one for each of {channels} channels, got {len(self.channels)}; correct them"
            )

    def of(self, channel: int, volume: Volume) -> Window:
        """Return the window of a channel of a volume."""
        stated = self.channels[channel] if self.channels else None
        if stated is not None:
            return stated
        if self.percentiles is None:
            return self.level, self.width
        return _between(*np.percentile(_voxels(volume), self.percentiles).tolist())

    @property
    def clause(self) -> str:
        """What the window of the first channel shows."""
        window = self.channels[0] if self.channels else None
        if window is None and self.percentiles is not None:
            low, high = self.percentiles
            return f"percentiles {low:g} to {high:g} of each volume are shown"
        level, width = window or (self.level, self.width)
        return f"level {level:g} with width {width:g} shows {level - width / 2:g} to {level + width / 2:g}"

    def option(self, low: float, high: float) -> str:
        """Return the options that show the values from low to high: those that have an effect here."""
        level, width = _between(low, high)
        if any(self.channels):
            return f"--data.windows '[[{level:.4g}, {width:.4g}], ...]', one for each channel"
        alone = "" if self.percentiles is None else ", without --data.percentiles and --data.windows"
        return f"--data.level {level:.4g} --data.width {width:.4g}{alone}"

    @property
    def settings(self) -> Mapping[str, float | str | None]:
        """All that grey values depend on besides the voxels."""
        return {
            "level": self.level,
            "width": self.width,
            **({"windows": str(self.channels)} if self.channels else {}),
            **({"percentiles": str(self.percentiles)} if self.percentiles else {}),
        }


class WindowCache:
    """Windows of volumes, each computed once, as slices ask for the same.

    Args:
        windows: the setting.
    """

    def __init__(self, windows: Windows) -> None:
        self.windows = windows
        self._known = dict[tuple[int, Scan], Window]()

    def of(self, channel: int, scan: Scan, volume: Volume) -> Window:
        """Return the window of a channel."""
        key = channel, scan
        if key not in self._known:
            self._known[key] = self.windows.of(channel, volume)
        return self._known[key]


def windows_of(
    level: float | None,
    width: float | None,
    channels: Sequence[Sequence[float] | None] | None,
    percentiles: Any,
    *,
    usual: Window = USUAL,
) -> Windows:
    """Return the windows that these options state.

    Args:
        level: as in `Windows`; None is the usual one.
        width: likewise.
        channels: as in `Windows`.
        percentiles: as in `Windows`.
        usual: level and width of the reader; where they are given, they count as not given, as runs before
            level and width could be null have them in their metadata.

    Raises:
        InputError: values out of range, a level or a width that windows or percentiles replace.
    """
    replaced_by = "windows" if channels else "percentiles" if percentiles is not None else None
    if replaced_by is not None:
        chosen = (None if value == own else value for value, own in zip((level, width), usual, strict=True))
        refuse_idle(f"beside {replaced_by}", **{name: (next(chosen), None) for name in ("level", "width")})
    level, width = usual[0] if level is None else level, usual[1] if width is None else width
    for pair in channels or ():
        if pair is not None and len(pair) != 2:
            raise InputError(f"windows must be pairs of level and width, got {channels}; correct them")
    pairs = tuple(None if pair is None else (pair[0], pair[1]) for pair in channels or ())
    ends = None if percentiles is None else tuple(percentiles)
    return Windows(level=level, width=width, channels=pairs, percentiles=ends)


def in_window(values: NDArray[np.float32], window: Window) -> NDArray[np.float32]:
    """Return values as grey, 0 to 1 from one end of a window to the other."""
    level, width = window
    return np.ascontiguousarray(((values - (level - width / 2)) / width).clip(0, 1), np.float32)


def _between(low: float, high: float) -> Window:
    return (low + high) / 2, max(high - low, 1e-6)


def _voxels(volume: Volume) -> NDArray[np.float32]:
    """Return the voxels other than 0 of a volume in its unit, evenly spaced ones of a large volume."""
    values = volume.values
    step = max(1, round((values.size / _MOST) ** (1 / 3) + 0.49))
    some = in_unit(values[::step, ::step, ::step], volume.slope, volume.intercept)
    shown = some[(some != 0) & np.isfinite(some)]
    return shown if shown.size else np.zeros(1, np.float32)
