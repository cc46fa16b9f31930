"""The documents of a checkout; tests of them are skipped where there are none."""

from functools import cache
from pathlib import Path

import nbformat
import pytest

import seg_mia

ROOT = Path(seg_mia.__file__).resolve().parents[1]
NOTEBOOK = ROOT / "docs" / "tutorial.ipynb"

if not (ROOT / "docs").is_dir():
    pytest.skip("only a checkout has the documents", allow_module_level=True)


@cache
def text_of(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def tutorial() -> nbformat.NotebookNode:
    """Return the notebook of the documentation."""
    return nbformat.reads(NOTEBOOK.read_text(), as_version=4)  # type: ignore[no-any-return, no-untyped-call]


def cells(kind: str) -> list[str]:
    """The sources of the notebook's cells of one kind."""
    return [cell["source"] for cell in tutorial()["cells"] if cell["cell_type"] == kind]
