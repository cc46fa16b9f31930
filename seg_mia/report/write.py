"""Write an audit's report: an HTML page and a JSON file."""

from pathlib import Path

from seg_mia.report.build import build
from seg_mia.report.html.page import page
from seg_mia.report.load import read_audit
from seg_mia.results.files import write_json, write_text
from seg_mia.results.report import Report

PAGE, NUMBERS = "report.html", "report.json"


def write_report(folder: Path, *, images: bool = True) -> Report:
    """Write `report.html` and `report.json` beside an audit's `audit.json`; return their content.

    Each file is written atomically. The same audit gives the same bytes.

    Args:
        folder: folder of the audit.
        images: show images and names of samples; otherwise neither file has a sample's picture or id.

    Raises:
        InputError: no audit there, an unreadable audit, or a folder that cannot be written.
    """
    stored = read_audit(folder)
    report, files = build(stored, images=images)
    text = page(report, files)
    write_json(stored.folder / NUMBERS, report.plain())
    write_text(stored.folder / PAGE, text)
    return report
