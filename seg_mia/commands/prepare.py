"""Decode a data set and report its content before training."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

from jsonargparse import ArgumentParser, set_parsing_settings

from seg_mia import data as readers
from seg_mia.commands.data_report import Inspection, data_report
from seg_mia.commands.data_report_text import report_lines
from seg_mia.commands.data_sheets import contact_sheet, duplicates_sheet
from seg_mia.config.composition import last_value, stacked
from seg_mia.config.files import inline, is_inline, known
from seg_mia.config.messages import one_line, refusal
from seg_mia.config.options import options_in, taken, words_of
from seg_mia.config.parsing import import_all, plain_settings
from seg_mia.data.base import SegmentationData
from seg_mia.data.progress import DecodingBar
from seg_mia.data.survey import near_pairs, survey
from seg_mia.data.unknown_labels import UnknownLabelsError
from seg_mia.errors import InputError, unwritable
from seg_mia.experiment.roles import on_other_half, stated_role
from seg_mia.results.files import write_bytes, write_json, write_text
from seg_mia.results.pictures import png
from seg_mia.runs import new_version

OTHER = "other half"


@dataclass(frozen=True, kw_only=True)
class Request:
    """Options of `prepare`.

    Args:
        out: output folder for prepare.json, prepare.md, sheet.png and duplicates.png; a new
            RUNS/prepare/CONFIG/version_N if not given.
        runs: folder of runs.
        distance: maximum number of differing bits (of 64) between hashes of near duplicates.
        similarity: minimum correlation of near duplicates, in grey at 32x32.
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
            raise InputError(
                f"full must be a fraction above 0 and at most 1, got {self.full}; 0.95 is the default"
            )
        if self.tiles < 1:
            raise InputError(f"tiles must be at least 1, got {self.tiles}; 48 is the default")


def prepare(words: Sequence[str]) -> list[str]:
    """Run `prepare` and return lines with its results; raise InputError for invalid input."""
    request, data, name = _parsed(words)
    _decode(data)
    with DecodingBar("reading every sample") as bar:
        measured = survey(data.cached, data.source.classes, progress=bar)
    pairs = near_pairs(
        measured.hashes, measured.thumbnails, distance=request.distance, similarity=request.similarity
    )
    findings = Inspection(data, measured, tuple(pairs), *_parts(data))
    content = data_report(
        findings, name, distance=request.distance, similarity=request.similarity, full=request.full
    )
    folder = _folder(request, name)
    lines = report_lines(content, folder / "prepare.json")
    write_json(folder / "prepare.json", content)
    write_text(folder / "prepare.md", "\n".join(lines) + "\n")
    write_bytes(folder / "sheet.png", png(contact_sheet(findings, request.tiles)))
    if pairs:
        write_bytes(folder / "duplicates.png", png(duplicates_sheet(findings)))
    files = ["prepare.json", "prepare.md", "sheet.png", *(["duplicates.png"] if pairs else [])]
    return [*lines, "", f"written to {folder}: {', '.join(files)}"]


def _decode(data: SegmentationData) -> None:
    """Decode all samples; raise InputError for unknown labels, with the settings that fit all masks."""
    try:
        data.prepare_data()
    except UnknownLabelsError as error:
        fitting = data.source.proposed_labels() if hasattr(data, "source") else ""
        raise InputError(f"{error}; the values of all masks fit: {fitting}") from None if fitting else error


def _folder(request: Request, name: str) -> Path:
    """Create and return the output folder."""
    if request.out is None:
        return new_version(Path(request.runs or "runs") / "prepare" / name)
    try:
        request.out.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=request.out):
            return request.out
    except OSError as error:
        raise unwritable(request.out, error, "--out") from None


def _parsed(words: Sequence[str]) -> tuple[Request, SegmentationData, str]:
    """Return what is asked, of which data set, and what to call it: a config's bases first, as in `fit`."""
    import_all(readers)
    # A string in a file must not become a class: values without a declared type are never built.
    set_parsing_settings(instantiate_subclass_spec_in_any=False, validate_subclass_spec_in_any=False)
    parser = ArgumentParser(
        prog="seg_mia prepare",
        description="Decode a data set into the cache, and report its contents, duplicates and errors.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument("--config", action="config", help="Name or path of a config; only its data is used.")
    parser.add_class_arguments(Request)
    parser.add_subclass_arguments(SegmentationData, "data", required=True)
    files, options = taken(options_in(words), "config")
    layers = stacked(files)
    options = on_other_half(options) if stated_role(layers) else options
    flags = words_of(options)
    if not layers and not any(word.startswith(("--data", "-h", "--help")) for word in flags):
        raise InputError(f"prepare needs --config NAME; known names: {', '.join(known())}")
    sections = [layer.content.get("data") for layer in layers]
    before = [f"--config={inline({'data': section})}" for section in sections if section]
    try:
        parsed = parser.parse_args([*before, *flags])
        data = parser.instantiate_classes(parsed).data
    except argparse.ArgumentError as error:
        raise InputError(one_line(str(error), [*Request.__dataclass_fields__, "config"])) from None
    except ValueError as error:
        raise refusal(error) or error from None
    settings = plain_settings(parsed)
    request = Request(**{name: settings[name] for name in Request.__dataclass_fields__})
    if request.runs is None and (runs := last_value(layers, "runs")):
        request = Request(**{**vars(request), "runs": str(runs)})
    names = [Path(file).stem for file in files if not is_inline(file)]
    return request, data, names[-1] if names else type(data).__name__.lower()


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
