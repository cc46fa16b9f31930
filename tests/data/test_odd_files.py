"""Three hundred odd data sets: read rightly or refused in one line, without a traceback."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from seg_mia.errors import InputError
from tests.data.odd_files import FORMATS, Odd
from tests.data.spoilt_files import odd

SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)

COUNT, EVERY = 300, 7


def problem(made: Odd) -> str | None:
    """Read a data set and return what is wrong with the outcome; None if nothing is."""
    try:
        with warnings.catch_warnings(action="error"):
            samples = made.read()
    except InputError as error:
        line = str(error)
        if len(line.splitlines()) != 1 or not line.isprintable():
            return f"{made.what}, {made.spoilt}: several lines: {line!r}"
        return None if made.bad is not False else f"{made.what}: refused: {line}"
    except Exception as error:  # noqa: BLE001  # whatever is raised is what is looked for
        return f"{made.what}, {made.spoilt}: {type(error).__name__}: {error}"
    if made.bad:
        return f"{made.what}, {made.spoilt}: read all the same"
    reread = made.again()
    if reread is not None:
        number, wanted = reread
        image = np.asarray(samples[number][0])[..., 0]
        if image.shape != wanted.shape or np.abs(image - wanted).max() > made.tolerance:
            return f"{made.what}, {made.spoilt}: read otherwise than by SimpleITK"
    return _differing(made, samples) if made.images else None


def _differing(made: Odd, samples: list[tuple[object, object]]) -> str | None:
    if len(samples) != len(made.images):
        return f"{made.what}: {len(samples)} samples instead of {len(made.images)}"
    for number, (image, mask) in enumerate(samples):
        wanted, ids = made.images[number], made.masks[number]
        got = np.asarray(image, np.float64).reshape(np.asarray(image).shape)
        got = got[..., 0] if got.ndim == wanted.ndim + 1 else got
        if got.shape != wanted.shape or np.abs(got - wanted).max() > made.tolerance:
            return f"{made.what}: image {number} of {got.shape} instead of {wanted.shape} differs"
        if not np.array_equal(np.asarray(mask), ids):
            return f"{made.what}: mask {number} differs"
    return None


def problems(seeds: range, root: Path) -> list[str]:
    found = list[str]()
    for seed in seeds:
        folder = root / f"{seed}"
        folder.mkdir()
        result = problem(odd(seed, folder))
        found += [] if result is None else [result]
    return found


def test_a_sample_of_odd_files(tmp_path: Path) -> None:
    assert problems(range(0, COUNT, EVERY), tmp_path) == []
    assert {seed % len(FORMATS) for seed in range(0, COUNT, EVERY)} == set(range(len(FORMATS)))


@pytest.mark.slow
def test_three_hundred_odd_files(tmp_path: Path) -> None:
    assert problems(range(COUNT), tmp_path) == []
