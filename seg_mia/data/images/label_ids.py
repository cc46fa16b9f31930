"""Label ids with gaps, or colours, of mask files, and the class of each."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_mia.data.images.reading import is_grey, stored_pixels
from seg_mia.data.source import Mask, listed
from seg_mia.data.unknown_labels import UnknownLabelsError, counted, name_of
from seg_mia.errors import InputError
from seg_mia.metrics.label_sets import LabelSets
from seg_mia.metrics.labels import IGNORE

LabelSetting = dict[int | str, int]
"""Class of each id, `{0: 0, 128: 1}`, or of each colour, `{"#000000": 0, "#ff0000": 1}`."""
RegionSetting = dict[str, list[int | str]]
"""Label ids of each label that may overlap others, `{whole: [1, 2, 3], core: [2, 3]}`, or colours."""
JPEG_TOLERANCE = 16
"""Grey levels by which a JPEG's value may differ from its id, unless a tolerance is set."""
JPEG = frozenset({".jpg", ".jpeg"})
_WIDEST = 65535
_SHOWN = 8
_MANY = 32  # distinct values, above which they are taken for compressed or interpolated ids


@dataclass(frozen=True)
class LabelTable:
    """Class of each value of a mask file.

    Attributes:
        classes_of: class ids, 255 for ignored pixels, by label id from 0 to 65535 or by colour 0xRRGGBB.
        colours: whether keys are colours.
        tolerance: greatest distance of a value to its id, in grey levels of each channel; None for 16 in JPEG
            files and 0 in others.
        regions: names of labels that may overlap; classes are then their sets.
    """

    classes_of: Mapping[int, int]
    colours: bool = False
    tolerance: int | None = None
    regions: tuple[str, ...] = ()

    @property
    def classes(self) -> int:
        """The number of classes, background included; `LabelSets` of regions."""
        if self.regions:
            return LabelSets(self.regions)
        return max((kind for kind in self.classes_of.values() if kind != IGNORE), default=0) + 1

    @property
    def text(self) -> str:
        """The table in one line, for cache keys."""
        sets = ", ".join(self.regions)
        pairs = [f"{name_of(i, colours=self.colours)}: {kind}" for i, kind in sorted(self.classes_of.items())]
        return f"{', '.join(pairs)} within {self.tolerance} {sets}".rstrip()

    def read(self, path: Path) -> Mask:
        """Read a mask file as class ids (h, w).

        A value belongs to the nearest id, if that is within the tolerance.

        Raises:
            InputError: the file is unreadable, of floats, or in colour although keys are ids; ids are too
                close to each other for the tolerance.
            UnknownLabelsError: values without an id within the tolerance, with their counts.
        """
        values = stored_values(path, colours=self.colours)
        tolerance = self._tolerance(path)
        distinct, positions, counts = np.unique(values, return_inverse=True, return_counts=True)
        ids = np.array(sorted(self.classes_of))
        distances = _distances(distinct, ids, colours=self.colours)
        strange = distances.min(axis=1) > tolerance
        if strange.any():
            named = counted(dict(zip(distinct[strange], counts[strange], strict=True)), colours=self.colours)
            raise UnknownLabelsError(
                f"{path} must hold only the labels {self._listed(ids)}{_within(tolerance)}, got {named} as "
                "well; give them a class in labels (255: ignored), or correct the file"
            )
        classes = np.array([self.classes_of[i] for i in ids], np.uint8)[distances.argmin(axis=1)]
        return np.asarray(classes[positions.reshape(values.shape)])

    def classes_for(self, ids: NDArray[np.integer[Any]]) -> Mask:
        """Return the classes of exact label ids; those of others are background.

        Raises:
            InputError: a table of colours.
        """
        if self.colours:
            raise InputError(
                "masks of a deployed system must be compared by label ids, got regions of colours; save "
                "masks with ids and list these in regions"
            )
        return mapped(ids, self.classes_of)

    def _tolerance(self, path: Path) -> int:
        if self.tolerance is not None:
            return self.tolerance
        if path.suffix.lower() not in JPEG:
            return 0
        if (gap := self.gap()) <= 2 * JPEG_TOLERANCE:
            raise InputError(
                f"{path} must have labels at least {2 * JPEG_TOLERANCE + 1} apart, as JPEG compression "
                f"changes values, got {gap}; save masks as PNG, or set label_tolerance"
            )
        return JPEG_TOLERANCE

    def gap(self) -> int:
        """Return the least distance of two ids, 65536 of a single one."""
        ids = np.array(sorted(self.classes_of))
        distances = _distances(ids, ids, colours=self.colours)
        np.fill_diagonal(distances, _WIDEST + 1)
        return int(distances.min())

    def _listed(self, ids: Iterable[int]) -> str:
        return ", ".join(name_of(int(i), colours=self.colours) for i in ids)


def mapped(ids: NDArray[np.integer[Any]], classes_of: Mapping[int, int]) -> Mask:
    """Return the class of each label id, 0 for ids without one, uint8 of the same shape."""
    distinct, positions = np.unique(ids, return_inverse=True)
    classes = np.array([classes_of.get(i, 0) for i in distinct.tolist()], np.uint8)
    return np.asarray(classes[positions.reshape(ids.shape)])


def label_table(
    labels: Mapping[int | str, int] | None,
    tolerance: int | None = None,
    regions: Mapping[str, Sequence[int | str]] | Mapping[str, Sequence[int]] | None = None,
) -> LabelTable | None:
    """Return the table of a setting; None without one.

    Args:
        labels: class by label id, a whole number from 0 to 65535 also as text, or by colour `#rrggbb`.
        tolerance: see `LabelTable`.
        regions: labels that may overlap, by name, with the ids or colours that belong to each; 0, or black,
            is background unless listed. With them `labels` lists further ids: background (0), ignored (255).

    Raises:
        InputError: keys of two kinds, or that are neither; classes that are not 0, 1, 2, ... without a gap,
            or 255; a tolerance that makes two ids one.
    """
    if regions is not None:
        labels = _region_sets(regions, labels or {})
    if labels is None:
        if tolerance is not None:
            raise InputError(f"label_tolerance={tolerance} needs labels, got none; set labels")
        return None
    keys = {str(key).strip().lower(): kind for key, kind in labels.items()}
    colours = bool(keys) and all(key.startswith("#") for key in keys)
    try:
        classes_of = {int(key[1:], 16) if colours else int(key): kind for key, kind in keys.items()}
        known = all(len(key) == 7 for key in keys) if colours else set(classes_of) <= set(range(_WIDEST + 1))
    except ValueError:
        known = False
    if not known:
        raise InputError(
            f"labels must have whole numbers from 0 to {_WIDEST}, or colours such as '#ff0000', as keys, got "
            f"{listed(list(keys), _SHOWN)}; correct them"
        )
    table = LabelTable(classes_of, colours, tolerance, tuple(regions or ()))
    if regions is None:
        _check_classes(table)
    if tolerance is not None and not 0 <= 2 * tolerance < table.gap():
        raise InputError(
            f"label_tolerance must be 0 or more and below half of the least distance of two labels, "
            f"{table.gap()}, got {tolerance}; lower it"
        )
    return table


def _region_sets(
    regions: Mapping[str, Sequence[int | str]] | Mapping[str, Sequence[int]], further: Mapping[int | str, int]
) -> dict[int | str, int]:
    """Return the set of regions, as the number of a class, of each id or colour."""
    LabelSets(tuple(regions))  # refuses too many
    if not set(further.values()) <= {0, IGNORE}:
        raise InputError(f"labels beside regions must be 0 or {IGNORE}, got {dict(further)}; change them")
    ids = [_key(i) for members in regions.values() for i in members]
    sets: dict[int | str, int] = {"#000000" if any(i.startswith("#") for i in ids) else "0": 0}
    sets |= {_key(i): kind for i, kind in further.items()}
    for bit, (name, members) in enumerate(regions.items()):
        if not members:
            raise InputError(f"regions must list the label ids of each, got none for {name}; add them")
        for i in members:
            key = _key(i)
            if sets.get(key) == IGNORE:
                raise InputError(
                    f"labels beside regions must not ignore ({IGNORE}) an id of a region, got {i} of {name}; "
                    "remove it from either"
                )
            sets[key] = sets.get(key, 0) | 1 << bit
    return sets


def _key(label: int | str) -> str:
    """Return an id or a colour in one spelling; what is neither as it is."""
    text = str(label).strip().lower()
    return str(int(text)) if text.isdecimal() else text


def _check_classes(table: LabelTable) -> None:
    kinds = set(table.classes_of.values())
    if not kinds - {0, IGNORE} or not kinds <= {*range(table.classes), IGNORE} or table.classes > IGNORE:
        raise InputError(
            f"labels must have values 0 for background, further classes 1, 2, ... and {IGNORE} for ignored "
            f"pixels, got {sorted(kinds)}; correct them"
        )
    if missing := set(range(1, table.classes)) - kinds:
        raise InputError(f"labels must name each class up to the highest, got none for {min(missing)}")


def stored_values(path: Path, *, colours: bool) -> NDArray[np.int64]:
    """Return the label ids, or colours 0xRRGGBB, of a mask file (h, w).

    Raises:
        InputError: unreadable, of floats, colours where ids are expected, or colours of 16 bits.
    """
    pixels = stored_pixels(path, indices=not colours)
    if pixels.dtype == np.float32 or (colours and pixels.dtype != np.uint8):
        raise InputError(
            f"{path} must be a mask of whole numbers{' of 8 bits' if colours else ''}, got {pixels.dtype}; "
            "save it as PNG"
        )
    values: NDArray[Any] = pixels.astype(np.int64)
    if not colours:
        noise = JPEG_TOLERANCE if path.suffix.lower() in JPEG else 0
        if values.ndim == 3 and not is_grey(values, tolerance=noise):
            raise InputError(
                f"{path} must be a grey or palette mask for labels of numbers, got a colour one; give "
                "colours as labels: {'#ff0000': 1}"
            )
        return values if values.ndim == 2 else values[..., 0]
    if values.ndim == 2:
        values = np.repeat(values[..., None], 3, axis=2)
    return np.asarray(values @ np.array([1 << 16, 1 << 8, 1]))


def proposed(files: Iterable[Path]) -> str:
    """Return the settings that fit the values of mask files, as YAML; empty if none does.

    Values that are rare and close to frequent ones, as JPEG compression leaves them, are assigned to these.
    """
    paths = list(files)
    try:
        histogram, colours = _histogram(paths, colours=False), False
    except InputError:
        try:
            histogram, colours = _histogram(paths, colours=True), True
        except InputError:
            return ""
    return proposed_for(histogram, colours=colours)


def proposed_for(histogram: Mapping[int, int], *, colours: bool = False) -> str:
    """Return the settings that fit label ids with their numbers of pixels; see `proposed`."""
    least = sum(histogram.values()) / 1000
    ids = np.array(sorted(histogram), np.int64)
    if len(ids) > _MANY:
        ids = _centres(histogram, least, colours=colours)
    if not 2 <= len(ids) <= _MANY:
        return ""
    table = LabelTable(_numbered(ids.tolist(), colours=colours), colours)
    needed = int(_distances(np.array(sorted(histogram)), ids, colours=colours).min(axis=1).max())
    if needed and len(ids) == 2 and not colours:
        return f"threshold: {int(ids.sum()) // 2}"
    if 2 * needed >= table.gap():
        return ""
    quote = "'" if colours else ""
    entries = [f"{quote}{name_of(i, colours=colours)}{quote}: {kind}" for i, kind in table.classes_of.items()]
    return f"labels: {{{', '.join(entries)}}}" + (f", label_tolerance: {needed}" if needed else "")


def _histogram(paths: Iterable[Path], *, colours: bool) -> Counter[int]:
    histogram = Counter[int]()
    for path in paths:
        values, counts = np.unique(stored_values(path, colours=colours), return_counts=True)
        histogram.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
    return histogram


def _centres(histogram: Mapping[int, int], least: float, *, colours: bool) -> NDArray[np.int64]:
    """Return the frequent values, none within the tolerance of JPEG of a more frequent one."""
    centres = list[int]()
    for value in sorted(histogram, key=lambda value: -histogram[value]):
        apart = not centres or bool(
            (_distances(np.array([value]), np.array(centres), colours=colours) > JPEG_TOLERANCE).all()
        )
        if apart and histogram[value] >= least:
            centres.append(value)
    return np.array(sorted(centres), np.int64)


def _numbered(ids: list[int], *, colours: bool) -> dict[int, int]:
    """Return classes 0, 1, ... of ids; 255 behind consecutive ids is ignored."""
    numbered = {i: kind for kind, i in enumerate(ids)}
    if not colours and len(ids) > 2 and ids == [*range(len(ids) - 1), IGNORE]:
        numbered[IGNORE] = IGNORE
    return numbered


def _distances(values: NDArray[np.int64], ids: NDArray[np.int64], *, colours: bool) -> NDArray[np.int64]:
    """Return the distances of values to ids, (values, ids): of colours the largest over channels."""
    if not colours:
        return np.asarray(np.abs(values[:, None] - ids))
    parts = [np.abs((values[:, None] >> shift & 255) - (ids >> shift & 255)) for shift in (16, 8, 0)]
    return np.asarray(np.max(parts, axis=0))


def _within(tolerance: int) -> str:
    return f", each within {tolerance}" if tolerance else ""
