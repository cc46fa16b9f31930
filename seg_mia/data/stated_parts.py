"""A stated split: the part of each case, from a table, from lists or from nnU-Net's folds."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from seg_mia.data.csv_lines import csv_lines
from seg_mia.data.root import entries, path_below
from seg_mia.data.source import PARTS, Note, Source
from seg_mia.data.units import units_of
from seg_mia.errors import InputError, name_some

Stated = str | dict[str, str | int]
MixedPatients = Literal["refuse", "reference"]
MIXED_PATIENTS: tuple[MixedPatients, ...] = get_args(MixedPatients)
ENDINGS = (
    ".nii.gz",
    ".nii",
    ".png",
    ".jpg",
    ".jpeg",
    ".tif",
    ".tiff",
    ".bmp",
    ".dcm",
    ".npz",
    ".npy",
    ".nrrd",
    ".mha",
)
NNUNET = ("nnunet", "fold", "validation")
OTHERS = "others"
_CHANNEL = "_0000"  # ending of the first channel's file in nnU-Net's folders


@dataclass(frozen=True)
class StatedParts:
    """Parts by the names of cases or of patients.

    Attributes:
        where: the file, for messages.
        parts: part of each case; of each patient if `by_patient`.
        patients: patient of each case, if stated.
        by_patient: whether `parts` are those of patients.
        others: part of all further cases; None refuses such cases.
    """

    where: str
    parts: Mapping[str, str]
    patients: Mapping[str, str] = field(default_factory=dict)
    by_patient: bool = False
    others: str | None = None

    def assign(self, source: Source) -> None:
        """Set the part of each sample of a source, and its patient if stated.

        Raises:
            InputError: a case without a part, a name that is not of this data, patients that divide a group
                of the data.
        """
        if self.patients:
            source.groups = self._groups(source)
        names = source.groups if self.by_patient else source.case_names
        kind = "patient" if self.by_patient else "case"
        known = {*names, *(() if self.by_patient else source.empty_cases)}
        if unknown := [name for name in self.parts if name not in known] if not self.by_patient else []:
            raise InputError(
                f"{self.where} must name cases of this data, such as {min(known)!r}, got "
                f"{name_some(unknown)}; correct the names"
            )
        missing = [name for name in dict.fromkeys(names) if name not in self.parts]
        if missing and self.others is None:
            raise InputError(
                f"{self.where} must give a part to each {kind}, {len(missing)} of {len(set(names))} have "
                f"none ({name_some(missing)}); add them, or take their files out of the data"
                f"{'' if self.by_patient else ', or state others: PART'}"
            )
        source.predefined_split = tuple(self.parts.get(name, self.others or "") for name in names)

    def _groups(self, source: Source) -> tuple[str, ...]:
        """Return the stated patient of each sample; a group of the data stays in one."""
        groups = [self.patients.get(case, group) for case, group in
                  zip(source.case_names, source.groups, strict=True)]  # fmt: skip
        first = dict[str, tuple[str, str]]()
        for case, before, after in zip(source.case_names, source.groups, groups, strict=True):
            other_case, other_patient = first.setdefault(before, (case, after))
            if other_patient != after:
                raise InputError(
                    f"{self.where} gives {other_case} and {case} the patients {other_patient!r} and "
                    f"{after!r}, but the data has them as one, {before!r}; "
                    "correct the table, or the data's own patients"
                )
        return tuple(groups)


def read_parts(stated: Stated, root: Path) -> StatedParts:
    """Return a stated split.

    Args:
        stated: a CSV file with the columns `part` and `case` or `patient` or both; or a mapping of parts to
            text files with a case in each line, or to folders of files named by their cases; or `nnunet`, a
            splits_final.json, with `fold` (a number, or all) and `validation`, the part of the fold's
            validation cases, reference if not given. In both mappings `others` is the part of all further
            cases. Files lie below the root, cases are named without ending, and patients in the CSV file
            replace those of the data.
        root: folder of the data.

    Raises:
        InputError: an unreadable file, unknown keys or parts, a case in two parts.
    """
    if isinstance(stated, str):
        return _of_table(path_below(root, stated))
    lists = {key: value for key, value in stated.items() if key in PARTS}
    unknown = sorted(stated.keys() - {*PARTS, *NNUNET, OTHERS})
    if unknown or not ({*PARTS, "nnunet"} & stated.keys()):
        raise InputError(
            f"parts must be a CSV file, or a mapping of {', '.join(PARTS)} or of {', '.join(NNUNET)}, and "
            f"{OTHERS}, got {', '.join(unknown) or 'none of these'}; correct it"
        )
    default = stated.get(OTHERS)
    if default is not None:
        default = _part(str(default), OTHERS)
    assigned = dict[str, str]()
    where = [str(value) for value in lists.values()]
    if "nnunet" in stated:
        where.append(str(stated["nnunet"]))
        _add(assigned, _of_nnunet(stated, root), where[-1])
    elif {"fold", "validation"} & stated.keys():
        raise InputError(
            "fold and validation belong to nnunet, a splits_final.json; name it, or leave them out"
        )
    for part, name in lists.items():
        _add(assigned, dict.fromkeys(_listed_cases(path_below(root, str(name))), part), str(name))
    return StatedParts(" and ".join(where), assigned, others=default)


def unmixed(
    parts: Sequence[str],
    ids: Sequence[str],
    groups: Sequence[str],
    *,
    duplicates: Iterable[Sequence[str]] = (),
    mixed: MixedPatients = "refuse",
) -> tuple[str, ...]:
    """Return parts that no group and no set of duplicates crosses.

    Args:
        parts: part of each sample.
        ids: one name per sample, unique.
        groups: patient of each sample.
        duplicates: ids of samples that show the same thing, one sequence for each such set.
        mixed: `refuse` groups in several parts, or count all their samples as `reference`, which is neither
            member nor non-member.

    Raises:
        InputError: a group in several parts that is not to be moved.
    """
    result = list(parts)
    for unit in units_of(ids, groups, duplicates):
        differing = next((i for i in unit if parts[i] != parts[unit[0]]), None)
        if differing is None:
            continue
        first = unit[0]
        if mixed == "refuse":
            raise InputError(
                f"samples of one patient or one image must be in one part, got {ids[first]} in "
                f"{parts[first]} and {ids[differing]} in {parts[differing]}, which makes membership "
                "undefined; put both in one part, leave one out, or set --data.mixed_patients reference, "
                "which counts such patients neither as members nor as non-members"
            )
        for i in unit:
            result[i] = "reference"
    return tuple(result)


def check_mixed(stated: Stated | None, mixed: MixedPatients) -> None:
    """Raise InputError for a treatment of stated parts without any."""
    if stated is None and mixed != "refuse":
        raise InputError("mixed_patients applies to stated parts, got none; set parts, or leave it out")


def moved_patients(source: Source, used: Sequence[str] | None) -> list[Note]:
    """Return a note on patients in several stated parts that count as reference.

    Args:
        source: samples with their stated parts.
        used: part of each sample as it is used; None for a random split.
    """
    stated = source.predefined_split
    if stated is None or used is None or stated == used:
        return []
    moved = tuple(dict.fromkeys(source.groups[i] for i, part in enumerate(used) if part != stated[i]))
    return [Note(f"{len(moved)} patients lie in several stated parts and count as reference", moved)]


def without_ending(name: str) -> str:
    """Return the name of a case without the ending of its file."""
    lowered = name.lower()
    return next((name[: -len(end)] for end in ENDINGS if lowered.endswith(end)), name)


def _part(text: str, where: str) -> str:
    if text not in PARTS:
        raise InputError(f"{where} must have a part of {', '.join(PARTS)}, got {text!r}; correct it")
    return text


def _add(found: dict[str, str], further: Mapping[str, str], where: str) -> None:
    """Add parts of cases; raise InputError for a case with another part."""
    for case, part in further.items():
        if found.setdefault(case, part) != part:
            raise InputError(
                f"{where} must give a case one part, got {case!r} in {found[case]} and in {part}; remove one"
            )


def _of_table(file: Path) -> StatedParts:
    """Return the parts in a CSV file."""
    header, lines = csv_lines(file, "parts")
    names = [name for name in ("case", "patient") if name in header]
    if "part" not in header or not names:
        raise InputError(
            f"{file} must have the columns part and case, or part and patient, got "
            f"{', '.join(header) or 'none'}; correct its first line"
        )
    parts, patients = dict[str, str](), dict[str, str]()
    for where, line in lines:
        cells = {name: line[name] for name in (*names, "part")}
        if empty := [name for name, value in cells.items() if not value]:
            raise InputError(f"{where} must have a value for {empty[0]!r}, got none; fill it in")
        name = without_ending(cells["case"]) if "case" in cells else cells["patient"]
        if name in parts and names[0] == "case":
            raise InputError(f"{where} must list a case once, got {name!r} again; remove it")
        _add(parts, {name: _part(cells["part"], where)}, where)
        if len(names) > 1:
            patients[name] = cells["patient"]
    return StatedParts(str(file), parts, patients, by_patient=names == ["patient"])


def _listed_cases(path: Path) -> list[str]:
    """Return the cases in the lines of a text file, or named by the files of a folder."""
    if path.is_dir():
        names = [without_ending(file.name) for file in entries(path) if file.name[0] != "."]
        return list(dict.fromkeys(name.removesuffix(_CHANNEL) for name in names))
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} must be a text file with a case in each line, or a folder, got: {error}; correct parts"
        ) from None
    return [without_ending(line.strip()) for line in lines if line.strip()]


def _of_nnunet(stated: Mapping[str, str | int], root: Path) -> dict[str, str]:
    """Return the parts of the cases in nnU-Net's splits_final.json."""
    file = path_below(root, str(stated["nnunet"]))
    folds = read_folds(file)
    fold = stated.get("fold")
    if fold == "all":
        return {case: "train" for cases in folds for name in ("train", "val") for case in cases[name]}
    if not isinstance(fold, int) or isinstance(fold, bool) or not 0 <= fold < len(folds):
        raise InputError(f"fold must be 0 to {len(folds) - 1} of {file}, or all, got {fold!r}; correct it")
    validation = _part(str(stated.get("validation", "reference")), "validation")
    parts = dict.fromkeys(folds[fold]["train"], "train")
    _add(parts, dict.fromkeys(folds[fold]["val"], validation), str(file))
    return parts


def read_folds(file: Path) -> list[dict[str, list[str]]]:
    """Return the folds in nnU-Net's splits_final.json, each with the cases of `train` and `val`.

    Raises:
        InputError: another file.
    """
    try:
        folds: list[dict[str, list[str]]] = json.loads(file.read_text(encoding="utf-8"))
        valid = all(
            isinstance(case, str) for fold in folds for name in ("train", "val") for case in fold[name]
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{file} must be nnU-Net's splits_final.json, a list of folds with train and val, got: "
            f"{type(error).__name__}; correct nnunet, or copy the file below the data's root"
        ) from None
    if not valid or not folds:
        raise InputError(f"{file} must list folds of case names, got others; correct nnunet")
    return folds
