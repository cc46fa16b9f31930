"""Contact sheets of a data set: its samples with their masks, and its near duplicates."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from seg_mia.commands.data_report import Inspection
from seg_mia.metrics.label_sets import label_names
from seg_mia.results.orthogonal import OrthogonalSlices
from seg_mia.results.pictures import TILE, Tile, draw, overlay, picture

COLUMNS, COLUMNS_OF_VOLUMES = 8, 4
LEGEND = 24
"""Classes of a legend, at most."""
ROWS_OF_PAIRS = 12


def contact_sheet(findings: Inspection, count: int) -> NDArray[np.uint8]:
    """Return samples with their masks' outlines, from all groups in order."""
    groups = findings.data.source.groups
    order = sorted(range(len(findings.ids)), key=lambda index: (groups[index], findings.ids[index]))
    chosen = [
        order[position] for position in np.linspace(0, len(order) - 1, min(count, len(order))).astype(int)
    ]
    tiles = [_tile(findings, index) for index in chosen]
    most = COLUMNS_OF_VOLUMES if findings.data.cached.masks.ndim == 4 else COLUMNS
    columns = min(most, len(tiles))
    tiles += [Tile(np.ones((1, 1, 3), np.float32))] * (-len(tiles) % columns)
    rows = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    side = TILE * COLUMNS / most
    return draw([""] * columns, rows, [""] * len(rows), side=side, legend=_legend(findings))


def _legend(findings: Inspection) -> dict[str, int]:
    """Return the classes that some mask has, the most frequent first; of more than one class."""
    classes = findings.data.source.classes
    counts = findings.measured.pixels[:, 1:-1].sum(0)
    names = label_names(classes)
    if classes <= 2:
        return {}
    order = sorted(np.flatnonzero(counts).tolist(), key=lambda place: -counts[place])[:LEGEND]
    return {_name(place + 1, names): place + 1 for place in order}


def _name(kind: int, names: Sequence[str]) -> str:
    """Return the name of a class: its labels if it is a set."""
    return " + ".join(name for bit, name in enumerate(names) if kind >> bit & 1) or f"class {kind}"


def duplicates_sheet(findings: Inspection) -> NDArray[np.uint8]:
    """Return near duplicates side by side, those across groups first, and their difference."""
    across = findings.across()
    chosen = [*across, *(pair for pair in findings.pairs if pair not in set(across))][:ROWS_OF_PAIRS]
    rows = []
    for pair in chosen:
        shown = _slices(findings, pair[0])
        first, second = (_tile(findings, index, shown) for index in pair[:2])
        plain = [picture(shown(_sample(findings, index)[0])) for index in pair[:2]]
        note = f"{pair.distance} bits, correlation {pair.similarity:.3f}"
        rows.append([first, second, Tile(np.abs(plain[0] - plain[1]), note)])
    return draw(("one", "other", "difference"), rows, [""] * len(rows))


def _tile(findings: Inspection, index: int, shown: OrthogonalSlices | None = None) -> Tile:
    shown = shown or _slices(findings, index)
    image, mask = _sample(findings, index)
    return Tile(
        overlay(shown(image), shown(mask)), findings.ids[index][-28:]
    )  # slices of one volume differ at the end of their ids


def _sample(findings: Inspection, index: int) -> tuple[Tensor, Tensor]:
    image, mask, _ = findings.data.dataset(np.array([index]))[0, 0]
    return image, mask


def _slices(findings: Inspection, index: int) -> OrthogonalSlices:
    """Return the view of a sample, three slices of a volume."""
    return OrthogonalSlices(_sample(findings, index)[1], findings.data.source.spacing(index))
