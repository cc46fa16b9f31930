"""A written report, read again."""

import json
from pathlib import Path

from seg_mia.errors import InputError
from seg_mia.report.load import newest
from seg_mia.report.sums import NUMBERS
from seg_mia.results.report import SCHEMA, Report


def report_folder(named: Path) -> Path:
    """Return the folder of a report: of report.json itself, of an audit, or of an audit's newest version.

    Raises InputError without a report.
    """
    folder = named.parent if named.name == NUMBERS else named
    if not (folder / NUMBERS).is_file() and folder.is_dir():
        folder = newest(folder)
    if not (folder / NUMBERS).is_file():
        raise InputError(
            f"{named} holds no {NUMBERS}; name an audit's folder, or write it: python -m seg_mia report RUN"
        )
    return folder.absolute()


def read_report(folder: Path) -> Report:
    """Return the report in a folder; raise InputError for another layout."""
    file = folder / NUMBERS
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        raise InputError(f"{file} must be valid JSON, and is not; write it again: seg_mia report") from None
    layout = content.get("schema") if isinstance(content, dict) else None
    if layout != SCHEMA:
        raise InputError(
            f"{file} must have schema {SCHEMA}, got {str(layout)[:40]}; write it again: seg_mia report"
        )
    return Report.read(content, str(file))
