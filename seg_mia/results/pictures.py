"""Panels of images, masks and perturbations."""

import io
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
_NAME, _LETTER = 28, 0.051
"""Letters of a row's name that are shown, and the length of one in inches."""


@dataclass(frozen=True)
class Tile:
    """One picture of a row: (H, W, 3) in [0, 1], with the note below it."""

    pixels: Pixels
    note: str = ""


def picture(image: Tensor) -> Pixels:
    """Return an image (C, H, W) in [0, 1] as (H, W, 3): at most three channels, a missing third is black."""
    array = np.moveaxis(image.detach().float().cpu().clamp(0, 1).numpy(), 0, -1)
    if array.shape[2] == 1:
        return np.repeat(array, 3, axis=2)
    return np.pad(array[..., :3], ((0, 0), (0, 0), (0, max(0, 3 - array.shape[2]))))


def overlay(image: Tensor, mask: Tensor) -> Pixels:
    """Return the image with the mask (h, w) tinted over its centre and outlined; ignored pixels are white."""
    base = centre(picture(image), *mask.shape)
    labels = mask.detach().cpu().numpy()
    colour = COLOURS[np.where(labels > 0, (labels - 1) % (len(COLOURS) - 1) + 1, 0)]
    colour[labels == IGNORE] = 1
    weight = np.where(labels > 0, 0.35, 0.0)
    weight[_edge(labels)] = 1.0
    mixed = base * (1 - weight[..., None]) + colour * weight[..., None]
    return np.asarray(mixed, dtype=np.float32)


def certified_overlay(image: Tensor, mask: Tensor, abstained: Tensor) -> Pixels:
    """Return the image with a certified mask (h, w), and the abstained pixels (h, w) in their own colour."""
    base = overlay(image, mask.masked_fill(abstained, 0))
    chosen = abstained.detach().cpu().numpy()[..., None]
    return np.where(chosen, 0.3 * base + 0.7 * ABSTAINED, base).astype(np.float32)


def magnified(change: Tensor) -> tuple[Pixels, float]:
    """Return a perturbation (C, H, W) around mid-grey, and the factor that scales its maximum to 0.5."""
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
    tall = [
        max(len(name[:_NAME]) * _LETTER, *(_size(tile.pixels)[1] for tile in tiles))
        for tiles, name in zip(rows, names, strict=True)
    ]
    width, height = name_width + TILE * len(titles), title_height + sum(tall) + note_height * len(rows)
    figure = Figure(figsize=(width, height), dpi=110)
    for row, tiles in enumerate(rows):
        bottom = sum(tall[row + 1 :]) + note_height * (len(rows) - row)
        figure.text(
            0.08 / width,
            (bottom + tall[row] / 2) / height,
            names[row][:_NAME],
            rotation=90,
            va="center",
            ha="left",
            size=6,
        )
        for column, tile in enumerate(tiles):
            left = name_width + column * TILE
            _place(figure, tile.pixels, left, bottom, tall[row])
            middle = (left + (TILE - GAP) / 2) / width
            if row == 0:
                figure.text(
                    middle, (height - title_height + 6 / 72) / height, titles[column], ha="center", size=8
                )
            figure.text(middle, (bottom - 0.05) / height, tile.note, va="top", ha="center", size=6.5)
    return rendered(figure)


def _size(pixels: Pixels) -> tuple[float, float]:
    """Return width and height in inches of pixels (H, W, 3) on a tile."""
    lines, columns = pixels.shape[:2]
    scale = min((TILE - GAP) / columns, TILE / lines)
    return columns * scale, lines * scale


def _place(figure: Figure, pixels: Pixels, left: float, bottom: float, tall: float) -> None:
    """Show pixels in the middle of a tile of some height at a position in inches.

    Images are drawn without axes, whose ticks would take most of a sheet's time.
    """
    width, height = _size(pixels)
    begin, end = left + (TILE - GAP - width) / 2, bottom + (tall - height) / 2
    box = Bbox.from_bounds(*(inches * figure.dpi for inches in (begin, end, width, height)))
    image = BboxImage(box, interpolation="nearest", norm=Normalize(0, 1))
    image.set_data(pixels)
    figure.add_artist(image)


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
