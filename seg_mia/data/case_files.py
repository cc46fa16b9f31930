"""Files of each case, by folder or by a pattern of paths; channels may be files of their own."""

import re
from collections.abc import Callable, Mapping, Sequence
from glob import escape
from pathlib import Path

from seg_mia.data.root import path_below, regular
from seg_mia.errors import InputError, name_some

CASE, CHANNEL, LABEL = "{case}", "{channel}", "{label}"
"""Parts of a pattern of paths: the name of a case, the ending of a channel, the file of a label."""
Listing = Callable[[Path, str], Mapping[str, Path]]
"""What lists the files of a folder below a root by name."""


def is_pattern(where: str) -> bool:
    """Whether a setting is a pattern of paths rather than a folder."""
    return CASE in where


def files_by_case(root: Path, where: str, listing: Listing) -> dict[str, Path]:
    """Return the file of each case, by the names in a folder or by a pattern.

    Args:
        root: data folder; all files must lie inside it.
        where: folder below the root, or a pattern such as `{case}/ct.nii.gz`.
        listing: lists the files of a folder.

    Raises:
        InputError: no file, or one outside the root.
    """
    if not is_pattern(where):
        return dict(listing(root, where))
    files = matching(root, where)
    if not files:
        raise InputError(f"{root} must hold files {where}, found none; correct the pattern or the root")
    return files


def matching(root: Path, pattern: str) -> dict[str, Path]:
    """Return the files that fit a pattern, sorted by case; hidden ones and their folders are left out.

    Raises:
        InputError: a pattern with other fields, or a file outside the root.
    """
    other_fields = {"{", "}"} & set(pattern.replace(CASE, ""))
    if CASE not in pattern or other_fields or ".." in Path(pattern).parts or Path(pattern).is_absolute():
        raise InputError(
            f"a pattern must be a path below the root with {CASE} in it, got {pattern!r}; correct it"
        )
    pieces = pattern.split(CASE)
    expression = re.escape(pieces[0]) + "(?P<case>[^/]+)" + "(?P=case)".join(map(re.escape, pieces[1:]))
    found = dict[str, Path]()
    for path in root.glob("*".join(map(escape, pieces))):
        relative = path.relative_to(root).as_posix()
        match = re.fullmatch(expression, relative)
        if match is not None and not any(part.startswith(".") for part in relative.split("/")):
            found[match["case"]] = regular(path_below(root, relative))
    return dict(sorted(found.items()))


def channels_by_case(
    root: Path, where: str, endings: Sequence[str], listing: Listing
) -> dict[str, tuple[Path, ...]]:
    """Return the files of each case in the order of channels.

    Args:
        root: data folder.
        where: folder, whose names end as the channels do, or a pattern with `{channel}`.
        endings: what tells the channels apart; none for one file.
        listing: lists the files of a folder.

    Raises:
        InputError: as of `by_channel` and `matching`.
    """
    if not endings:
        return {name: (path,) for name, path in files_by_case(root, where, listing).items()}
    if not is_pattern(where):
        return by_channel(listing(root, where), endings)
    if CHANNEL not in where:
        raise InputError(f"a pattern of several channels must have {CHANNEL}, got {where!r}; add it")
    _check_endings(endings)
    parts = [matching(root, where.replace(CHANNEL, ending)) for ending in endings]
    cases = dict[str, dict[int, Path]]()
    for number, part in enumerate(parts):
        for name, path in part.items():
            cases.setdefault(name, {})[number] = path
    if not cases:
        raise InputError(f"{root} must hold files {where}, found none; correct the pattern or the root")
    return _whole(cases, endings)


def by_channel(files: Mapping[str, Path], endings: Sequence[str]) -> dict[str, tuple[Path, ...]]:
    """Return the files of each case in the order of channels, keyed by the name without ending.

    Args:
        files: by name without suffix; those of other endings are left out.
        endings: one for each channel, such as `_0000` and `_0001`, or `_t1` and `_flair`.

    Raises:
        InputError: endings that are empty or equal, no case, or one without a file for each channel.
    """
    _check_endings(endings)
    cases = dict[str, dict[int, Path]]()
    for name, path in files.items():
        fitting = [number for number, ending in enumerate(endings) if name.endswith(ending)]
        if fitting:
            number = max(fitting, key=lambda number: len(endings[number]))
            cases.setdefault(name.removesuffix(endings[number]), {})[number] = path
    if not cases:
        raise InputError(
            f"image names must end in {', '.join(endings)}, got {name_some(list(files))}; correct "
            "channel_endings"
        )
    return _whole(cases, endings)


def _check_endings(endings: Sequence[str]) -> None:
    if not all(endings) or len(set(endings)) < len(endings):
        raise InputError(
            f"channel_endings must be different ends of names, got {list(endings)}; correct them"
        )


def _whole(cases: Mapping[str, Mapping[int, Path]], endings: Sequence[str]) -> dict[str, tuple[Path, ...]]:
    """Return the files of each case by channel, having refused cases that lack one."""
    if lacking := [name for name, held in cases.items() if len(held) < len(endings)]:
        absent = next(ending for number, ending in enumerate(endings) if number not in cases[lacking[0]])
        raise InputError(
            f"each case must have {len(endings)} channels, {len(lacking)} of {len(cases)} lack one "
            f"({name_some(lacking)}), the first {absent}; add the files"
        )
    return {name: tuple(held[number] for number in range(len(endings))) for name, held in cases.items()}
