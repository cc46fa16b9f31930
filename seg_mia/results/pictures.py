"""Panels of images, masks and perturbations."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import BboxImage
from matplotlib.transforms import Bbox
from numpy.typing import NDArray
from torch import Tensor

from seg_mia.metrics.labels import IGNORE

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
ABSTAINED = np.array([1, 0, 1], dtype=np.float32)
"""Magenta, which is no class's colour."""
TILE, GAP = 1.9, 0.06
"""Side of a tile of a sheet, and the gap to the next one in its row, in inches."""


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
    colour = COLOURS[np.where(labels > 0, (labels - 1) % (len(COLOURS) - 1) + 1, 0)]
    colour[labels == IGNORE] = 1
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


def _edge(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    edge = np.zeros(labels.shape, bool)
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    edge[1:] |= labels[1:] != labels[:-1]
    return edge & (labels > 0) | np.roll(edge, -1, 0) & (labels > 0)


def draw(titles: Sequence[str], rows: Sequence[Sequence[Tile]], names: Sequence[str]) -> NDArray[np.uint8]:
    """Return a sheet (H, W, 3): a title above each column, a name before each row, notes below the tiles."""
    name_width, title_height, note_height = 0.45, 0.35, 0.26
    width, height = name_width + TILE * len(titles), title_height + (TILE + note_height) * len(rows)
    figure = Figure(figsize=(width, height), dpi=110)
    for row, tiles in enumerate(rows):
        bottom = (len(rows) - 1 - row) * (TILE + note_height) + note_height
        figure.text(
            0.08 / width,
            (bottom + TILE / 2) / height,
            names[row][:28],
            rotation=90,
            va="center",
            ha="left",
            size=6,
        )
        for column, tile in enumerate(tiles):
            left = name_width + column * TILE
            top, middle = _place(figure, tile.pixels, left, bottom), (left + (TILE - GAP) / 2) / width
            if row == 0:
                figure.text(middle, (top + 6 / 72) / height, titles[column], ha="center", size=8)
            figure.text(middle, (bottom - 0.05) / height, tile.note, va="top", ha="center", size=6.5)
    return rendered(figure)


def _place(figure: Figure, pixels: Pixels, left: float, bottom: float) -> float:
    """Show pixels in the middle of a tile at a position in inches; return the upper edge.

    Images are drawn without axes, whose ticks would take most of a sheet's time.
    """
    lines, columns = pixels.shape[:2]
    scale = min((TILE - GAP) / columns, TILE / lines)
    width, height = columns * scale, lines * scale
    begin, end = left + (TILE - GAP - width) / 2, bottom + (TILE - height) / 2
    box = Bbox.from_bounds(*(inches * figure.dpi for inches in (begin, end, width, height)))
    image = BboxImage(box, interpolation="nearest", norm=Normalize(0, 1))
    image.set_data(pixels)
    figure.add_artist(image)
    return float(end + height)


def rendered(figure: Figure) -> NDArray[np.uint8]:
    """Return a figure's pixels (H, W, 3)."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]  # matplotlib's backends carry no types
    return np.array(canvas.buffer_rgba(), dtype=np.uint8)[..., :3]  # type: ignore[no-untyped-call]


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Return pixels (H, W, 3) or (H, W) as a PNG file's bytes."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()
