"""Masks in a file for each label, which may overlap, as of TotalSegmentator's `segmentations` folders."""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seg_mia.data.case_files import CASE, LABEL, checked, labelled
from seg_mia.data.root import path_below, regular
from seg_mia.data.source import Mask
from seg_mia.errors import InputError, name_some
from seg_mia.metrics.label_sets import LabelSets
from seg_mia.metrics.labels import IGNORE

Absent = Literal["refuse", "empty"]
LabelFileSetting = dict[str, str | list[str]]
"""The file, or files, of each label, `{liver: liver, kidneys: [kidney_left, kidney_right]}`."""


class Part(NamedTuple):
    """A mask file of one label of a case: the label's number, from 0, and the file."""

    label: int
    path: Path


@dataclass(frozen=True)
class LabelFiles:
    """Labels whose masks are files of their own, 0 and one other value each.

    Attributes:
        names: of the labels.
        files: of each label, without the ending or with it.
        exclusive: whether labels are classes 1, 2, ..., and a pixel of two an error; otherwise their sets are
            the classes, the number of a set having a bit for each label.
        absent: treatment of a label without a file in a case: an error, or no pixel.
    """

    names: tuple[str, ...]
    files: tuple[tuple[str, ...], ...]
    exclusive: bool
    absent: Absent

    @property
    def classes(self) -> int:
        """The number of classes, background included; `LabelSets` of labels that may overlap."""
        return len(self.names) + 1 if self.exclusive else LabelSets(self.names)

    @property
    def regions(self) -> tuple[str, ...]:
        """Names of labels that may overlap; none for exclusive ones."""
        return () if self.exclusive else self.names

    @property
    def classes_of(self) -> Mapping[int, int]:
        """The class of each id that `combined` gives."""
        return {number: number for number in range(1, int(self.classes))}

    @property
    def text(self) -> str:
        """The setting in one line, for cache keys."""
        listed = (f"{name}: {' '.join(files)}" for name, files in zip(self.names, self.files, strict=True))
        return f"files {', '.join(listed)} {'exclusive' if self.exclusive else 'sets'} {self.absent}"

    def of_cases(
        self, root: Path, masks: str, cases: Iterable[str], endings: Sequence[str]
    ) -> dict[str, tuple[Part, ...]]:
        """Return the mask files of each case.

        Args:
            root: data folder; all files must lie inside it.
            masks: folder with a folder for each case, or a pattern with `{case}` and, unless it is that of a
                folder, `{label}`.
            cases: their names.
            endings: of files, tried where a file is stated without.

        Raises:
            InputError: a label without a file, unless `absent` is empty, or a case without any; two files of
                one label and name; a mask without an image.
        """
        pattern, cases = _pattern(masks), list(cases)
        strays = self._without_image(root, pattern, set(cases), endings)
        if strays:
            raise InputError(
                f"images and masks must pair by name, masks of {len(strays)} cases have no image "
                f"({name_some(strays)}); rename or remove them"
            )
        lacking = dict[str, str]()
        found = dict[str, tuple[Part, ...]]()
        for case in cases:
            parts = list[Part]()
            for label, files in enumerate(self.files):
                for file in files:
                    relative = pattern.replace(CASE, case).replace(LABEL, file)
                    path = _existing(root, relative, endings)
                    if path is None:
                        lacking.setdefault(case, relative)
                    else:
                        parts.append(Part(label, path))
            found[case] = tuple(parts)
        bare = [case for case, parts in found.items() if not parts]
        if bare or (lacking and self.absent == "refuse"):
            some, what = (bare, "any label") if bare else (list(lacking), "each label")
            remedy = "" if bare else ", or set absent_labels empty"
            raise InputError(
                f"each case must have a mask file of {what}, {len(some)} of {len(found)} lack one "
                f"({name_some(some)}), the first {lacking[some[0]]} below {root}; add them, or correct "
                f"label_files and masks{remedy}"
            )
        return found

    def lengths(self, root: Path, masks: str, endings: Sequence[str]) -> dict[Path, int]:
        """Return the length of the pattern that each mask file fits; see `files_by_case`."""
        fits = labelled(root, _pattern(masks), self._named, endings)
        return {path: fit.length for path, fit in fits.items()}

    def _without_image(self, root: Path, pattern: str, cases: Set[str], endings: Sequence[str]) -> list[str]:
        """Return the cases that only masks have."""
        fits = labelled(root, pattern, self._named, endings, cases)
        return sorted({fit.case for fit in fits.values()} - cases)

    @property
    def _named(self) -> list[str]:
        return [file for files in self.files for file in files]

    def combined(self, masks: Iterable[tuple[Part, NDArray[np.bool_]]], shape: tuple[int, ...]) -> Mask:
        """Return the class of each pixel, uint8.

        Args:
            masks: foreground of each file.
            shape: of all masks.

        Raises:
            InputError: exclusive labels that overlap.
        """
        ids = np.zeros(shape, np.uint8)
        for part, mask in masks:
            if not self.exclusive:
                ids[mask] |= np.uint8(1 << part.label)
                continue
            others = ids[mask]
            others = others[(others != 0) & (others != part.label + 1)]
            if others.size:
                raise InputError(
                    f"{part.path} must not overlap other labels where they are exclusive, got "
                    f"{others.size} pixels of {self.names[int(others[0]) - 1]}; leave out labels_exclusive, "
                    "or correct the mask"
                )
            ids[mask] = part.label + 1
        return ids


def _pattern(masks: str) -> str:
    """Return the pattern of mask files of a setting."""
    pattern = masks if CASE in masks else f"{masks}/{CASE}"
    return checked(pattern if LABEL in pattern else f"{pattern}/{LABEL}", (LABEL,))


def foreground(values: NDArray[Any], path: Path) -> NDArray[np.bool_]:
    """Return where a binary mask is not 0.

    Raises:
        InputError: several values beside 0, or values that are not finite.
    """
    mask: NDArray[np.bool_] = values != 0
    held = values[mask]
    if held.size and not held.min() == held.max():
        raise InputError(
            f"{path} must be a binary mask, 0 and one other value, got {held.min():.6g} to "
            f"{held.max():.6g} beside 0; list label ids instead of label_files, or correct it"
        )
    return mask


def label_files(
    setting: Mapping[str, str | Sequence[str]] | None, *, exclusive: bool, absent: Absent
) -> LabelFiles | None:
    """Return the setting of masks in files of their own; None without one.

    Raises:
        InputError: no label, a label without a file, a file of two labels, more labels than classes, or
            further settings without files.
    """
    if setting is None:
        if exclusive or absent != "refuse":
            raise InputError(
                f"labels_exclusive={exclusive} and absent_labels={absent} need label_files, got none; set "
                "them"
            )
        return None
    files = tuple((value,) if isinstance(value, str) else tuple(value) for value in setting.values())
    named = [file for group in files for file in group]
    if not named or not all(files) or not all(named) or len(set(named)) < len(named):
        raise InputError(
            "label_files must name the files of each label, each file once, such as {liver: liver, kidneys: "
            f"[kidney_left, kidney_right]}}, got {dict(setting)}; correct them"
        )
    if exclusive and len(files) >= IGNORE:
        raise InputError(f"label_files must be at most {IGNORE - 1} labels, got {len(files)}; leave some out")
    result = LabelFiles(tuple(setting), files, exclusive, absent)
    result.classes.bit_length()  # refuses too many labels that overlap
    return result


def _existing(root: Path, relative: str, endings: Sequence[str]) -> Path | None:
    """Return the one file of a name with or without its ending; None if there is none."""
    candidates = [path_below(root, relative + ending) for ending in ("", *endings)]
    paths = [path for path in candidates if path.is_file() or path.is_symlink()]
    if len(paths) > 1:
        raise InputError(f"{paths[0]} and {paths[1].name} must be one file; remove one")
    return regular(paths[0]) if paths else None
