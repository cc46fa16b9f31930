"""The contact sheet of phantom slices in the README.

python benchmarks/phantom_sheet.py docs/images/phantom.png
"""

import sys
from pathlib import Path

import numpy as np
import torch

from seg_mia.callbacks.pictures import Tile, draw, overlay, picture, png
from seg_mia.data.anatomy import render
from seg_mia.data.phantom import ORGANS

POSITIONS = (0.1, 0.25, 0.4, 0.55, 0.7)


def main() -> None:
    """Draw three bodies at five levels, and the fourth level once more with its organs."""
    rows, names = [], []
    for patient in range(3):
        tiles = []
        for reading, position in enumerate(POSITIONS):
            image, labels = render(patient, position, reading, size=192)
            tiles.append(Tile(picture(torch.from_numpy(image)[None])))
            if position == POSITIONS[3]:
                classes = np.zeros_like(labels)
                for organ, number in ORGANS.items():
                    classes[labels == organ] = number
                marked = Tile(overlay(torch.from_numpy(image)[None], torch.from_numpy(classes).long()))
        rows.append([*tiles, marked])
        names.append(f"patient {patient}")
    titles = [f"level {position}" for position in POSITIONS] + [f"level {POSITIONS[3]}, organs"]
    Path(sys.argv[1]).write_bytes(png(draw(titles, rows, names)))


if __name__ == "__main__":
    main()
