"""Stored samples against files that are decoded each time."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from benchmarks.suite.pairs import Pair
from seg_mia.data.base import SegmentationData
from seg_mia.data.sets.nifti import Nifti

SLICES = 5000
DEPTH = 100
"""Slices of a volume."""
CHECKED = 50
"""Samples whose pixels are compared."""


def pairs(size: int, count: int) -> Iterator[Pair]:  # noqa: ARG001  # the number of slices is part of the target
    """Yield the pairs of opening a data set, and of an epoch of samples without a network."""
    with tempfile.TemporaryDirectory() as folder:
        root, cache = Path(folder) / "volumes", Path(folder) / "cache"
        _generate(root, size)
        first = _data(root, cache, size)
        first.prepare_data()
        first.setup()

        def opened() -> NDArray[Any]:
            data = _data(root, cache, size)
            data.setup()
            return np.array(data.cached.images[:CHECKED])

        def decoded() -> NDArray[Any]:
            source = _data(root, cache, size).read_source()
            return np.stack([source.decode(index)[0] for index in range(len(source.ids))])[:CHECKED]

        yield Pair(
            f"opening {SLICES} slices",
            opened,
            decoded,
            "all slices are decoded from NIfTI",
            20.0,
            _greatest,
            0.0,
        )
        yield Pair(
            "an epoch of samples",
            lambda: _epoch(first),
            lambda: _decoded_epoch(first),
            "each slice is decoded from NIfTI in the shuffled order of the training",
            5.0,
            lambda ours, theirs: abs(ours - theirs) / theirs,
            1e-6,
        )


def _generate(root: Path, size: int) -> None:
    """Write volumes of blocks and noise, with a label."""
    draw = np.random.default_rng(0)
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    for number in range(SLICES // DEPTH):
        blocks = draw.normal(size=(size // 8, size // 8, DEPTH // 4)).repeat(8, 0).repeat(8, 1).repeat(4, 2)
        volume = (40 * blocks + draw.normal(0, 10, blocks.shape)).astype(np.int16)
        label = (blocks > 0).astype(np.uint8)
        for part, values in (("images", volume), ("masks", label)):
            image = nibabel.Nifti1Image(values, np.diag([-1.0, -1.0, 1.0, 1.0]))  # type: ignore[no-untyped-call]
            nibabel.save(image, root / part / f"case_{number:03d}.nii.gz")


def _data(root: Path, cache: Path, size: int) -> SegmentationData:
    members = SLICES // 5
    return Nifti(
        root=str(root), cache=str(cache), size=size, level=40, width=200, members=members, nonmembers=members
    )


def _greatest(ours: NDArray[Any], theirs: NDArray[Any]) -> float:
    return float(np.abs(ours.astype(np.float64) - theirs).max())


def _epoch(data: SegmentationData) -> float:
    """Return the sum of the pixels of all training samples."""
    return float(sum(batch.image.double().sum() for batch in data.train_dataloader()))


def _decoded_epoch(data: SegmentationData) -> float:
    """Return the same from the files."""
    sampler, members = data.train_dataloader().sampler, data.indices("members")
    total = 0.0
    for _, position in sampler:
        image, _ = data.source.decode(int(members[position]))
        total += float(image.astype(np.float64).sum()) / (255 if image.dtype == np.uint8 else 1)
    return total
