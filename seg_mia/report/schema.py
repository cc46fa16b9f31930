"""The JSON Schema of report.json, from its models: `python -m seg_mia.report.schema` writes schema.json."""

import inspect
import json
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from seg_mia.results.report import SCHEMA, Report

FILE = "schema.json"


def schema() -> dict[str, object]:
    """Return the schema, draft 2020-12, with field descriptions from the models' docstrings."""
    content = Report.model_json_schema(mode="serialization")
    kinds = {kind.__name__: kind for kind in _parts(Report)}
    for name, part in [(Report.__name__, content), *content["$defs"].items()]:
        kind = kinds[name]
        part["description"] = inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0].replace("\n", " ")
        descriptions = _attributes(kind)
        for field, value in part["properties"].items():
            value.pop("title", None)
            if field in descriptions:
                value["description"] = descriptions[field]
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA,
        "title": "report.json of seg_mia",
    }
    return head | {name: value for name, value in content.items() if name != "title"}


def text() -> str:
    """Return the schema as text of the file."""
    return json.dumps(schema(), indent=2) + "\n"


def _attributes(kind: type) -> dict[str, str]:
    """Return the field descriptions in the docstrings of a class and its bases, by name in files."""
    descriptions: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        section = inspect.cleandoc(base.__doc__ or "").partition("Attributes:\n")[2]
        for name, words in re.findall(r"^ {4}(\w+): ((?:.+\n?)(?: {8}.+\n?)*)", section, re.MULTILINE):
            descriptions[name] = " ".join(words.split())
    if issubclass(kind, BaseModel):
        aliases = {name: field.serialization_alias for name, field in kind.model_fields.items()}
        return {aliases.get(name) or name: words for name, words in descriptions.items()}
    return descriptions


def _parts(kind: Any) -> Iterator[type]:
    """Yield a model and all classes of its fields."""
    if isinstance(kind, type) and hasattr(kind, "__annotations__"):
        yield kind
        fields = kind.model_fields.values() if issubclass(kind, BaseModel) else ()
        for field in [field.annotation for field in fields] or list(kind.__annotations__.values()):
            yield from _parts(field)
    for part in get_args(kind):
        yield from _parts(part)


if __name__ == "__main__":
    with Path(str(files("seg_mia.report") / FILE)).open("w", encoding="utf-8") as file:
        file.write(text())
