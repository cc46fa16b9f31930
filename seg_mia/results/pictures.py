"""Panels of images, masks and perturbations."""

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from seg_mia.metrics.labels import IGNORE

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image as Picture

Pixels = NDArray[np.float32]

COLOURS = np.array(
    [
        [0, 0, 0],
        [0, 158, 115],
        [213, 94, 0],
        [0, 114, 178],
        [230, 159, 0],
        [204, 121, 167],
        [86, 180, 233],
        [240, 228, 66],
    ],
    dtype=np.float32,
) / np.float32(255)
"""Okabe and Ito's palette, suitable for colour-blind readers; background first."""
_TURN = (math.sqrt(5) - 1) / 2  # of the colour wheel, from one further class to the next
ABSTAINED = np.array([1, 0, 1], dtype=np.float32)
"""Magenta, which is no class's colour."""
TILE, GAP = 1.9, 0.06
"""Side of a tile of a sheet, and the gap to the next one in its row, in inches."""
_NAME, _LETTER = 28, 0.051
"""Letters of a row's name that are shown, and the length of one in inches."""
_DPI, _COLUMN = 110, 0.45
"""Resolution of a sheet, and the width in inches of the column that holds the names of its rows."""
_NAMES = "seg_mia.names"
"""Keyword of the text in a PNG file that states the names of a sheet's rows."""


@dataclass(frozen=True)
class Tile:
    """One picture of a row: (H, W, 3) in [0, 1], with the note below it."""

    pixels: Pixels
    note: str = ""


def picture(image: Tensor) -> Pixels:
    """Return an image (C, H, W) in [0, 1] as a picture with three colours.

    One channel is grey, two or three are red, green and blue, (H, W, 3), a missing third is black. Of more
    each is a grey panel, row by row in a nearly square mosaic.
    """
    return _mosaic(_panels(image))


def overlay(image: Tensor, mask: Tensor) -> Pixels:
    """Return the image with the mask (h, w) tinted over its centre and outlined; ignored pixels are white.

    Of more than three channels, every panel has the mask.
    """
    return _mosaic([_tinted(centre(panel, *mask.shape), mask) for panel in _panels(image)])


def _panels(image: Tensor) -> list[Pixels]:
    """Return an image (C, H, W) as one picture (H, W, 3), of more than three channels one for each."""
    array = np.moveaxis(image.detach().float().cpu().clamp(0, 1).numpy(), 0, -1)
    if array.shape[2] in (2, 3):
        return [np.pad(array, ((0, 0), (0, 0), (0, 3 - array.shape[2])))]
    return [np.repeat(array[..., channel, None], 3, axis=2) for channel in range(array.shape[2])]


def _mosaic(panels: Sequence[Pixels]) -> Pixels:
    """Return panels of one size (H, W, 3) row by row, divided by white lines; a single one as it is."""
    if len(panels) == 1:
        return panels[0]
    columns = math.ceil(math.sqrt(len(panels)))
    rows = math.ceil(len(panels) / columns)
    height, width = panels[0].shape[:2]
    line = max(1, max(height, width) // 64)
    shape = (rows * (height + line) - line, columns * (width + line) - line, 3)
    sheet = np.ones(shape, np.float32)
    for number, panel in enumerate(panels):
        top, left = number // columns * (height + line), number % columns * (width + line)
        sheet[top : top + height, left : left + width] = panel
    return sheet


def _tinted(base: Pixels, mask: Tensor) -> Pixels:
    labels = mask.detach().cpu().numpy()
    colour = _palette()[labels]
    weight = np.where(labels > 0, 0.35, 0.0)
    weight[_edge(labels)] = 1.0
    mixed = base * (1 - weight[..., None]) + colour * weight[..., None]
    return np.asarray(mixed, dtype=np.float32)


def certified_overlay(image: Tensor, mask: Tensor, abstained: Tensor) -> Pixels:
    """Return the image with a certified mask (h, w), and the abstained pixels (h, w) in their own colour."""
    chosen, decided = abstained.detach().cpu().numpy()[..., None], mask.masked_fill(abstained, 0)
    bases = [_tinted(centre(panel, *mask.shape), decided) for panel in _panels(image)]
    return _mosaic(
        [np.where(chosen, 0.3 * base + 0.7 * ABSTAINED, base).astype(np.float32) for base in bases]
    )


def magnified(change: Tensor) -> tuple[Pixels, float]:
    """Return a perturbation (C, H, W) as a picture around mid-grey, and the factor that scales it to 0.5."""
    largest = float(change.abs().max())
    factor = 0.5 / largest if largest > 0 else 1.0
    return picture(0.5 + change * factor), factor


def centre(pixels: Pixels, height: int, width: int) -> Pixels:
    """Return the central part covered by an unpadded network's output."""
    row, column = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    cut: Pixels = pixels[row : row + height, column : column + width]
    return cut


@cache
def _palette() -> NDArray[np.float32]:
    """Return the colour of each class id (256, 3): beyond the palette other hues, white of ignored pixels."""
    from matplotlib.colors import hsv_to_rgb

    further = np.arange(256 - len(COLOURS))
    hues = np.stack([further * _TURN % 1, 0.45 + 0.25 * (further % 3), 1 - 0.2 * (further // 3 % 3)], axis=1)
    table = np.concatenate([COLOURS, hsv_to_rgb(hues).astype(np.float32)])
    table[IGNORE] = 1
    return np.asarray(table, np.float32)


def colour_of(kind: int) -> tuple[float, float, float]:
    """Return the colour of a class id in [0, 1]."""
    red, green, blue = _palette()[kind].tolist()
    return red, green, blue


def _edge(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    edge = np.zeros(labels.shape, bool)
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    edge[1:] |= labels[1:] != labels[:-1]
    return edge & (labels > 0) | np.roll(edge, -1, 0) & (labels > 0)


def draw(
    titles: Sequence[str],
    rows: Sequence[Sequence[Tile]],
    names: Sequence[str],
    *,
    side: float = TILE,
    legend: Mapping[str, int] = MappingProxyType({}),
) -> NDArray[np.uint8]:
    """Return a sheet (H, W, 3): a title above each column, a name before each row, notes below the tiles.

    Args:
        titles: of the columns.
        rows: tiles of each row.
        names: of the rows.
        side: of a tile in inches.
        legend: classes by name, whose colours are listed above the sheet instead of titles.
    """
    from matplotlib.figure import Figure

    name_width, title_height, note_height = _COLUMN, 0.35, 0.26
    names = [" ".join(name.split())[:_NAME] for name in names]  # one line, which stays in its column
    tall = [
        max(len(name) * _LETTER, *(_size(tile.pixels, side)[1] for tile in tiles))
        for tiles, name in zip(rows, names, strict=True)
    ]
    width, height = name_width + side * len(titles), title_height + sum(tall) + note_height * len(rows)
    figure = Figure(figsize=(width, height), dpi=_DPI)
    for row, tiles in enumerate(rows):
        bottom = sum(tall[row + 1 :]) + note_height * (len(rows) - row)
        figure.text(
            0.08 / width,
            (bottom + tall[row] / 2) / height,
            names[row],
            rotation=90,
            va="center",
            ha="left",
            size=6,
            parse_math=False,
        )
        for column, tile in enumerate(tiles):
            left = name_width + column * side
            _place(figure, tile.pixels, (left, bottom), side, tall[row])
            middle = (left + (side - GAP) / 2) / width
            if row == 0:
                above = (height - title_height + 6 / 72) / height
                figure.text(middle, above, titles[column], ha="center", size=8)
            figure.text(middle, (bottom - 0.05) / height, tile.note, va="top", ha="center", size=6.5)
    _explain(figure, legend, name_width, title_height)
    return rendered(figure)


def _explain(figure: "Figure", legend: Mapping[str, int], left: float, below: float) -> None:
    """List the colours of classes along the upper edge, as many as there is room for."""
    width, height = figure.get_size_inches()
    letter, line = 0.075, (height - below / 2) / height
    for name, kind in legend.items():
        if left + letter * (len(name) + 3) > width:
            break
        figure.text(left / width, line, "\u25a0", color=colour_of(kind), size=10, va="center")
        figure.text((left + 0.16) / width, line, name, size=7, va="center")
        left += letter * (len(name) + 3)


def _size(pixels: Pixels, side: float) -> tuple[float, float]:
    """Return width and height in inches of pixels (H, W, 3) on a tile."""
    lines, columns = pixels.shape[:2]
    scale = min((side - GAP) / columns, side / lines)
    return columns * scale, lines * scale


def _place(figure: "Figure", pixels: Pixels, corner: tuple[float, float], side: float, tall: float) -> None:
    """Show pixels in the middle of a tile, whose lower left corner and sizes are in inches.

    Images are drawn without axes, whose ticks would take most of a sheet's time.
    """
    from matplotlib.colors import Normalize
    from matplotlib.image import BboxImage
    from matplotlib.transforms import Bbox

    width, height = _size(pixels, side)
    begin, end = corner[0] + (side - GAP - width) / 2, corner[1] + (tall - height) / 2
    box = Bbox.from_bounds(*(inches * figure.dpi for inches in (begin, end, width, height)))
    image = BboxImage(box, interpolation="nearest", norm=Normalize(0, 1))
    image.set_data(pixels)
    figure.add_artist(image)


def rendered(figure: "Figure") -> NDArray[np.uint8]:
    """Return a figure's pixels (H, W, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]  # matplotlib's backends carry no types
    return np.array(canvas.buffer_rgba(), dtype=np.uint8)[..., :3]  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class RowNames:
    """Names of the rows of a sheet in a PNG file.

    Attributes:
        column: width in pixels of the column at the left edge that holds them, and nothing else.
        names: of the rows, from above.
    """

    column: int
    names: list[str]


def png(pixels: NDArray[np.uint8], names: Sequence[str] | None = None) -> bytes:
    """Return pixels (H, W, 3) or (H, W) as a PNG file's bytes.

    Args:
        pixels: of the picture.
        names: of the rows of a sheet of `draw`, stated in the file for `names_in`.
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    buffer, text = io.BytesIO(), PngInfo()
    if names is not None:
        content = json.dumps({"column": int(_COLUMN * _DPI), "names": list(names)})
        text.add_text(_NAMES, content)  # escaped by JSON, so that Latin-1 suffices
    Image.fromarray(pixels).save(buffer, format="PNG", pnginfo=text)
    return buffer.getvalue()


def names_in(picture: "Picture") -> RowNames | None:
    """Return the names that an opened PNG file states of its rows; None of another file.

    Raises:
        ValueError: a damaged statement.
    """
    content = picture.info.get(_NAMES)
    if content is None:
        return None
    stated = json.loads(content)
    if not isinstance(stated, dict) or set(stated) != {"column", "names"}:
        raise ValueError(f"{_NAMES} must state column and names, got {str(stated)[:40]}; repeat the attack")
    return RowNames(int(stated["column"]), [str(name) for name in stated["names"]])
