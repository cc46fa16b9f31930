"""What the tests with generated folders share: one place to run in, and what may come of it."""

import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import numpy as np
from hypothesis import HealthCheck, settings

from seg_mia.data.base import SegmentationData
from seg_mia.errors import InputError
from seg_mia.metrics.labels import IGNORE

# In CI the examples are the same every time; elsewhere each run looks for new ones.
FEW = settings(
    max_examples=60,
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


class Piece(NamedTuple):
    """One generated defect or variant: what writes it, and whether it must be refused (None: either)."""

    what: str
    bad: bool | None
    write: Callable[[Path], object]

    def __repr__(self) -> str:
        return self.what


@contextmanager
def place(seconds: float = 20) -> Iterator[Path]:
    """Give an empty folder, and fail if what is done there does not come to an end."""

    def late(_number: int, _frame: FrameType | None) -> None:
        raise AssertionError(f"still not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder).resolve()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def refusal(data: SegmentationData) -> str | None:
    """Decode a data set whole; return the one line that refuses it, or None once every sample is right."""
    try:
        data.prepare_data()
    except InputError as error:
        line = str(error)
        assert line.splitlines() == [line]
        assert line.isprintable() or "\udcff" in line
        return line
    images, masks, source = data.cached.images, data.cached.masks, data.source
    assert len(images) == len(masks) == len(set(source.ids)) == len(source.groups)
    assert images.shape[-1] == source.channels
    assert images.shape[1:-1] == masks.shape[1:]
    assert images.dtype in (np.uint8, np.float32)
    assert images.dtype == np.uint8 or (images.min() >= 0 and images.max() <= 1)
    assert max(set(np.unique(masks).tolist()) - {IGNORE}) < source.classes
    return None


def escaped(name: str) -> str:
    """Return what of a name an error shows in any case, printed as it is or quoted."""
    return str(InputError(name)).removeprefix("\udcff")
