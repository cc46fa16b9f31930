"""Hooks of mkdocs: pages from the notebook, CONTRIBUTING and CHANGELOG; formulas as MathML."""

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

from griffe import Extension, Object
from latex2mathml.converter import convert
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "docs" / "tutorial.ipynb"
OUTSIDE = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "docs/tutorial.ipynb": "tutorial.md",
}
"""Files that are no Markdown in docs/, and their pages."""
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


class Brackets(Extension):
    """Keeps Markdown from reading the equation [a][b] in a docstring as a link."""

    def on_instance(self, *, obj: Object, **_: Any) -> None:
        """Escape such brackets."""
        if obj.docstring:
            obj.docstring.value = obj.docstring.value.replace("][", "]\\[")


def on_files(files: Any, *, config: Any) -> Any:
    """Add a page for each file that is no Markdown in docs/."""
    for source, page in OUTSIDE.items():
        path = ROOT / source
        content = notebook_page(path) if path == NOTEBOOK else path.read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=content.replace("](docs/", "](")))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Point links to those files at their pages."""
    for source, page in OUTSIDE.items():
        target = re.escape(source.removeprefix("docs/"))
        markdown = re.sub(rf"\]\((?:\.\./)?{target}(?=[)#])", f"]({page}", markdown)
    return markdown


def on_page_content(html: str, **_: Any) -> str:
    """Turn formulas into MathML, which browsers draw without a script."""
    return FORMULA.sub(lambda found: mathml(unescape(found[3]), display=found[2] == "["), html)


def mathml(formula: str, *, display: bool) -> str:
    """Return one formula as MathML."""
    return str(convert(formula.strip(), display="block" if display else "inline"))


def notebook_page(path: Path) -> str:
    """Return a notebook as Markdown: text as it is, code fenced."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    texts = ("".join(cell["source"]) for cell in cells)
    return "\n\n".join(
        f"```python\n{text}\n```" if cell["cell_type"] == "code" else text
        for cell, text in zip(cells, texts, strict=True)
    )
