"""Figures as inline SVG: in the page's colours and font, with unique ids and a text description."""

import io
import re
from xml.etree import ElementTree

from markupsafe import Markup

from seg_mia.results.charts.drawing import INK, Drawing, style

INHERITED = {"font-family", "font", "stroke-linejoin", "stroke-linecap", "stroke-miterlimit"}
"""Determined by the page's style sheet."""
TAGS = {"svg", "g", "defs", "clipPath", "path", "rect", "use", "text", "tspan", "title", "circle", "line"}


def inline(drawing: Drawing, *, prefix: str) -> Markup:
    """Return a drawing's figure as an `svg` element.

    Args:
        drawing: the drawing.
        prefix: prefix of all ids in it, unique for every figure of a page.
    """
    buffer = io.StringIO()
    with style():
        drawing.figure.savefig(
            buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
        )
    root = ElementTree.fromstring(buffer.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            if _local(child.tag) not in TAGS:
                parent.remove(child)
    for element in root.iter():
        _adapt(element, prefix)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    named = ElementTree.Element("title", {"id": f"{prefix}-title"})
    named.text = drawing.title
    root.insert(0, named)
    root.attrib |= {"role": "img", "aria-labelledby": f"{prefix}-title", "class": "figure"}
    for element in root.iter():
        element.tail = None  # line breaks between elements, which HTML would keep
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _adapt(element: ElementTree.Element, prefix: str) -> None:
    """Convert styles to attributes, for a page without inline style; make ids and links unique."""
    element.tag = _local(element.tag)
    attributes = dict(element.attrib)
    for declaration in attributes.pop("style", "").split(";"):
        name, colon, value = (part.strip() for part in declaration.partition(":"))
        if colon and name not in INHERITED:
            attributes[name] = value
    element.attrib.clear()
    for name, value in attributes.items():
        local_name = _local(name)
        if local_name != "id" or element.tag != "g":
            element.set(local_name, _adapted(local_name, value, prefix))


def _adapted(name: str, value: str, prefix: str) -> str:
    if value == INK:
        return "currentColor"
    if name == "id":
        return f"{prefix}-{value}"
    if name == "href":
        return value.replace("#", f"#{prefix}-", 1)
    return re.sub(r"url\(#", f"url(#{prefix}-", value)


def _local(name: str) -> str:
    return name.rpartition("}")[2]
