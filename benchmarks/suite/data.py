"""Stored samples against files that are decoded each time."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.suite.pairs import Pair
from benchmarks.suite.sizes import Sizes
from seg_mia.data.base import SegmentationData
from seg_mia.data.sets.folder import Folder
from seg_mia.data.sets.nifti import Nifti

FILE_SIDE = 256
"""Of PNG files, in pixels: the published slices' side."""


def pairs(sizes: Sizes) -> Iterator[Pair]:
    """Yield the pairs of opening a set of volumes, and of an epoch of samples without a network."""
    with tempfile.TemporaryDirectory() as folder:
        yield _opening(Path(folder), sizes)
    with tempfile.TemporaryDirectory() as folder:
        yield _epochs(Path(folder), sizes)


def _opening(folder: Path, sizes: Sizes) -> Pair:
    """Return the pair of opening; each volume is decompressed once, its slices follow each other."""
    root, cache = folder / "volumes", folder / "cache"
    write_volumes(root, sizes)
    volumes(root, cache, sizes).setup()

    def opened() -> NDArray[Any]:
        data = volumes(root, cache, sizes)
        data.setup()
        return data.cached.images

    def decoded() -> NDArray[Any]:
        source = volumes(root, cache, sizes).read_source()
        return np.stack([source.decode(index)[0] for index in range(len(source.ids))])

    what = "all slices are decoded from NIfTI, volume by volume"
    return Pair(f"opening {sizes.slices} slices", opened, decoded, what, 20.0, _greatest, 0.0)


def _epochs(folder: Path, sizes: Sizes) -> Pair:
    """Return the pair of an epoch in shuffled order, batches included in ours and not in the baseline."""
    _write_files(folder, sizes.files)
    data = Folder(
        root=str(folder),
        cache=str(folder / "cache"),
        channels=1,
        threshold=127,
        size=sizes.side,
        members=sizes.files * 2 // 5,
        nonmembers=sizes.files // 10,
    )
    data.setup()

    def epoch() -> float:
        return float(sum(batch.image.double().sum() for batch in data.train_dataloader()))

    def decoded() -> float:
        sampler, members = data.train_dataloader().sampler, data.indices("members")
        images = (data.source.decode(int(members[position]))[0] for _, position in sampler)
        return sum(float(image.sum(dtype=np.float64)) / 255 for image in images)

    return Pair(
        "an epoch of samples",
        epoch,
        decoded,
        f"each pair of PNG files of {FILE_SIDE}x{FILE_SIDE} is decoded and resized in the order of training",
        5.0,
        lambda ours, theirs: abs(ours - theirs) / theirs,
        1e-6,
    )


def write_volumes(root: Path, sizes: Sizes) -> None:
    """Write volumes of blocks and noise, with a label."""
    draw, side, depth = np.random.default_rng(0), sizes.side, sizes.depth
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    for number in range(sizes.slices // depth):
        blocks = draw.normal(size=(side // 8, side // 8, depth)).repeat(8, 0).repeat(8, 1)
        volume = (40 * blocks + draw.normal(0, 10, blocks.shape)).astype(np.int16)
        label = (blocks > 0).astype(np.uint8)
        for part, values in (("images", volume), ("masks", label)):
            image = nibabel.Nifti1Image(values, np.diag([-1.0, -1.0, 1.0, 1.0]))  # type: ignore[no-untyped-call]
            nibabel.save(image, root / part / f"case_{number:03d}.nii.gz")


def volumes(root: Path, cache: Path, sizes: Sizes) -> SegmentationData:
    """Return the data module of the written volumes."""
    members = sizes.slices // 5
    return Nifti(
        root=str(root),
        cache=str(cache),
        size=sizes.side,
        level=40,
        width=200,
        members=members,
        nonmembers=members,
    )


def _write_files(root: Path, count: int) -> None:
    """Write pairs of grey images, of blocks and noise, and masks."""
    draw = np.random.default_rng(0)
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    for number in range(count):
        blocks = draw.normal(size=(FILE_SIDE // 8, FILE_SIDE // 8)).repeat(8, axis=0).repeat(8, axis=1)
        image = (128 + 30 * blocks + draw.normal(0, 6, blocks.shape)).clip(0, 255).astype(np.uint8)
        mask = (blocks > 1).astype(np.uint8) * 255
        for part, values in (("images", image), ("masks", mask)):
            Image.fromarray(values).save(root / part / f"s{number:05d}.png")


def _greatest(ours: NDArray[Any], theirs: NDArray[Any]) -> float:
    return float(max(np.abs(a.astype(np.float64) - b).max() for a, b in zip(ours, theirs, strict=True)))
