"""Data sets for small trainings of nnU-Net: drawn volumes and images, and liver slices.

Written in nnU-Net's layout, nnUNet_raw/DATASET; see `benchmarks/nnunet_training.py`.
"""

import csv
import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import nibabel
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Split = list[dict[str, list[str]]]
SPACINGS = ((4.0, 1.0, 1.0), (4.0, 1.2, 0.9), (5.0, 1.0, 1.0), (3.0, 1.1, 1.1))
CASES, TESTS = 10, 4
FOLDS = 5
SLICES = 2
"""Slices of a liver patient, at most."""


@dataclass(frozen=True)
class Task:
    """A data set and the small network that is trained on it.

    Attributes:
        dataset: its name, with nnU-Net's number.
        content: dataset.json.
        write: writes cases into a folder; returns the folds, or None where nnU-Net divides the cases itself.
        changes: what the network has in place of nnU-Net's plan.
        patch: sides of a patch.
        features: of each stage.
        batch: patches of a step.
    """

    dataset: str
    content: Mapping[str, Any]
    write: Callable[[Path], Split | None]
    patch: tuple[int, ...]
    features: tuple[int, ...] = (8, 12, 16)
    batch: int = 2
    strides: tuple[tuple[int, ...], ...] = field(default=((1, 1, 1), (1, 2, 2), (2, 2, 2)))

    @property
    def number(self) -> int:
        """Return nnU-Net's number."""
        return int(self.dataset.removeprefix("Dataset")[:3])

    @property
    def configuration(self) -> str:
        """Return nnU-Net's name of the configuration."""
        return "2d" if len(self.patch) == 2 else "3d_fullres"

    @property
    def regions(self) -> bool:
        """Return whether its labels may overlap."""
        return "regions_class_order" in self.content

    def training(self, folder: Path) -> Path:
        """Return the folder of its training below the FOLDER of `benchmarks/nnunet_training.py`."""
        return folder / "nnUNet_results" / self.dataset / f"nnUNetTrainer__nnUNetPlans__{self.configuration}"

    @property
    def architecture(self) -> dict[str, Any]:
        """Return the arguments of the network that differ from nnU-Net's plan."""
        stages, dimensions = len(self.features), len(self.patch)
        first = [1, 3, 3] if dimensions == 3 else [3, 3]
        return {
            "n_stages": stages,
            "features_per_stage": list(self.features),
            "kernel_sizes": [first, *[[3] * dimensions] * (stages - 1)],
            "strides": [list(stride) for stride in self.strides],
            "n_conv_per_stage": [1] * stages,
            "n_conv_per_stage_decoder": [1] * (stages - 1),
        }


def ball(grid: list[NDArray[np.float64]], centre: NDArray[np.float64], radius: float) -> NDArray[np.bool_]:
    """Return where a ball is."""
    squares = [(axis - middle) ** 2 for axis, middle in zip(grid, centre, strict=True)]
    return np.asarray(np.sqrt(np.sum(squares, axis=0)) < radius)


def drawn(
    number: int, *, nested: bool = False
) -> tuple[NDArray[np.int16], NDArray[np.uint8], tuple[float, ...]]:
    """Return a volume (D, H, W) of two bright balls, its labels, and its spacing.

    Args:
        number: of the case, the seed.
        nested: the smaller ball lies in the larger one.
    """
    rng = np.random.default_rng(number)
    spacing = SPACINGS[number % len(SPACINGS)]
    size = [round(side / step) + number % 3 for side, step in zip((44, 36, 32), spacing, strict=True)]
    places = (np.arange(side) * step for side, step in zip(size, spacing, strict=True))
    grid = list(np.meshgrid(*places, indexing="ij"))
    mask = np.zeros(size, np.uint8)
    centre = np.zeros(3)
    for label, radius in ((1, 11.0), (2, 7.0)):
        if label == 1 or not nested:
            centre = rng.uniform((16, 12, 10), (28, 24, 22))
        mask[ball(grid, centre, radius)] = label
    image = rng.normal(-60, 35, size) + np.array([0, 110, 220])[mask]
    image[:, :2] = image[..., -2:] = 0
    mask[image == 0] = 0
    return image.round().astype(np.int16), mask, spacing


def save_volume(file: Path, values: NDArray[Any], spacing: tuple[float, ...]) -> None:
    """Write values (D, H, W)."""
    file.parent.mkdir(parents=True, exist_ok=True)
    nifti: Any = nibabel
    affine = np.diag([-spacing[2], -spacing[1], spacing[0], 1])
    nifti.save(nifti.Nifti1Image(values.transpose(), affine), file)


def write_volumes(folder: Path, *, nested: bool = False, channels: int = 1) -> None:
    """Write drawn volumes; a second channel has the balls dark, on another scale."""
    for number in range(CASES + TESTS):
        part = "Tr" if number < CASES else "Ts"
        image, mask, spacing = drawn(number, nested=nested)
        save_volume(folder / f"labels{part}" / f"toy_{number:02}.nii.gz", mask, spacing)
        for channel in range(channels):
            values = image
            if channel:
                rng = np.random.default_rng((number, channel))
                values = (900 - 3 * image + rng.normal(0, 150, image.shape)).round().astype(np.int16)
                values[image == 0] = 0
            save_volume(folder / f"images{part}" / f"toy_{number:02}_{channel:04}.nii.gz", values, spacing)


def write_images(folder: Path) -> None:
    """Write grey PNG files of two discs, in several sizes, inside a margin of zeros."""
    for number in range(CASES + TESTS):
        rng = np.random.default_rng(number)
        part, name = "Tr" if number < CASES else "Ts", f"toy_{number:02}"
        size = (48 + 3 * (number % 4), 44 + number % 3)
        grid = [axis.astype(np.float64) for axis in np.indices(size)]
        mask = np.zeros(size, np.uint8)
        for label, radius in ((1, 11.0), (2, 6.0)):
            mask[ball(grid, rng.uniform((14, 14), (34, 30)), radius)] = label
        image = (rng.normal(60, 12, size) + np.array([0, 50, 100])[mask]).clip(1, 255).astype(np.uint8)
        image[:3] = image[:, -2:] = 0
        mask[image == 0] = 0
        save_image(folder / f"images{part}" / f"{name}_0000.png", image)
        save_image(folder / f"labels{part}" / f"{name}.png", mask)


def save_image(file: Path, values: NDArray[np.uint8]) -> None:
    """Write a grey PNG."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(file)


def write_liver(folder: Path, *, root: Path, patients: int = 40, tests: int = 15, side: int = 128) -> Split:
    """Write liver slices of patients, and of others into imagesTs; return five folds by patient."""
    rows = defaultdict[str, list[str]](list)
    with (root / "index.csv").open(newline="") as stream:
        for row in csv.DictReader(stream):
            rows[row["patient"]].append(row["file"])
    order = np.random.default_rng(0).permutation(sorted(rows))[: patients + tests]
    folds: list[list[str]] = [[] for _ in range(FOLDS)]
    for number, patient in enumerate(order):
        part = "Tr" if number < patients else "Ts"
        for file in rows[patient][:SLICES]:
            name = f"p{patient}_{Path(file).stem}"
            image, mask = (
                cv2.imread(str(root / kind / file), cv2.IMREAD_GRAYSCALE) for kind in ("images", "masks")
            )
            assert image is not None
            assert mask is not None
            small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
            label = cv2.resize(mask, (side, side), interpolation=cv2.INTER_NEAREST) > 127
            save_image(folder / f"images{part}" / f"{name}_0000.png", np.asarray(small, np.uint8))
            save_image(folder / f"labels{part}" / f"{name}.png", np.asarray(label, np.uint8))
            if number < patients:
                folds[number % FOLDS].append(name)
    return [
        {
            "train": sorted(name for other in range(FOLDS) if other != fold for name in folds[other]),
            "val": sorted(folds[fold]),
        }
        for fold in range(FOLDS)
    ]


def content(
    labels: Mapping[str, Any], *, channels: tuple[str, ...] = ("CT",), ending: str = ".nii.gz", **further: Any
) -> dict[str, Any]:
    """Return dataset.json, without the number of cases."""
    names = {str(channel): name for channel, name in enumerate(channels)}
    return {"channel_names": names, "labels": dict(labels), "file_ending": ending, **further}


TWO = {"background": 0, "large": 1, "small": 2}
REGIONS = {"background": 0, "whole": [1, 2], "core": 2}
VOLUME = (8, 24, 24)


def tasks(liver: Path | None = None) -> dict[str, Task]:
    """Return all tasks by name; `liver` needs the folder of slices: images, masks and index.csv."""
    flat = ((1, 1), (2, 2), (2, 2))
    found = {
        "organs": Task("Dataset903_Toy", content(TWO), write_volumes_of(), VOLUME),
        "regions": Task(
            "Dataset904_Nested",
            content(REGIONS, regions_class_order=[1, 2]),
            write_volumes_of(nested=True),
            VOLUME,
        ),
        "channels": Task(
            "Dataset905_Channels",
            content(TWO, channels=("CT", "MR")),
            write_volumes_of(channels=2),
            VOLUME,
        ),
        "images": Task(
            "Dataset906_Images",
            content(TWO, channels=("MR",), ending=".png"),
            write_images,
            (32, 32),
            strides=flat,
        ),
    }
    if liver is not None:
        found["liver"] = Task(
            "Dataset907_Liver",
            content({"background": 0, "liver": 1}, ending=".png"),
            lambda folder: write_liver(folder, root=liver),
            (64, 64),
            features=(8, 16, 32, 64),
            batch=8,
            strides=(*flat, (2, 2)),
        )
    return found


def write_volumes_of(*, nested: bool = False, channels: int = 1) -> Callable[[Path], None]:
    """Return a writer of drawn volumes."""
    return lambda folder: write_volumes(folder, nested=nested, channels=channels)


def write_raw(task: Task, folder: Path) -> Split | None:
    """Write the cases and dataset.json of a task; return its folds, if it has any of its own."""
    split = task.write(folder)
    number = len(list((folder / "labelsTr").iterdir()))
    (folder / "dataset.json").write_text(json.dumps({**task.content, "numTraining": number}))
    return split
