"""Common parts of figures: style, colours, strokes, and a legend beside them."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from seg_mia.results.base import Measure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#0a0b0c"
"""Drawn in the page's own text colour, in every theme."""

STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "seg_mia",
    "font.size": 9,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "text.parse_math": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "path.simplify": True,
}

COLOURS = ("#0072b2", "#d55e00", "#00885f", "#a3559b", "#86700a", "#757575")
"""Okabe and Ito's, darkened if needed: contrast of 3 to 1 against white and near-black."""
MARKERS = ("o", "s", "D", "^", "v", "P")
DASHES = ("-", (0, (6, 3)), (0, (3, 3)), (0, (6, 2, 1, 2)), (0, (9, 2, 1, 2, 1, 2)))
"""Strokes of curves, with gaps that reveal an equal curve below."""
WIDTH = 1.8
ACROSS = 4.7
"""Inches; at nine points, text has the size of the page's on a telephone."""


class Key(NamedTuple):
    """Style of one series in a legend beside the figure; `dash` in SVG notation.

    A series with a marker has no line in the legend, unless it is `joined`.
    """

    label: str
    colour: str
    dash: str
    marker: str
    filled: bool
    note: str = ""
    joined: bool = False


class Drawing(NamedTuple):
    """A figure with text description, legend and caption.

    Attributes:
        figure: made and drawn within `style`.
        title: content in words, numbers included, for screen readers.
        keys: its legend.
        caption: the sentence below it.
    """

    figure: "Figure"
    title: str
    keys: list[Key]
    caption: str


class Chart(NamedTuple):
    """A drawing with its heading."""

    heading: str
    drawing: Drawing


@contextmanager
def style() -> Iterator[None]:
    """Draw in the report's style, regardless of other matplotlib settings."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        yield


def colour(number: int) -> str:
    """Return a series' colour; dashes and markers repeat with another period."""
    return COLOURS[number % len(COLOURS)]


def marker(number: int) -> str:
    """Return a series' marker."""
    return MARKERS[number % len(MARKERS)]


def framed(height: float) -> "tuple[Figure, Axes]":
    """Return a figure of the given size in inches, and axes with margins for numbers and names."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(ACROSS, height))
    pad_left, pad_bottom, pad_right, pad_top = 0.66, 0.48, 0.12, 0.12
    box = (
        pad_left / ACROSS,
        pad_bottom / height,
        1 - (pad_left + pad_right) / ACROSS,
        1 - (pad_bottom + pad_top) / height,
    )
    return figure, figure.add_axes(box)


def stroke(number: int) -> str:
    """Return a stroke as SVG's stroke-dasharray, empty without gaps."""
    dash = DASHES[number % len(DASHES)]
    return "" if isinstance(dash, str) else " ".join(f"{WIDTH * part:g}" for part in dash[1])


def ends(measure: Measure) -> tuple[float, float, float]:
    """Return a number and the ends of its interval, or the number itself without an interval."""
    value = math.nan if measure.value is None else measure.value
    return (
        value,
        value if measure.low is None else measure.low,
        value if measure.high is None else measure.high,
    )
