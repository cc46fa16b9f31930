"""Lines of CSV files that state facts on samples."""

import csv
from collections.abc import Mapping
from pathlib import Path

from seg_mia.errors import InputError

Line = tuple[str, Mapping[str, str]]
"""File and line number, for messages, and cells by column, stripped."""


def csv_lines(file: Path, setting: str) -> tuple[list[str], list[Line]]:
    """Return the header of a CSV file and its lines.

    Args:
        file: in UTF-8, with a header.
        setting: the option that names it, for messages.

    Raises:
        InputError: an unreadable file, or a line with another number of cells than the header.
    """
    if not file.is_file():
        raise InputError(f"{file} must be a CSV file in UTF-8, got: no file; correct {setting}")
    try:
        with file.open(newline="", encoding="utf-8-sig") as text:
            reader = csv.DictReader(text, strict=True)
            rows = [(f"{file} line {reader.line_num}", row) for row in reader]
            header = [name.strip() for name in reader.fieldnames or ()]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file} must be a CSV file in UTF-8, got: {error}; correct {setting}") from None
    for where, row in rows:
        if None in row or None in row.values():
            raise InputError(
                f"{where} must have as many cells as the header, got another number; quote commas"
            )
    return header, [
        (where, {name.strip(): value.strip() for name, value in row.items()}) for where, row in rows
    ]
