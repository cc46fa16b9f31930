"""Paired comparison of leakage between two victims, attacked on the same samples."""

import csv
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seg_mia.errors import InputError
from seg_mia.membership.intervals import Interval, paired_difference

COLUMNS = ("id", "group", "member", "score")


class Scored(NamedTuple):
    """Content of `scores.csv`, rows ordered by id: all (n,)."""

    ids: NDArray[np.str_]
    groups: NDArray[np.str_]
    members: NDArray[np.bool_]
    scores: NDArray[np.float64]


def read_scores(folder: str | Path) -> Scored:
    """Read the scores of a membership attack from its folder.

    Raises InputError if they are missing or the file has another format.
    """
    file = Path(folder) / "scores.csv"
    if not file.is_file():
        raise InputError(
            f"{folder} holds no scores.csv; name a membership attack's folder, RUN/mia-type2/version_0"
        )
    try:
        with file.open(newline="", encoding="utf-8") as text:
            rows = sorted(csv.DictReader(text), key=lambda row: str(row["id"]))
        columns = [np.array([str(row[name]) for row in rows]) for name in COLUMNS]
        return Scored(columns[0], columns[1], columns[2].astype(int) == 1, columns[3].astype(np.float64))
    except (KeyError, TypeError, ValueError, csv.Error):
        raise InputError(f"{file} must have the columns {', '.join(COLUMNS)}; repeat the attack") from None


def _attack(folder: Path) -> tuple[object, ...]:
    """Return the fields that two results must share: attack, control and data."""
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        return summary["attack"], summary["control"], summary["data"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(
            f"{folder} must hold the summary.json of a membership attack; repeat the attack"
        ) from None


def compare(first: str | Path, second: str | Path) -> Interval:
    """Return the AUC in the first folder minus that in the second, with its 95 % paired interval.

    The variance is that of the samples' differences, by group if there are groups: a sample's difficulty,
    common to both victims, cancels out.

    Raises:
        InputError: scores of another attack, other samples or other members.
    """
    first_scores, second_scores = read_scores(first), read_scores(second)
    equal = [np.array_equal(a, b) for a, b in zip(first_scores[:3], second_scores[:3], strict=True)]
    if not all(equal):
        raise InputError(
            f"{first} and {second} must have the same samples, members and groups; attack both victims with "
            "the same data, split and limit"
        )
    attacks = [_attack(Path(folder)) for folder in (first, second)]
    if attacks[0] != attacks[1]:
        raise InputError(
            f"{first} and {second} must come from the same attack, settings and data; run it on both victims"
        )
    return paired_difference(
        first_scores.scores, second_scores.scores, first_scores.members, first_scores.groups
    )
