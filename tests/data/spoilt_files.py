"""Odd data sets of which every other one has a damaged file."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from PIL import Image as PillowImage

from tests.data.itk_check import direction
from tests.data.odd_files import FORMATS, MAKERS, Odd, grey, shown


def odd(seed: int, root: Path) -> Odd:
    """Write the data set of a seed below an empty folder; every other one is spoilt."""
    rng = np.random.default_rng([seed, 7])
    form = FORMATS[seed % len(FORMATS)]
    made = MAKERS[form](rng, root)
    made.what = f"{seed}: {form}, {made.what}"
    if rng.random() < 0.5:
        _spoil(made, rng)
    return made


def _spoil(made: Odd, rng: Any) -> None:
    """Damage one file: cut, empty, of other bytes, of another format or size, or gone."""
    path = made.files[int(rng.integers(len(made.files)))]
    data = path.read_bytes()
    contents = {
        "cut": data[: int(rng.integers(1, max(2, len(data) * 9 // 10)))],
        "empty": b"",
        "text": b"no such file\n" * 60,
        "tail": data + b"\0" * 64,
    }
    how = str(rng.choice([*contents, "byte", "gone", "mixed", "size"]))
    made.spoilt, made.bad = f"{how} {path.name}", True
    match how:
        case "byte":
            path.write_bytes(_changed(data, rng))
            made.bad, made.images = None, []
            made.again = _by_simpleitk(made, path)
        case "gone":
            path.unlink()
        case "mixed":
            _mixed(path, rng)
        case "size":
            _resized(path, made)
        case _:
            path.write_bytes(contents[how])
            made.bad = None if how == "tail" else True


def _changed(data: bytes, rng: Any) -> bytes:
    """Return bytes of which one to three near the start are others."""
    changed = bytearray(data)
    for at in rng.integers(min(len(data), 700), size=int(rng.integers(1, 4))).tolist():
        changed[at] = int(rng.integers(256))
    return bytes(changed)


def _by_simpleitk(made: Odd, path: Path) -> Callable[[], tuple[int, Any] | None]:
    """Return what reads a damaged image file of whole volumes again."""

    def again() -> tuple[int, Any] | None:
        try:
            return made.files.index(path) // 2, grey(shown(SimpleITK.ReadImage(str(path))))
        except RuntimeError:
            return None

    volumes = (".nii", ".gz", ".nrrd", ".mha")
    whole = path.suffix in volumes and path.parent.name == "images" and "slices" not in made.what
    return again if whole else lambda: None


def _objects(path: Path) -> None:
    """Write an array of objects, which only unpickling would read."""
    with path.open("wb") as file:
        np.save(file, np.zeros((5, 6), object), allow_pickle=True)


def _mixed(path: Path, rng: Any) -> None:
    """Replace a file by one of another format under its name."""
    others: list[Callable[[Path], object]] = [
        lambda other: PillowImage.fromarray(np.zeros((5, 6), np.uint8)).save(other, format="GIF"),
        _objects,
        lambda other: other.write_bytes(b"NRRD0004\ntype: short\ndimension: 2\nsizes: 3 3\n\n"),
        lambda other: other.write_bytes(gzip.compress(b"\0" * 100)),
    ]
    others[int(rng.integers(len(others)))](path)


def _resized(path: Path, made: Odd) -> None:
    """Replace a file by a whole one of another shape; a picture or array may have any, so it is left."""
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz", ".nrrd", ".mha")):
        image: Any = SimpleITK.GetImageFromArray(np.ones((2, 9, 2), np.uint8))
        image.SetDirection(direction("LPS").ravel().tolist())
        SimpleITK.WriteImage(image, str(path))
    elif name.endswith((".png", ".bmp", ".jpg")):
        PillowImage.fromarray(np.ones((31, 4), np.uint8)).save(path)
    else:
        made.spoilt, made.bad = "", False
