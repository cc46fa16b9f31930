"""Size and spacing of a volume, stated within its sample, whose shape all samples of a data set share.

A sample that is padded to a common size ends, along its first axis, in slices of padding whose first voxels,
black or white, spell the lengths and the distances of the voxels in bits. nnU-Net's answer depends on both.
Bits survive every change of values by less than half of their range, and as padding they are left alone by
perturbations.
"""

import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seg_mia.errors import InputError

_NUMBERS = np.dtype([("lengths", "<u2", (3,)), ("spacing", "<f8", (3,))])
_CHECK = 4
BITS = 8 * (_NUMBERS.itemsize + _CHECK)
"""Voxels that spell a geometry: lengths, distances, and a checksum."""
LONGEST = 65535
"""Largest length that can be stated."""


class SampleGeometry(NamedTuple):
    """Geometry of a volume before padding.

    Attributes:
        size: lengths [D, H, W]; padding lies behind them.
        spacing: distance of its voxels along each axis.
    """

    size: tuple[int, ...]
    spacing: tuple[float, ...]


def slices_needed(plane: Sequence[int]) -> int:
    """Return how many slices (H, W) hold a geometry."""
    return -(-BITS // (plane[0] * plane[1]))


def state_geometry(image: NDArray[Any], geometry: SampleGeometry) -> None:
    """Write a geometry into the last slices of a sample (D, H, W, C) in [0, 1], in place."""
    numbers = np.zeros((), _NUMBERS)
    numbers["lengths"], numbers["spacing"] = geometry.size, geometry.spacing
    content = numbers.tobytes()
    content += zlib.crc32(content).to_bytes(_CHECK, "little")
    bits = np.unpackbits(np.frombuffer(content, np.uint8))
    last = image[-slices_needed(image.shape[1:3]) :]
    flat = np.zeros(last[..., 0].size, image.dtype)
    flat[: len(bits)] = bits
    last[...] = flat.reshape(last.shape[:3])[..., None]


def stated_geometry(image: Tensor) -> SampleGeometry:
    """Return the geometry that a sample (C, D, H, W) in [0, 1] states.

    Raises:
        InputError: a sample that states none, or whose statement was changed.
    """
    slices = slices_needed(image.shape[2:])
    if image.shape[1] > slices:
        voxels = image[0, -slices:].detach().flatten()[:BITS]
        content = np.packbits((voxels > 0.5).to(torch.uint8).cpu().numpy()).tobytes()
        if zlib.crc32(content[:-_CHECK]).to_bytes(_CHECK, "little") == content[-_CHECK:]:
            numbers = np.frombuffer(content[:-_CHECK], _NUMBERS)[0]
            size, spacing = map(int, numbers["lengths"]), map(float, numbers["spacing"])
            return SampleGeometry(tuple(size), tuple(spacing))
    raise InputError(
        f"a volume {tuple(image.shape[1:])} must end in slices that state its size and spacing, as "
        "seg_mia.data.sets.nnunet.NnUNetVolumes gives it, got none, or changed ones; take its samples, and "
        "leave their padding as it is"
    )
