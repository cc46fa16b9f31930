"""Built-in data: volumes of procedural abdominal CT, generated from seeds."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from seg_mia.data.base import SegmentationData
from seg_mia.data.phantom.anatomy import LENGTH
from seg_mia.data.sets.phantom import PhantomSource, Task
from seg_mia.data.source import Image, Mask, Source
from seg_mia.errors import InputError

_EXTENT = 0.64 * LENGTH * 10
"""Height of a volume in mm: the part of the body through which a phantom's slices are spread."""
_SIDE = 350.0
"""Mean side of a slice in mm."""


class PhantomVolumeSource(Source):
    """Volumes (D, H, W, 1) of all slices of a phantom's patients, from the feet up.

    Args:
        slices: the patients' slices.
    """

    channels = 1

    def __init__(self, slices: PhantomSource) -> None:
        self.slices, self.classes = slices, slices.classes
        self.ids = self.groups = tuple(dict.fromkeys(slices.groups))

    def digest(self, index: int) -> str:
        """Return a digest of the seeds of all slices."""
        first = index * self.slices.slices
        parts = [self.slices.digest(first + number) for number in range(self.slices.slices)]
        return hashlib.sha256(" ".join(["stacked", *parts]).encode()).hexdigest()

    def decode(self, index: int) -> tuple[Image, Mask]:
        """Return the stacked slices; a phantom counts them from the head."""
        first = index * self.slices.slices
        decoded = [self.slices.decode(first + number) for number in reversed(range(self.slices.slices))]
        image, mask = (np.stack(part) for part in zip(*decoded, strict=True))
        return image, mask

    def spacing(self, index: int) -> tuple[float, ...]:  # noqa: ARG002
        """Return the distance of voxels along [D, H, W] in mm, that of an average body."""
        side = _SIDE / self.slices.size
        return (_EXTENT / self.slices.slices, side, side)

    @property
    def settings(self) -> Mapping[str, bool | int | float | str | None]:
        """Return those of the slices; the seeds are in the digests."""
        return {**self.slices.settings, "slices": self.slices.slices}


class PhantomVolumes(SegmentationData):
    """Procedural abdominal CT: one grey volume of each synthetic patient.

    Args:
        patients: number of bodies.
        slices: slices of a volume, spread through the liver.
        size: side of a slice in pixels, at least 32.
        task: `liver` for a binary mask, `organs` for spleen, kidneys, liver and stomach.
        phantom_seed: seed of all bodies.
        members: see `SegmentationData`, also for all further arguments.
        nonmembers: see `SegmentationData`.
    """

    def __init__(
        self,
        *,
        patients: int = 96,
        slices: int = 16,
        size: int = 48,
        task: Task = "liver",
        phantom_seed: int = 0,
        members: int | None = 24,
        nonmembers: int | None = 24,
        **split_and_loading: Any,
    ) -> None:
        super().__init__(members=members, nonmembers=nonmembers, **split_and_loading)
        self.save_hyperparameters(logger=False)
        if patients < 1 or slices < 1:
            raise InputError(f"patients and slices must be at least 1, got {patients} and {slices}")
        self.patients, self.slices, self.size = patients, slices, size
        self.task, self.phantom_seed = task, phantom_seed

    def read_source(self) -> Source:
        """Return the volumes, to be generated on access."""
        return PhantomVolumeSource(
            PhantomSource(
                patients=self.patients,
                slices=self.slices,
                size=self.size,
                task=self.task,
                seed=self.phantom_seed,
            )
        )
