"""Exact and near duplicates, which a split keeps on one side."""

import json
from collections.abc import Sequence
from pathlib import Path

from seg_mia.data.report_types import DataReport
from seg_mia.data.source import Source
from seg_mia.data.units import units_of
from seg_mia.errors import InputError

Positions = list[list[int]]
"""Sets of samples by their places among the sorted ids: a checkpoint that holds them names nobody."""


def join_duplicates(
    ids: Sequence[str],
    *,
    duplicates: Sequence[Sequence[str]],
    near: Sequence[Sequence[str]],
    duplicate_positions: Sequence[Sequence[int]],
) -> Positions | None:
    """Return the union of three lists of sets as disjoint sorted sets; None without any.

    Args:
        ids: of all samples.
        duplicates: sets of ids given by the user.
        near: sets of ids from `near_duplicates`.
        duplicate_positions: sets of positions, from an earlier call with the same ids.

    Raises:
        InputError: an unknown id or position.
    """
    names = sorted(ids)
    known = set(names)
    for name in (name for names_of_one in duplicates for name in names_of_one):
        if name not in known:
            raise InputError(
                f"duplicates must list ids of this data set, such as {names[0]!r}, got {name!r}; correct "
                "--data.duplicates (`prepare` names all samples)"
            )
    if any(not 0 <= position < len(names) for positions in duplicate_positions for position in positions):
        raise InputError(
            f"duplicate_positions must be positions among {len(names)} samples, got others: they belong to a "
            "checkpoint for other data; use the original, unchanged data"
        )
    stored = [[names[position] for position in positions] for positions in duplicate_positions]
    units = units_of(names, names, [*duplicates, *near, *stored])
    return [unit for unit in units if len(unit) > 1] or None


def near_duplicates(file: Path, ids: Sequence[str], fingerprint: str) -> list[list[str]]:
    """Return the pairs of near duplicates in a file written by `prepare`.

    Args:
        file: a `prepare.json`, from which false pairs may have been removed.
        ids: of all samples.
        fingerprint: of the data.

    Raises:
        InputError: no such file, another kind of file, or a file for other data.
    """
    content = _read(file)
    if content["fingerprint"] != fingerprint:
        raise InputError(
            f"{file} was made for other data ({content.get('config')}, {content.get('samples')} samples, "
            f"fingerprint {str(content['fingerprint'])[:12]}) than this ({len(ids)} samples, "
            f"{fingerprint[:12]}); run `python -m seg_mia prepare` with this data's options and name the "
            "prepare.json that it writes"
        )
    rows: list[list[str]] = [[row["first"], row["second"]] for row in content["near"]["across_groups"]]
    unknown = {name for row in rows for name in row} - set(ids)
    if unknown:
        raise InputError(
            f"{file} must name samples of this data set, got {min(unknown)!r}; run `python -m seg_mia "
            "prepare` again and keep the names"
        )
    return rows


def equal_files(source: Source) -> list[list[str]]:
    """Return the ids of samples with equal images, whatever their masks."""
    by_digest: dict[str, list[str]] = {}
    for index, name in enumerate(source.ids):
        by_digest.setdefault(source.image_digest(index), []).append(name)
    return [names for names in by_digest.values() if len(names) > 1]


def _read(file: Path) -> DataReport:
    """Return the checked content of a report."""
    if not file.is_file():
        raise InputError(
            f"near_duplicates must be a prepare.json, {str(file)!r} is no file; write it with `python -m "
            "seg_mia prepare` and this data's options, without near_duplicates"
        )
    try:
        content: DataReport = json.loads(file.read_text(encoding="utf-8"))
        rows = content["near"]["across_groups"]
        well_formed = isinstance(content["fingerprint"], str) and all(
            isinstance(row[name], str) for row in rows for name in ("first", "second")
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{file} must be a prepare.json, as written by `python -m seg_mia prepare`, got another file "
            f"({type(error).__name__}); name such a file"
        ) from None
    if not well_formed:
        raise InputError(f"{file} must hold names and a fingerprint as text, got others; run `prepare` again")
    return content
