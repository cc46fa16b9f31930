"""Decode a data set once, and say what is in it before anything is trained on it."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
from jsonargparse import ArgumentParser, set_parsing_settings
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from seg_mia import data as readers
from seg_mia.config.files import composed, in_yaml, inline, is_inline, known, read_yaml, resolve
from seg_mia.config.messages import one_line, refusal
from seg_mia.config.parsing import import_all, plain_settings
from seg_mia.data.base import SegmentationData
from seg_mia.data.checks import ONE_GREY
from seg_mia.data.progress import DecodingBar
from seg_mia.data.survey import Pair, Survey, equal, near_pairs, survey
from seg_mia.data.units import units_of
from seg_mia.errors import InputError
from seg_mia.experiment.roles import on_other_half, stated_role
from seg_mia.results.files import write_bytes, write_json, write_text
from seg_mia.results.pictures import Tile, draw, overlay, picture, png
from seg_mia.runs import new_version

OTHER = "other half"
LISTED = 1000
"""How many pairs inside groups are written down; all are counted."""
SHOWN = 10
"""How many names a line of the report shows; prepare.json has all of them."""
COLUMNS = 8
ROWS_OF_PAIRS = 12


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked of a data set.

    Args:
        out: folder that gets prepare.json, prepare.md, sheet.png and duplicates.png; a new
            RUNS/prepare/CONFIG/version_N if not given.
        runs: folder that runs are kept in.
        distance: how many of 64 bits may differ between the hashes of near duplicates.
        similarity: the least correlation of near duplicates, seen in grey at 32x32.
        full: share of a mask that one class other than 0 must cover to be suspicious.
        tiles: samples on the contact sheet.
    """

    out: Path | None = None
    runs: str | None = None
    distance: int = 8
    similarity: float = 0.97
    full: float = 0.95
    tiles: int = 48

    def __post_init__(self) -> None:
        if not 0 < self.full <= 1:
            raise InputError(f"full is a share, above 0 and at most 1, got {self.full}; 0.95 is the default")
        if self.tiles < 1:
            raise InputError(f"tiles must be at least 1, got {self.tiles}; 48 is the default")


@dataclass(frozen=True, eq=False)
class Found:
    """What was found out about a data set.

    Attributes:
        data: the data set, decoded.
        seen: what its samples are like.
        pairs: near duplicates, the most alike first.
        parts: which part of the config's split each sample is in; none where the split does not fit.
        misfit: why it does not, or why this data is refused for training.
    """

    data: SegmentationData
    seen: Survey
    pairs: tuple[Pair, ...]
    parts: tuple[str, ...]
    misfit: str

    @property
    def ids(self) -> tuple[str, ...]:
        """Return the samples' names."""
        return self.data.source.ids

    def across(self) -> list[Pair]:
        """Return the pairs that are in two groups."""
        groups = self.data.source.groups
        return [pair for pair in self.pairs if groups[pair.first] != groups[pair.second]]


def prepare(words: Sequence[str]) -> list[str]:
    """Run `prepare`, and return lines on what was found; raise InputError for what does not fit."""
    request, data, name = _parsed(words)
    data.prepare_data()
    with DecodingBar("looking at every sample") as bar:
        seen = survey(data.cached, data.source.classes, progress=bar)
    pairs = near_pairs(seen.hashes, seen.thumbnails, distance=request.distance, similarity=request.similarity)
    findings = Found(data, seen, tuple(pairs), *_parts(data))
    content = report(findings, request, name)
    folder = _folder(request, name)
    lines = described(content, folder / "prepare.json")
    write_json(folder / "prepare.json", content)
    write_text(folder / "prepare.md", "\n".join(lines) + "\n")
    write_bytes(folder / "sheet.png", png(_sheet(findings, request.tiles)))
    if pairs:
        write_bytes(folder / "duplicates.png", png(_pairs_sheet(findings)))
    files = ["prepare.json", "prepare.md", "sheet.png", *(["duplicates.png"] if pairs else [])]
    return [*lines, "", f"written to {folder}: {', '.join(files)}"]


def _folder(request: Request, name: str) -> Path:
    """Return the folder to write to, which exists."""
    if request.out is None:
        return new_version(Path(request.runs or "runs") / "prepare" / name)
    try:
        request.out.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=request.out):
            return request.out
    except OSError as error:
        raise InputError(
            f"cannot write to {request.out}: {error.strerror}; choose another folder with --out"
        ) from None


def report(findings: Found, request: Request, name: str) -> dict[str, Any]:
    """Return everything that was found, as plain values."""
    data, seen = findings.data, findings.seen
    labelled = seen.labelled
    foreground = (labelled - seen.pixels[:, 0])[labelled > 0] / labelled[labelled > 0]
    sizes = np.unique(data.source.groups, return_counts=True)[1]
    return {
        "config": name,
        "data": f"{type(data).__module__}.{type(data).__name__}",
        "fingerprint": data.fingerprint,
        "samples": len(findings.ids),
        "groups": {"count": len(sizes), **_spread(sizes)},
        "images": {
            "shape": list(data.cached.images.shape[1:]),
            "type": str(data.cached.images.dtype),
            "low": float(seen.low.min()),
            "high": float(seen.high.max()),
        },
        "masks": {"shape": list(data.cached.masks.shape[1:]), "foreground": _spread(foreground)},
        "classes": _classes(seen),
        "ignored": float(seen.pixels[:, -1].sum() / seen.pixels.sum()),
        "split": {part: findings.parts.count(part) for part in dict.fromkeys(findings.parts)}
        or findings.misfit,
        "refused": findings.misfit if findings.parts else "",
        "notes": [{"text": note.text, "names": list(note.names)} for note in data.notes],
        "suspicious": _suspicious(findings, request.full),
        "equal": [[findings.ids[i] for i in duplicates] for duplicates in equal(seen.digests)],
        "near": _near(findings, request),
    }


def described(content: Mapping[str, Any], file: Path) -> list[str]:
    """Return a report as the lines of a Markdown file; `file` is where the report itself lies."""
    images, masks, groups = content["images"], content["masks"], content["groups"]
    share = masks["foreground"]
    return [
        f"# {content['config']}: {content['samples']} samples",
        "",
        f"- read by {content['data']}, fingerprint {content['fingerprint'][:16]}",
        f"- {groups['count']} groups of {groups['smallest']:g} to {groups['largest']:g} samples, median "
        f"{groups['median']:g}",
        f"- images {' x '.join(map(str, images['shape']))} (height, width, channels) of {images['type']}, "
        f"values in [{images['low']:.3f}, {images['high']:.3f}]",
        f"- masks {' x '.join(map(str, masks['shape']))}, {content['ignored']:.2%} of the pixels to ignore; "
        f"of the others {share['smallest']:.2%} to {share['largest']:.2%} are not class 0, median "
        f"{share['median']:.2%}",
        f"- split: {_split(content['split'])}",
        *([f"- **training is refused**: {content['refused']}"] if content["refused"] else []),
        *(f"- {note['text']}: {_named(note['names'])}" for note in content["notes"]),
        "",
        "| class | of the labelled pixels | in samples |",
        "| --- | --- | --- |",
        *(f"| {row['id']} | {row['share']:.3%} | {row['samples']} |" for row in content["classes"]),
        "",
        *(f"- {kind}: {_named(names)}" for kind, names in content["suspicious"].items()),
        f"- equal to the pixel: {_named([' = '.join(names) for names in content['equal']])}",
        *_near_lines(content["near"], file),
    ]


def _parsed(words: Sequence[str]) -> tuple[Request, SegmentationData, str]:
    """Return what is asked, of which data set, and what to call it: a config's bases first, as in `fit`."""
    import_all(readers)
    # A string in a file must not become a class: values without a declared type are never built.
    set_parsing_settings(instantiate_subclass_spec_in_any=False, validate_subclass_spec_in_any=False)
    parser = ArgumentParser(
        prog="seg_mia prepare",
        description="Decode a data set once into the cache, and report what is in it.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument("--config", action="config", help="A config's name or file: its data counts.")
    parser.add_class_arguments(Request)
    parser.add_subclass_arguments(SegmentationData, "data", required=True)
    resolved, named = resolve(words, "--config", "-c")
    args, configs = composed(resolved, ())
    arguments = [word for word in args[2 * len(configs) :] if not word.startswith("--model.defences+=")]
    arguments = on_other_half(arguments) if stated_role(configs) else arguments
    if not configs and not any(word.startswith(("--data", "-h", "--help")) for word in arguments):
        raise InputError(f"prepare needs --config NAME; known names: {', '.join(known())}")
    sections = [read_yaml(config).get("data") for config in configs]
    before = [f"--config={inline({'data': section})}" for section in sections if section]
    try:
        parsed = parser.parse_args([*before, *arguments])
        data = parser.instantiate_classes(parsed).data
    except argparse.ArgumentError as error:
        raise InputError(one_line(str(error), [*Request.__dataclass_fields__, "config"])) from None
    except ValueError as error:
        raise refusal(error) or error from None
    settings = plain_settings(parsed)
    request = Request(**{name: settings[name] for name in Request.__dataclass_fields__})
    if request.runs is None and (runs := in_yaml(configs, "runs")):
        request = Request(**{**vars(request), "runs": str(runs)})
    files = [Path(file).stem for file in named if not is_inline(file)]
    return request, data, files[-1] if files else type(data).__name__.lower()


def _parts(data: SegmentationData) -> tuple[tuple[str, ...], str]:
    """Return which part of the config's split each sample is in, or why there is none."""
    misfit = ""
    try:
        data.setup()
    except InputError as error:
        misfit = str(error)
        if not hasattr(data, "splits"):
            return (), misfit
    parts = [OTHER] * len(data.source)
    for name in ("members", "nonmembers", "reference"):
        for index in getattr(data.splits, name):
            parts[index] = name
    return tuple(parts), misfit


def _spread(values: NDArray[Any]) -> dict[str, float]:
    if not len(values):
        return dict.fromkeys(("smallest", "median", "largest"), 0.0)
    return {
        "smallest": float(values.min()),
        "median": float(np.median(values)),
        "largest": float(values.max()),
    }


def _classes(seen: Survey) -> list[dict[str, float]]:
    counts, total = seen.pixels[:, :-1], max(int(seen.labelled.sum()), 1)
    return [
        {"id": number, "share": float(column.sum() / total), "samples": int((column > 0).sum())}
        for number, column in enumerate(counts.T)
    ]


def _suspicious(findings: Found, full: float) -> dict[str, list[str]]:
    """Return the names of samples that are seldom meant to be as they are."""
    seen = findings.seen
    counts, labelled = seen.pixels[:, :-1], seen.labelled
    kinds = {
        "empty masks": (labelled > 0) & (counts[:, 0] == labelled),
        "masks nearly full": (labelled > 0) & (counts[:, 1:].max(1) >= full * labelled),
        "masks with nothing but pixels to ignore": labelled == 0,
        "constant images": findings.data.contents.spread <= ONE_GREY,
    }
    return {kind: [findings.ids[i] for i in np.flatnonzero(which)] for kind, which in kinds.items()}


def _near(findings: Found, request: Request) -> dict[str, Any]:
    """Return near duplicates, and lists of those that nothing keeps on one side."""
    ids, groups, across = findings.ids, findings.data.source.groups, findings.across()
    within = [pair for pair in findings.pairs if groups[pair.first] == groups[pair.second]]
    tied = _tied(findings.data)
    loose = [pair for pair in across if not _together(pair, tied)]
    rows = [
        {
            "first": ids[pair.first],
            "second": ids[pair.second],
            "distance": pair.distance,
            "similarity": pair.similarity,
            "together": _together(pair, tied),
            "parts": [findings.parts[i] for i in pair[:2]] if findings.parts else None,
        }
        for pair in across
    ]
    return {
        "distance": request.distance,
        "similarity": request.similarity,
        "within_groups": len(within),
        "within": [[ids[pair.first], ids[pair.second], pair.similarity] for pair in within[:LISTED]],
        "across_groups": rows,
        "parted": sum(
            findings.parts[first] != findings.parts[second] for first, second, *_ in across if findings.parts
        ),
        "loose": [[ids[i] for i in component] for component in _merged(loose, len(ids))],
    }


def _tied(data: SegmentationData) -> NDArray[np.int64]:
    """Return the number of the unit that each sample cannot be parted from, as splits have it, (n,)."""
    source = data.source
    tied = np.empty(len(source), np.int64)
    for number, unit in enumerate(units_of(source.ids, source.groups, data.duplicate_groups())):
        tied[unit] = number
    return tied


def _together(pair: Pair, tied: NDArray[np.int64]) -> bool:
    return bool(tied[pair.first] == tied[pair.second])


def _merged(pairs: Sequence[Pair], count: int) -> list[list[int]]:
    """Return the sets of samples that pairs connect, each ascending."""
    return equal(_components([pair[:2] for pair in pairs], count).tolist())


def _components(sets: Sequence[Sequence[int]], count: int) -> NDArray[np.int64]:
    """Return the number of the connected set that each of some samples is in, (count,)."""
    edges = [(first, second) for component in sets for first, second in pairwise(component)]
    ends = np.array(edges, np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(len(edges), bool), (ends[0], ends[1])), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


def _near_lines(near: Mapping[str, Any], file: Path) -> list[str]:
    rows, loose = near["across_groups"], near["loose"]
    lines = [
        f"- near duplicates (at most {near['distance']} of 64 bits differ, correlation at least "
        f"{near['similarity']:g}): {near['within_groups']} pairs within groups, {len(rows)} across groups"
    ]
    lines += [
        f"  - {row['first']} ~ {row['second']}: {row['distance']} bits, correlation {row['similarity']:.3f}, "
        f"{'kept together' if row['together'] else 'NOT kept together'}"
        f"{', ' + ' and '.join(row['parts']) if row['parts'] else ''}"
        for row in rows[:SHOWN]
    ]
    lines += [f"  - and {len(rows) - SHOWN} more"] if len(rows) > SHOWN else []
    if near["parted"]:
        lie = "lies" if near["parted"] == 1 else "lie"
        lines.append(
            f"- **{near['parted']} of these pairs {lie} in two parts of this split**: an image a network "
            "trained on also counts as unseen, or the attacker's as the victim's"
        )
    if loose:
        lines += [
            f"- nothing keeps together: {_named([' ~ '.join(names[:SHOWN]) for names in loose])}",
            f"- to keep all these pairs on one side, train victim and shadow with `--data.near_duplicates "
            f"{file}` (take out of the file what duplicates.png shows to be different), or list some: "
            "`--data.duplicates '[[ID, ID], ...]'`; either changes the split",
        ]
    return lines


def _split(split: Mapping[str, int] | str) -> str:
    if isinstance(split, str):
        return f"does not fit: {split}"
    return ", ".join(f"{count} {part}" for part, count in split.items())


def _named(names: Sequence[str]) -> str:
    if not names:
        return "none"
    ellipsis = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{len(names)} ({', '.join(names[:SHOWN])}{ellipsis})"


def _sheet(findings: Found, count: int) -> NDArray[np.uint8]:
    """Return samples with their masks' outlines, from all groups in order."""
    groups = findings.data.source.groups
    order = sorted(range(len(findings.ids)), key=lambda index: (groups[index], findings.ids[index]))
    chosen = [
        order[position] for position in np.linspace(0, len(order) - 1, min(count, len(order))).astype(int)
    ]
    tiles = [_tile(findings, index) for index in chosen]
    tiles += [Tile(np.ones((1, 1, 3), np.float32))] * (-len(tiles) % COLUMNS)
    rows = [tiles[start : start + COLUMNS] for start in range(0, len(tiles), COLUMNS)]
    return draw([""] * COLUMNS, rows, [""] * len(rows))


def _pairs_sheet(findings: Found) -> NDArray[np.uint8]:
    """Return near duplicates side by side, those across groups first, and their difference."""
    across = findings.across()
    chosen = [*across, *(pair for pair in findings.pairs if pair not in set(across))][:ROWS_OF_PAIRS]
    rows = []
    for pair in chosen:
        first, second = (_tile(findings, index) for index in pair[:2])
        plain = [picture(_sample(findings, index)[0]) for index in pair[:2]]
        note = f"{pair.distance} bits, correlation {pair.similarity:.3f}"
        rows.append([first, second, Tile(np.abs(plain[0] - plain[1]), note)])
    return draw(("one", "other", "difference"), rows, [""] * len(rows))


def _tile(findings: Found, index: int) -> Tile:
    return Tile(overlay(*_sample(findings, index)), findings.ids[index][-28:])


def _sample(findings: Found, index: int) -> tuple[Any, Any]:
    image, mask, _ = findings.data.dataset(np.array([index]))[0, 0]
    return image, mask
