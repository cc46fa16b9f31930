"""Machine-readable result files, written atomically."""

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from seg_mia.atomic import written_whole
from seg_mia.errors import unwritable
from seg_mia.results.base import plain


def file_name(name: str) -> str:
    """Return a sample's id as a file name without folders."""
    return name.replace("/", "__").replace("\\", "__")


def write_text(path: Path, text: str) -> None:
    """Write a file atomically; raise InputError if the folder cannot be written."""
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically; raise InputError if the folder cannot be written."""
    try:
        with written_whole(path) as file:
            file.write(content)
    except OSError as error:
        raise unwritable(path, error) from None


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write plain values; NaN and infinity become null, which every reader of JSON accepts."""
    write_text(path, json_text(content))


def json_text(content: Mapping[str, object]) -> str:
    """Return plain values as the text of a JSON file; NaN and infinity become null."""
    return json.dumps(plain(content), indent=2) + "\n"


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, buffer.getvalue())


def cell(value: float) -> str:
    """Return a number to six significant digits; empty if undefined."""
    return "" if math.isnan(value) else f"{value:.6g}"


def write_rows(
    path: Path,
    ids: Sequence[str],
    index: Tensor,
    values: Mapping[str, Tensor],
    *,
    labels: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Write one line per image: its id, then its values to six significant digits; NaN is an empty cell.

    `labels` maps the values of some columns, which are then indices, to names.
    """
    columns = [
        [labels[name][int(value)] for value in column.tolist()]
        if labels and name in labels
        else [cell(value) for value in column.tolist()]
        for name, column in values.items()
    ]
    rows = [[ids[number], *(column[row] for column in columns)] for row, number in enumerate(index.tolist())]
    write_csv(path, ["id", *values], rows)
