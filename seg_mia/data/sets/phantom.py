"""Built-in data: slices of procedural abdominal CT, generated from seeds."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, assert_never

import numpy as np
from numpy.typing import NDArray

from seg_mia.data.base import SegmentationData
from seg_mia.data.images.label_ids import LabelSetting, RegionSetting, label_table
from seg_mia.data.phantom.anatomy import render
from seg_mia.data.source import Image, Mask, Source
from seg_mia.errors import InputError

Task = Literal["liver", "organs"]
LIVER = 6
ORGANS = {1: 1, 2: 2, 3: 3, 6: 4, 7: 5}
"""BTCV organ id to class: spleen, right kidney, left kidney, liver, stomach."""
VERSION = 1
"""Version of the generator, to be raised with every change: old victims then raise an error."""


class PhantomSource(Source):
    """`patients` bodies with `slices` slices each; every sample is a function of its seeds."""

    channels = 1

    def __init__(
        self,
        *,
        patients: int,
        slices: int,
        size: int,
        task: Task,
        seed: int,
        regions: Mapping[str, Sequence[int | str]] | None = None,
    ) -> None:
        self.slices, self.size, self.task, self.seed = slices, size, task, seed
        self.groups = tuple(f"patient{patient:05d}" for patient in range(patients) for _ in range(slices))
        self.ids = tuple(f"{group}_slice{index % slices:02d}" for index, group in enumerate(self.groups))
        self.classes = 2 if task == "liver" else len(ORGANS) + 1
        further: LabelSetting = dict.fromkeys(range(self.classes), 0)
        self.table = None if regions is None else label_table(further, regions=regions)
        if self.table is not None:
            if not set(self.table.classes_of) <= further.keys():
                raise InputError(
                    f"regions of the phantom must list its classes, 0 to {self.classes - 1}, got "
                    f"{max(self.table.classes_of)}; correct them"
                )
            self.classes = self.table.classes

    def reference(self, ids: NDArray[np.integer[Any]]) -> Mask:
        """Return the sets of regions of class ids."""
        return super().reference(ids) if self.table is None else self.table.classes_for(ids)

    def digest(self, index: int) -> str:
        """Return a digest of the seeds, which determine a sample completely."""
        return hashlib.sha256(f"{VERSION}/{self.seed}/{self.ids[index]}/{self.slices}".encode()).hexdigest()

    def decode(self, index: int) -> tuple[Image, Mask]:
        """Return the slice in 8-bit grey values, like a viewer's export, and its mask."""
        patient, number = divmod(index, self.slices)
        image, labels = render(
            patient, self._position(patient, number), number, size=self.size, seed=self.seed
        )
        mask = self._classes(labels)
        if self.table is not None:
            mask = self.table.classes_for(mask)
        return np.round(image * 255).astype(np.uint8)[..., None], mask

    def _position(self, patient: int, number: int) -> float:
        """Axial level of a slice: evenly spaced through the liver, shifted per patient."""
        shift = np.random.default_rng([self.seed, patient, 1]).uniform()
        return float(0.08 + 0.64 * (number + shift) / self.slices)

    def _classes(self, labels: Mask) -> Mask:
        match self.task:
            case "liver":
                return np.asarray(labels == LIVER, dtype=np.uint8)
            case "organs":
                table = np.zeros(256, np.uint8)
                table[list(ORGANS)] = list(ORGANS.values())
                return np.asarray(table[labels], dtype=np.uint8)
            case _:
                assert_never(self.task)

    @property
    def settings(self) -> Mapping[str, bool | int | float | str | None]:
        """Size and task; the seeds are in the digests."""
        settings = {"size": self.size, "task": self.task}
        return settings if self.table is None else {**settings, "regions": self.table.text}


class Phantom(SegmentationData):
    """Procedural abdominal CT: grey slices of synthetic patients.

    Args:
        patients: number of bodies.
        slices: slices per body, correlated like those of a scan.
        size: side in pixels.
        task: `liver` for a binary mask, `organs` for spleen, kidneys, liver and stomach.
        phantom_seed: seed of all bodies.
        regions: labels that may overlap, by name, with the classes of each:
            `{abdomen: [1, 2, 3, 4, 5], kidneys: [2, 3]}`; a sigmoid for each.
        members: see `SegmentationData`, also for all further arguments.
        nonmembers: see `SegmentationData`.
    """

    def __init__(
        self,
        *,
        patients: int = 256,
        slices: int = 2,
        size: int = 128,
        task: Task = "liver",
        phantom_seed: int = 0,
        regions: RegionSetting | None = None,
        members: int | None = 64,
        nonmembers: int | None = 64,
        **split_and_loading: Any,
    ) -> None:
        super().__init__(members=members, nonmembers=nonmembers, **split_and_loading)
        self.save_hyperparameters(logger=False)
        if patients < 1 or slices < 1:
            raise InputError(f"patients and slices must be at least 1, got {patients} and {slices}")
        self.patients, self.slices, self.size = patients, slices, size
        self.task, self.phantom_seed, self.regions = task, phantom_seed, regions

    def read_source(self) -> Source:
        """Return the slices, to be generated on access."""
        return PhantomSource(
            patients=self.patients,
            slices=self.slices,
            size=self.size,
            task=self.task,
            seed=self.phantom_seed,
            regions=self.regions,
        )
