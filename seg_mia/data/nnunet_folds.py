"""Parts of cases by the folds of nnU-Net's trainings."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

from seg_mia.data.root import entries
from seg_mia.data.stated_parts import read_folds, without_ending
from seg_mia.errors import InputError, name_some

Unseen = Literal["validation", "imagesTs", "both"]
UNSEEN: tuple[Unseen, ...] = get_args(Unseen)
ALL = "all"
"""Name of the fold that is trained on every case."""
VALIDATION = "validation"
"""Folder of the predictions that nnU-Net writes after a fold's training."""


def fold_members(
    splits: Path | None, folds: Sequence[str], cases: Collection[str]
) -> dict[str, frozenset[str]]:
    """Return the training cases of each fold.

    Args:
        splits: splits_final.json, or the folder of a training, whose fold_K/validation names the cases that
            fold K was not trained on. Not needed for fold `all`.
        folds: names of folds, numbers or `all`.
        cases: all cases of imagesTr.

    Raises:
        InputError: a missing or invalid file, cases that are not in imagesTr, an unknown fold.
    """
    return {
        fold: frozenset(cases) if fold == ALL else _members(splits, fold, frozenset(cases)) for fold in folds
    }


def _members(splits: Path | None, fold: str, cases: frozenset[str]) -> frozenset[str]:
    if splits is None:
        raise InputError("the folds' training cases are unknown; name splits_final.json: --splits FILE")
    if splits.is_dir():
        unseen = validated(splits / f"fold_{fold}" / VALIDATION)
        if not unseen:
            raise InputError(
                f"{splits}/fold_{fold}/{VALIDATION} must hold predictions of the cases that the fold was "
                "not trained "
                "on, found none; name splits_final.json: --splits FILE"
            )
        members = cases - unseen
        stated = unseen
    else:
        listed = read_folds(splits)
        if not fold.isdecimal() or int(fold) >= len(listed):
            raise InputError(
                f"{splits} must have fold {fold}, got {len(listed)} folds; correct --folds or --splits"
            )
        members = frozenset(listed[int(fold)]["train"])
        stated = members | frozenset(listed[int(fold)]["val"])
    if unknown := sorted(stated - cases):
        raise InputError(
            f"{splits} must name cases of imagesTr, got {name_some(unknown)}; name the split and the raw "
            "data of one "
            "training"
        )
    return members


def validated(folder: Path) -> frozenset[str]:
    """Return the names of the cases with a prediction in a folder; none if there is no folder."""
    if not folder.is_dir():
        return frozenset()
    return frozenset(
        without_ending(file.name)
        for file in entries(folder)
        if file.suffix not in {".json", ".pkl"} and file.is_file()
    )


def parts_of_folds(
    members: Mapping[str, frozenset[str]],
    *,
    training: Collection[str],
    tests: Collection[str],
    unseen: Unseen,
) -> dict[str, str]:
    """Return the part of each case of an ensemble of folds.

    A case is a member if any of the folds was trained on it.

    Args:
        members: training cases of each fold.
        training: cases of imagesTr.
        tests: labelled cases of imagesTs.
        unseen: what counts as non-members; the rest of the cases that no fold was trained on is reference.

    Raises:
        InputError: a single fold without non-members.
    """
    trained = frozenset().union(*members.values())
    validation = frozenset(training) - trained
    parts = dict.fromkeys(trained, "train")
    parts |= dict.fromkeys(validation, "reference" if unseen == "imagesTs" else "test")
    parts |= dict.fromkeys(tests, "reference" if unseen == "validation" else "test")
    if "test" not in parts.values() and len(members) == 1:
        raise InputError(
            f"non-members must be cases of {'imagesTr or imagesTs' if unseen == 'both' else unseen} that "
            "no fold was "
            "trained on, with labels, found none; name fewer --folds, or add labelsTs"
        )
    return parts
