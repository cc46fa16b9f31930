"""Tables of predictions made by hand."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from seg_mia.data.prediction_files.reader import PredictionFiles, Predictions

Array = NDArray[Any]
MASK = np.array([[0, 1, 1], [0, 0, 255]], np.uint8)
BOTH_NAMES = ("p.npy", "m.npy")
FOREGROUND = np.array([[0.25, 0.5, 0.875], [0.125, 0.375, 0.75]])
"""Foreground probabilities of a mask of 2x3 pixels, exact in half precision."""


def save(path: Path, values: Array, affine: Array | None = None) -> None:
    """Write an array by the ending of its file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith((".nii", ".nii.gz")):
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine), path)  # type: ignore[no-untyped-call]
    elif path.suffix == ".npz":
        np.savez(path, values)
    elif path.suffix == ".npy":
        np.save(path, values)
    else:
        from PIL import Image

        Image.fromarray(values).save(path)


def table(root: Path, rows: Sequence[Mapping[str, str]]) -> Path:
    """Write a table with the columns of its rows."""
    file = root / "release.csv"
    with file.open("w", newline="") as text:
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return file


def four(prediction: str, mask: str, **changes: str) -> list[dict[str, str]]:
    """Return rows of four patients with the same files, two of them members."""
    return [
        {"prediction": prediction, "mask": mask, "patient": f"p{number}", "part": part, "case": f"c{number}"}
        | changes
        for number, part in enumerate(["train", "train", "test", "test"])
    ]


def opened(
    root: Path,
    prediction: Array,
    mask: Array = MASK,
    *,
    names: tuple[str, str] = BOTH_NAMES,
    **settings: Any,
) -> PredictionFiles:
    """Write a prediction and a mask, and open a table that lists them for each patient."""
    for name, values in zip(names, (prediction, mask), strict=True):
        save(root / name, values)
    file = table(root, four(*names))
    return PredictionFiles(Predictions(table=str(file), **({"classes": 2} | settings)))
