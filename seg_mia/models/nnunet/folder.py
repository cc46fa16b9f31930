"""The folder that a training of nnU-Net v2 leaves: plans, labels, folds and checkpoints, as plain values.

Nothing in these files is run or imported: names of classes select among known ones.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from seg_mia.errors import InputError
from seg_mia.metrics.label_sets import LabelSets
from seg_mia.models.nnunet.plans import Configuration, Labels, Plans, label_number

PREDICTIONS = "audit its saved predictions instead: audit --predictions"
IMAGES = "NaturalImage2DIO"
"""Reader of images (PNG, TIFF, BMP)."""
VOLUMES = {
    "SimpleITKIO": False,
    "NibabelIO": False,
    "SimpleITKIOWithReorient": True,
    "NibabelIOWithReorient": True,
}
"""Readers of volumes, and whether they turn them into RAS."""
PLANS, LABELS = "plans.json", "dataset.json"
RESAMPLING, PREPROCESSOR = "resample_data_or_seg_to_shape", "DefaultPreprocessor"
_FOLD = re.compile(r"fold_(\d+|all)")


@dataclass(frozen=True)
class NnUNetFolder:
    """A training of nnU-Net v2.

    Attributes:
        path: folder such as nnUNet_results/Dataset101_X/nnUNetTrainer__nnUNetPlans__2d.
        plans: content of plans.json.
        labels: content of dataset.json.
        configuration: its configuration in the plans, with inherited values.
        name: name of the configuration, such as 2d.
    """

    path: Path
    plans: Plans
    labels: Labels
    configuration: Configuration
    name: str

    @property
    def dataset(self) -> str:
        """Name of the data set, such as Dataset101_X."""
        return str(self.plans.get("dataset_name", self.path.parent.name))

    @property
    def channels(self) -> int:
        """Number of image channels."""
        return len(self.labels["channel_names"])

    @property
    def ending(self) -> str:
        """Ending of the image files."""
        return str(self.labels["file_ending"])

    @property
    def dimensions(self) -> int:
        """Number of axes of the network's patches."""
        return len(self.configuration["patch_size"])

    @property
    def volumes(self) -> bool:
        """Whether its cases are volumes, which are cropped and normalised as a whole."""
        return self.plans.get("image_reader_writer") in VOLUMES

    @property
    def reoriented(self) -> bool:
        """Whether volumes are turned into RAS before they are predicted."""
        return VOLUMES.get(str(self.plans.get("image_reader_writer")), False)

    @property
    def classes(self) -> int:
        """Number of classes, background included, without the label to ignore; `LabelSets` of regions."""
        return classes_of(self.labels["labels"])

    @property
    def regions(self) -> dict[str, list[int]]:
        """Label ids of each region, if labels are regions that may overlap."""
        return regions_of(self.labels["labels"])

    @property
    def ignored(self) -> int | None:
        """Label of pixels to ignore."""
        label = self.labels["labels"].get("ignore")
        return None if label is None else label_number(label)


def regions_of(labels: Mapping[str, int | list[int]]) -> dict[str, list[int]]:
    """Return the ids of each region of dataset.json's labels in their order, without background.

    Empty if no label has several ids: labels are exclusive classes then.
    """
    ids = {
        name: [int(i) for i in (label if isinstance(label, list) else [label])]
        for name, label in labels.items()
        if name != "ignore"
    }
    if all(len(members) == 1 for members in ids.values()):
        return {}
    return {name: members for name, members in ids.items() if set(members) != {0}}


def classes_of(labels: Mapping[str, int | list[int]]) -> int:
    """Return the number of classes of dataset.json's labels, background included; `LabelSets` of regions."""
    if regions := regions_of(labels):
        return LabelSets(tuple(regions))
    return len([name for name in labels if name != "ignore"])


def read_folder(path: Path) -> NnUNetFolder:
    """Return a training of nnU-Net v2.

    Raises:
        InputError: no such folder, unreadable or invalid files, and what is not supported: cascades, other
            file readers, resampling or preprocessing of its own.
    """
    plans, labels = cast(Plans, _json(path / PLANS)), cast(Labels, _json(path / LABELS))
    with plain_errors(path):
        folder = _folder(path, plans, labels)
        _check(folder)
    return folder


@contextmanager
def plain_errors(path: Path) -> Iterator[None]:
    """Convert errors of values that plans and labels lack, or that are of other types, to InputErrors."""
    try:
        yield
    except InputError:
        raise
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        raise InputError(
            f"{path} must hold plans and labels of nnU-Net v2, got {error!r}; copy them again"
        ) from None


def _folder(path: Path, plans: Plans, labels: Labels) -> NnUNetFolder:
    """Return a training, of the configuration in its folder's name."""
    name, known = path.name.rpartition("__")[2], plans["configurations"]
    if name not in known:
        raise InputError(
            f"{path} must end in __CONFIGURATION, one of {', '.join(known) or 'none'} in its plans.json, got "
            f"{name!r}; name the folder TRAINER__PLANS__CONFIGURATION"
        )
    return NnUNetFolder(path, plans, labels, _configuration(plans, name, path), name)


def nnunet_files(path: Path) -> list[Path]:
    """Return the files of a training that its answers and their comparison depend on."""
    patterns = (PLANS, LABELS, "fold_*/*.pth", "fold_*/validation/*.[!pj]*", "fold_*/validation/*.png")
    return sorted({file for pattern in patterns for file in path.glob(pattern) if file.suffix != ".npz"})


def numbered_folds(path: Path, checkpoint: str) -> list[str]:
    """Return the folds with a checkpoint, those with numbers; `all` if it is the only one."""
    folds = sorted(
        match[1] for file in path.glob(f"fold_*/{checkpoint}") if (match := _FOLD.fullmatch(file.parent.name))
    )
    numbers = sorted((fold for fold in folds if fold != "all"), key=int)
    if not folds:
        raise InputError(
            f"{path} must hold fold_K/{checkpoint}, found none; correct --nnunet or --checkpoint"
        )
    return numbers or folds


def _json(file: Path) -> dict[str, object]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{file} must be a JSON file of nnU-Net v2, got {type(error).__name__}; name the folder of a "
            "training, nnUNet_results/DATASET/TRAINER__PLANS__CONFIGURATION"
        ) from None
    if not isinstance(content, dict):
        raise InputError(f"{file} must hold a mapping, got {type(content).__name__}; copy it again")
    return content


def _configuration(plans: Plans, name: str, path: Path) -> Configuration:
    """Return a configuration with the values that it inherits."""
    known, chain = plans["configurations"], list[str]()
    current: str | None = name
    while current is not None:
        if current in chain or not isinstance(known.get(current), dict):
            raise InputError(f"{path / PLANS} must define configuration {current!r} once; copy it again")
        chain.append(current)
        current = known[current].get("inherits_from")
    merged = Configuration()
    for parent in reversed(chain):
        merged.update(known[parent])
    return merged


def _check(folder: NnUNetFolder) -> None:
    """Raise InputError for what is not supported."""
    configuration, labels = folder.configuration, folder.labels["labels"]
    if configuration.get("previous_stage"):
        raise InputError(
            f"{folder.path}: {folder.name} is the stage of a cascade, which is not supported; {PREDICTIONS}"
        )
    reader = folder.plans.get("image_reader_writer")
    if reader != IMAGES and reader not in VOLUMES:
        raise InputError(
            f"{folder.path} must read images by {IMAGES} or volumes by {', '.join(VOLUMES)}, got {reader!r}; "
            f"{PREDICTIONS}"
        )
    if folder.dimensions not in {2, 3} or (folder.dimensions == 3 and not folder.volumes):
        raise InputError(
            f"{folder.path}: {folder.name} must have patches of 2 axes, or of volumes 3, got "
            f"{list(configuration['patch_size'])}; copy its plans.json again"
        )
    preprocessor = configuration.get("preprocessor_name", PREPROCESSOR)
    if preprocessor != PREPROCESSOR:
        raise InputError(
            f"{folder.path}: images are prepared by {preprocessor}, which is not supported; {PREDICTIONS}"
        )
    numbers = sorted(
        int(label[0] if isinstance(label, list) else label)
        for name, label in labels.items()
        if name != "ignore" and label != []
    )
    if not folder.regions and (numbers != list(range(len(numbers))) or len(numbers) < 2):
        raise InputError(
            f"{folder.path / 'dataset.json'} must have labels 0, 1, ..., got {numbers}; copy it again"
        )
    for kind in ("data", "probabilities"):
        function = configuration.get(f"resampling_fn_{kind}", RESAMPLING)
        alike = not folder.volumes and list(configuration.get("spacing", [1, 1])) == [1, 1]
        if not alike and function != RESAMPLING:
            raise InputError(
                f"{folder.path}: images are resampled by {function}, which is not supported; {PREDICTIONS}"
            )
