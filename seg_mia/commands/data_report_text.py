"""A data report as the lines of a Markdown file."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from seg_mia.data.report_types import DataReport, NearDuplicates
from seg_mia.errors import name_some

SHOWN = 10
"""Maximum number of names per line of the report; prepare.json lists all."""


def report_lines(content: DataReport, file: Path) -> list[str]:
    """Return a report as the lines of a Markdown file; `file` is the path of the report itself."""
    images, masks, groups = content["images"], content["masks"], content["groups"]
    share = masks["foreground"]
    return [
        f"# {content['config']}: {content['samples']} samples",
        "",
        f"- read by {content['data']}, fingerprint {content['fingerprint'][:16]}",
        f"- {groups['count']} groups of {groups['smallest']:g} to {groups['largest']:g} samples, median "
        f"{groups['median']:g}",
        f"- images {' x '.join(map(str, images['shape']))} ({_axes(images['shape'])}) of {images['type']}, "
        f"values in [{images['low']:.3f}, {images['high']:.3f}]",
        f"- masks {' x '.join(map(str, masks['shape']))}, {content['ignored']:.2%} of the pixels ignored; of "
        f"the others {share['smallest']:.2%} to {share['largest']:.2%} are not class 0, median "
        f"{share['median']:.2%}",
        f"- split: {_split(content['split'])}",
        *(
            f"- stated part {row['part']}: {row['samples']} samples of {row['cases']} cases, "
            f"{row['patients']} patients"
            for row in content["parts"]
        ),
        *([f"- **training is refused**: {content['refused']}"] if content["refused"] else []),
        *(f"- {note['text']}{_after(note['names'])}" for note in content["notes"]),
        "",
        "| class | of the labelled pixels | in samples |",
        "| --- | --- | --- |",
        *(
            f"| {row['name'] or row['id']} | {row['share']:.3%} | {row['samples']} |"
            for row in content["classes"]
        ),
        "",
        *(f"- {kind}: {_named(names)}" for kind, names in content["suspicious"].items()),
        f"- identical images: {_named([' = '.join(names) for names in content['equal']])}",
        *_near_lines(content["near"], file),
    ]


def _axes(shape: Sequence[int]) -> str:
    return f"{'depth, ' if len(shape) == 4 else ''}height, width, channels"


def _near_lines(near: NearDuplicates, file: Path) -> list[str]:
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
            f"- **{near['parted']} of these pairs {lie} in two parts of this split**: a training image also "
            "counts as unseen, or an image of the attacker as one of the victim"
        )
    if loose:
        lines += [
            f"- not grouped by anything: {_named([' ~ '.join(names[:SHOWN]) for names in loose])}",
            "- to keep all these pairs on one side, train victim and shadow with `--data.near_duplicates "
            f"{file}` (remove pairs from the file that duplicates.png shows to be different), or list some: "
            "`--data.duplicates '[[ID, ID], ...]'`; either changes the split",
        ]
    return lines


def _split(split: Mapping[str, int] | str) -> str:
    if isinstance(split, str):
        return f"not possible: {split}"
    return ", ".join(f"{count} {part}" for part, count in split.items())


def _after(names: Sequence[str]) -> str:
    return f": {_named(names)}" if names else ""


def _named(names: Sequence[str]) -> str:
    if not names:
        return "none"
    return f"{len(names)} ({name_some(names, SHOWN)})"
