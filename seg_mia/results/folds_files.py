"""Files of a cross-validation's audit: numbers, a table and a figure."""

from pathlib import Path

from seg_mia.results.charts.folds import ranks_drawing
from seg_mia.results.charts.png import pixels
from seg_mia.results.files import write_bytes, write_json, write_text
from seg_mia.results.folds import FoldsResult
from seg_mia.results.pictures import png
from seg_mia.results.tables import folds_table, markdown


def write_folds(folder: Path, result: FoldsResult) -> None:
    """Write `folds.json`, `folds.md` and `folds_ranks.png` into a folder."""
    write_json(folder / "folds.json", result.plain())
    write_text(folder / "folds.md", markdown(folds_table([result])) + "\n")
    write_bytes(folder / "folds_ranks.png", png(pixels(ranks_drawing(result))))
