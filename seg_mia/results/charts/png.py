"""Figures as pixels, with their legend and caption below: for files and TensorBoard."""

import io
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from seg_mia.results.charts.drawing import WIDTH, Drawing, Key, style

if TYPE_CHECKING:
    from matplotlib.lines import Line2D

DPI = 120
LINE = 90
"""Characters per line of a caption."""
GROUND = "white"


def pixels(drawing: Drawing) -> NDArray[np.uint8]:
    """Return a drawing with its legend and caption on white, (H, W, 3)."""
    buffer = io.BytesIO()
    with style():
        figure = drawing.figure
        legend = figure.legend(
            handles=[_handle(key) for key in drawing.keys],
            loc="upper left",
            bbox_to_anchor=(0, 0),
            fontsize=8,
            frameon=False,
            handlelength=3,
        )
        height = 0.19 * len(drawing.keys) + 0.1
        caption = figure.text(
            0.02,
            -height / figure.get_figheight(),
            textwrap.fill(drawing.caption, LINE),
            size=7,
            va="top",
        )
        figure.savefig(buffer, format="png", dpi=DPI, facecolor=GROUND, bbox_inches="tight")
        legend.remove()
        caption.remove()
    return np.asarray(Image.open(buffer).convert("RGB"))


def beside(drawings: Sequence[Drawing]) -> NDArray[np.uint8]:
    """Return drawings side by side, (H, W, 3); padded with white to equal height."""
    sheets = [pixels(drawing) for drawing in drawings]
    height = max(len(sheet) for sheet in sheets)
    return np.hstack(
        [np.pad(sheet, ((0, height - len(sheet)), (0, 0), (0, 0)), constant_values=255) for sheet in sheets]
    )


def _handle(key: Key) -> "Line2D":
    """Return the legend symbol of one series."""
    from matplotlib.lines import Line2D

    dashes = tuple(float(part) / WIDTH for part in key.dash.split())
    return Line2D(
        [],
        [],
        color=key.colour,
        ls=((0, dashes) if dashes else "-") if key.joined or not key.marker else "none",
        lw=WIDTH,
        marker=key.marker or "none",
        mfc=key.colour if key.filled else "none",
        label=f"{key.label} {key.note}".strip(),
    )
