"""Files of each case, by folder or by a pattern of paths; channels may be files of their own."""

import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from glob import escape
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import NamedTuple

from seg_mia.data.root import path_below, regular
from seg_mia.errors import InputError, name_some

CASE, CHANNEL, LABEL = "{case}", "{channel}", "{label}"
"""Parts of a pattern of paths: the name of a case, the ending of a channel, the file of a label."""
Listing = Callable[[Path, str], Mapping[str, Path]]
"""What lists the files of a folder below a root by name."""


def is_pattern(where: str) -> bool:
    """Whether a setting is a pattern of paths rather than a folder."""
    return CASE in where


class Fit(NamedTuple):
    """Case of a path that fits a pattern, and the length of the pattern's own text: the longest is meant."""

    case: str
    length: int


def files_by_case(
    root: Path, where: str, listing: Listing, others: Mapping[Path, int] = MappingProxyType({})
) -> dict[str, Path]:
    """Return the file of each case, by the names in a folder or by a pattern.

    Args:
        root: data folder; all files must lie inside it.
        where: folder below the root, or a pattern such as `{case}/ct.nii.gz`.
        listing: lists the files of a folder.
        others: lengths of patterns of other files that paths fit; the longest pattern has the path.

    Raises:
        InputError: no file, or one outside the root.
    """
    if not is_pattern(where):
        return {name: path for name, path in listing(root, where).items() if not others.get(path)}
    fits = matching(root, where)
    files = {fit.case: path for path, fit in fits.items() if fit.length >= others.get(path, 0)}
    if not files:
        raise InputError(f"{root} must hold files {where}, found none; correct the pattern or the root")
    return dict(sorted(files.items()))


def matching(root: Path, pattern: str) -> dict[Path, Fit]:
    """Return the files that fit a pattern; hidden ones and their folders are left out.

    Raises:
        InputError: a pattern with other fields, or a file outside the root.
    """
    pieces = checked(pattern, ()).split(CASE)
    expression = re.escape(pieces[0]) + "(?P<case>[^/]+)" + "(?P=case)".join(map(re.escape, pieces[1:]))
    found, length = dict[Path, Fit](), sum(map(len, pieces))
    for relative in _visible(root, "*".join(map(escape, pieces))):
        match = re.fullmatch(expression, relative)
        if match is not None:
            found[regular(path_below(root, relative))] = Fit(match["case"], length)
    return found


def checked(pattern: str, fields: Sequence[str]) -> str:
    """Return a pattern in plain spelling; InputError for another field or place."""
    plain = PurePosixPath(pattern).as_posix()
    rest = plain
    for field in (CASE, *fields):
        rest = rest.replace(field, "")
    if CASE not in plain or {"{", "}"} & set(rest) or ".." in Path(plain).parts or Path(plain).is_absolute():
        raise InputError(
            f"a pattern must be a path below the root with {CASE} in it, got {pattern!r}; correct it"
        )
    return plain


def _visible(root: Path, pattern: str) -> Iterator[str]:
    """Yield the paths below the root that fit a pattern of `glob`, without hidden ones."""
    for path in root.glob(pattern):
        relative = path.relative_to(root).as_posix()
        if not any(part.startswith(".") for part in relative.split("/")):
            yield relative


def labelled(
    root: Path, pattern: str, files: Sequence[str], endings: Sequence[str], cases: Container[str] = ()
) -> dict[Path, Fit]:
    """Return the files that fit a pattern with one of the files of labels in it.

    Args:
        root: data folder.
        pattern: with `{case}` and `{label}`.
        files: of labels, without the ending or with it.
        endings: of files.
        cases: known ones, taken where a path fits in several ways; otherwise the shortest name is.
    """
    texts = [file + ending for file in files for ending in ("", *endings)]
    pieces = re.split(r"(\{case\}|\{label\})", pattern)
    every = _expression(pieces, "|".join(map(re.escape, texts)))
    length = sum(len(piece) for piece in pieces if piece not in (CASE, LABEL))
    found = dict[Path, Fit]()
    for depth in sorted({text.count("/") for text in texts}):
        glob = {CASE: "*", LABEL: "/".join(["*"] * (depth + 1))}
        for relative in _visible(root, "".join(glob.get(piece) or escape(piece) for piece in pieces)):
            match = every.fullmatch(relative)
            if match is None or not (root / relative).is_file():
                continue
            others = (_expression(pieces, re.escape(text)).fullmatch(relative) for text in texts)
            known = () if match["case"] in cases or not cases else others
            case = next((other["case"] for other in known if other and other["case"] in cases), match["case"])
            found[path_below(root, relative)] = Fit(case, length + len(match["label"]))
    return found


def _expression(pieces: Sequence[str], label: str) -> re.Pattern[str]:
    """Return the expression of paths of a pattern with these files of labels."""
    once = {CASE: "(?P<case>[^/]+?)", LABEL: f"(?P<label>{label})"}
    again = {CASE: "(?P=case)", LABEL: "(?P=label)"}
    parts, seen = list[str](), set[str]()
    for piece in pieces:
        parts.append((again if piece in seen else once).get(piece) or re.escape(piece))
        seen.add(piece)
    return re.compile("".join(parts))


def channels_by_case(
    root: Path,
    where: str,
    endings: Sequence[str],
    listing: Listing,
    others: Mapping[Path, int] = MappingProxyType({}),
) -> dict[str, tuple[Path, ...]]:
    """Return the files of each case in the order of channels.

    Args:
        root: data folder.
        where: folder, whose names end as the channels do, or a pattern with `{channel}`.
        endings: what tells the channels apart; none for one file.
        listing: lists the files of a folder.
        others: see `files_by_case`.

    Raises:
        InputError: as of `by_channel` and `matching`.
    """
    if not endings:
        return {name: (path,) for name, path in files_by_case(root, where, listing, others).items()}
    if not is_pattern(where):
        return by_channel(files_by_case(root, where, listing, others), endings)
    fits = channel_fits(root, where, endings)
    cases = dict[str, dict[int, Path]]()
    for path, (number, fit) in fits.items():
        if fit.length >= others.get(path, 0):
            cases.setdefault(fit.case, {})[number] = path
    if not cases:
        raise InputError(f"{root} must hold files {where}, found none; correct the pattern or the root")
    return _whole(dict(sorted(cases.items())), endings)


def channel_fits(root: Path, where: str, endings: Sequence[str]) -> dict[Path, tuple[int, Fit]]:
    """Return the channel of each path that fits a pattern: of several the one with the longest ending."""
    if CHANNEL not in where:
        raise InputError(f"a pattern of several channels must have {CHANNEL}, got {where!r}; add it")
    _check_endings(endings)
    fits = dict[Path, tuple[int, Fit]]()
    for number, ending in enumerate(endings):
        for path, fit in matching(root, where.replace(CHANNEL, ending)).items():
            if path not in fits or fits[path][1].length < fit.length:
                fits[path] = number, fit
    return fits


def lengths_of_images(root: Path, where: str, endings: Sequence[str]) -> dict[Path, int]:
    """Return the length of the pattern that each path of an image fits; none of a folder's."""
    if not is_pattern(where):
        return {}
    if endings:
        return {path: fit.length for path, (_, fit) in channel_fits(root, where, endings).items()}
    return {path: fit.length for path, fit in matching(root, where).items()}


def lengths_of_masks(root: Path, where: str) -> dict[Path, int]:
    """Return the length of the pattern that each path of a mask fits; none of a folder's."""
    return {path: fit.length for path, fit in matching(root, where).items()} if is_pattern(where) else {}


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
