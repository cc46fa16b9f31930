"""Write an audit's report: one page for people, one file for scripts."""

from pathlib import Path

from seg_mia.report.build import build
from seg_mia.report.html.page import page
from seg_mia.report.load import read_audit
from seg_mia.results.files import write_json, write_text
from seg_mia.results.report import Report

PAGE, NUMBERS = "report.html", "report.json"


def write_report(folder: Path, *, images: bool = True) -> Report:
    """Write `report.html` and `report.json` beside an audit's `audit.json`; return what they say.

    Each is written in one step, whole or not at all. The same audit gives the same bytes.

    Args:
        folder: of the audit.
        images: show and name samples; without, neither a sample's picture nor its id is in either file.

    Raises:
        InputError: no audit there, one that cannot be read, or a folder that cannot be written.
    """
    stored = read_audit(folder)
    report, files = build(stored, images=images)
    text = page(report, files)
    write_json(stored.folder / NUMBERS, report.plain())
    write_text(stored.folder / PAGE, text)
    return report
