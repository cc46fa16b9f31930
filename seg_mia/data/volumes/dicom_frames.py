"""Frames of enhanced multi-frame DICOM objects as headers of single slices (DICOM PS3.3, C.7.6.16)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from seg_mia.errors import InputError

_CLASSES: Final = {
    "1.2.840.10008.5.1.4.1.1.2.1": "Enhanced CT",
    "1.2.840.10008.5.1.4.1.1.2.2": "Legacy Converted Enhanced CT",
    "1.2.840.10008.5.1.4.1.1.4.1": "Enhanced MR",
    "1.2.840.10008.5.1.4.1.1.4.4": "Legacy Converted Enhanced MR",
}
_GROUPS: Final = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_MACROS: Final = {
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness"),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept", "RescaleType"),
    "FrameContentSequence": ("StackID",),
}
"""Fields of the functional groups by which a frame is placed and its values are scaled."""
_WHOLE: Final = ("RealWorldValueMappingSequence",)
"""Functional groups that are fields of a plain slice."""
_LEFT_OUT: Final = {*_GROUPS, "PixelData", "NumberOfFrames"}
_SAME: Final = 1e-3  # mm between two frames at one position


class Frame(dict[str, Any]):
    """Header fields of one frame by keyword, read like the header of a single slice."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def is_enhanced(head: Any) -> bool:
    """Whether a DICOM data set states positions and scales in functional groups."""
    return any(name in head for name in _GROUPS)


def frames_of(head: Any, path: Path) -> list[Frame]:
    """Return the header of each frame of an enhanced object, in stored order.

    A field of a frame's own functional groups precedes the shared one, and both precede the object's.

    Args:
        head: DICOM data set.
        path: its file, for the error message.

    Raises:
        InputError: an object other than enhanced CT or MR, functional groups that do not fit the frames,
            several stacks, or several frames at one position.
    """
    kind = str(head.get("SOPClassUID", ""))
    if kind not in _CLASSES:
        name = getattr(head.get("SOPClassUID"), "name", None) or "unknown"
        raise InputError(
            f"{path} must be a plain slice or an enhanced CT or MR object, got functional groups of the kind "
            f"{name}; use NIfTI (dcm2niix)"
        )
    count, items = int(head.get("NumberOfFrames") or 1), head.get(_GROUPS[1]) or ()
    if len(items) != count:
        raise InputError(
            f"{path} must have functional groups for each of its {count} frames, got {len(items)}; export it "
            "again"
        )
    common = {element.keyword: element.value for element in head if element.keyword not in _LEFT_OUT}
    for item in list(head.get(_GROUPS[0]) or []):
        common |= _fields(item)
    frames = [Frame({**common, **_fields(item)}) for item in items]
    _check_stack(frames, path)
    return frames


def _fields(group: Any) -> Mapping[str, Any]:
    """Return the known fields of one item of the functional groups."""
    found = dict[str, Any]()
    for macro, names in _MACROS.items():
        for item in list(group.get(macro) or [])[:1]:
            found |= {name: item.get(name) for name in names if item.get(name) not in (None, "")}
    return found | {name: group.get(name) for name in _WHOLE if name in group}


def _check_stack(frames: list[Frame], path: Path) -> None:
    """Refuse several stacks, and several frames at one position: echoes, phases or times."""
    stacks = sorted({str(frame.get("StackID")) for frame in frames})
    if len(stacks) > 1:
        raise InputError(
            f"{path} must hold one stack of frames, got StackID {', '.join(stacks[:8])}; export one stack, "
            "or use NIfTI (dcm2niix)"
        )
    placed = [frame["ImagePositionPatient"] for frame in frames if "ImagePositionPatient" in frame]
    if len(placed) < 2 or any(len(position) != 3 for position in placed):
        return  # missing fields are named by the caller
    positions = np.array(placed, dtype=np.float64)
    order = np.lexsort(positions.T)
    close = np.abs(np.diff(positions[order], axis=0)).max(axis=1) < _SAME
    if close.any():
        first, second = sorted(int(order[int(close.argmax()) + offset]) + 1 for offset in (0, 1))
        raise InputError(
            f"{path} must hold one frame at each position, frames {first} and {second} lie at the same, as "
            "of several echoes, phases or times; export one of them, or use NIfTI (dcm2niix)"
        )
