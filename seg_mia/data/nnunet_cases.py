"""Cases in the raw folders of nnU-Net v2: imagesTr, labelsTr, imagesTs, labelsTs."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seg_mia.data.images.label_ids import LabelSetting, LabelTable, label_table
from seg_mia.data.images.reading import digest, list_files
from seg_mia.data.patients import Patients
from seg_mia.data.source import Mask, Note, Source
from seg_mia.errors import InputError, name_some
from seg_mia.metrics.labels import IGNORE
from seg_mia.models.nnunet.folder import classes_of, regions_of
from seg_mia.models.nnunet.plans import Labels, label_number

TRAINING, TEST = "Tr", "Ts"
"""Endings of the folders of training and test cases."""
IMAGES = (".png", ".bmp", ".tif", ".tiff")
VOLUMES = (".nii.gz", ".nii", ".nrrd", ".mha")
"""Endings of image and of volume files."""

_DEEP = (OverflowError, RecursionError)
"""Errors of numbers without end and of lists within lists."""


class NnUNetCase(NamedTuple):
    """A case: its name, its image files by channel, its label file, and its patient."""

    name: str
    images: tuple[Path, ...]
    mask: Path
    group: str


class NnUNetLabels(NamedTuple):
    """Content of dataset.json: image channels, classes with background, label to ignore, ending of files.

    Attributes:
        table: set of regions of each label id, if labels are regions that may overlap.
    """

    channels: int
    classes: int
    ignored: int | None
    ending: str
    table: LabelTable | None = None


class NnUNetCases(Source):
    """Cases of nnU-Net's raw data, test cases only where they have labels.

    Args:
        root: folder of the data set with dataset.json.
        endings: allowed endings of the files.
        patient: regular expression matched against a case; its first group is the patient. Each case is a
            patient if not given.

    Attributes:
        training: names of the cases in imagesTr.

    Raises:
        InputError: missing folders, cases without labels or channels, an unreadable dataset.json.
    """

    def __init__(self, root: Path, endings: Iterable[str], patient: str | None) -> None:
        self.root = root
        self.labels = read_labels(root / "dataset.json", endings)
        self.channels, self.classes = self.labels.channels, self.labels.classes
        patients = Patients(patient)
        training, _ = self._cases(TRAINING, patients)
        tests, unlabelled = self._cases(TEST, patients) if (root / f"images{TEST}").is_dir() else ([], ())
        self.training = frozenset(case.name for case in training)
        if both := sorted(self.training & {case.name for case in tests}):
            raise InputError(
                f"{root} must have a case in imagesTr or imagesTs, got {both[0]} in both; rename one"
            )
        self.cases = sorted([*training, *tests])
        self.ids = tuple(case.name for case in self.cases)
        self.groups = tuple(case.group for case in self.cases)
        self.notes = (
            (Note(f"{len(unlabelled)} cases of imagesTs have no labels and are left out", unlabelled),)
            if unlabelled
            else ()
        )

    def _cases(self, part: str, patients: Patients) -> tuple[list[NnUNetCase], tuple[str, ...]]:
        """Return the cases of a part, and the names of those without labels, which only test cases may be."""
        ending = self.labels.ending
        files, labels = _named(self.root / f"images{part}", ending), self.root / f"labels{part}"
        masks = _named(labels, ending) if labels.is_dir() else {}
        names = dict.fromkeys(name.rpartition("_")[0] for name in files)
        if missing := [name for name in names if name not in masks]:
            if part == TRAINING:
                raise InputError(
                    f"{self.root} must have a label for each image of imagesTr, {len(missing)} have none "
                    f"({name_some(missing)}); add them"
                )
            names = dict.fromkeys(name for name in names if name in masks)
        cases = [
            NnUNetCase(name, _channels(name, files, ending), masks[name], patients.of(name)) for name in names
        ]
        return cases, tuple(missing)

    def digest(self, index: int) -> str:
        """Return a SHA-256 of the bytes of all files of a case."""
        return digest(*self.cases[index].images, self.cases[index].mask)

    def image_digest(self, index: int) -> str:
        """Return a SHA-256 of the bytes of a case's images."""
        return digest(*self.cases[index].images)

    def reference(self, ids: NDArray[np.integer[Any]]) -> Mask:
        """Return the sets of regions of label ids."""
        table = self.labels.table
        return super().reference(ids) if table is None else table.classes_for(ids)


def read_labels(file: Path, endings: Iterable[str]) -> NnUNetLabels:
    """Return the content of nnU-Net's dataset.json.

    Args:
        file: the file.
        endings: allowed endings of the files of cases.

    Raises:
        InputError: an unreadable file, paths to files, other endings.
    """
    try:
        content: Labels = json.loads(file.read_text(encoding="utf-8"))
        stated = content["labels"].get("ignore")
        ignored = None if stated is None else label_number(stated)
        labels = NnUNetLabels(
            len(content["channel_names"]),
            classes_of(content["labels"]),
            ignored,
            str(content["file_ending"]),
            region_table(content["labels"], ignored),
        )
    except InputError:
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError, *_DEEP) as error:
        raise InputError(
            f"{file} must be the dataset.json of nnU-Net v2, got {type(error).__name__}; name its raw "
            "folder, "
            "nnUNet_raw/DATASET"
        ) from None
    if labels.ending not in endings or "dataset" in content:
        listed = "paths of files" if "dataset" in content else f"files {labels.ending}"
        raise InputError(
            f"{file} must describe files ({', '.join(endings)}) in imagesTr, got {listed}; audit the saved "
            "predictions instead: audit --predictions"
        )
    return labels


def region_table(labels: Mapping[str, int | list[int]], ignored: int | None) -> LabelTable | None:
    """Return the set of regions of each label id; None for exclusive classes."""
    further: LabelSetting = {} if ignored is None else {ignored: IGNORE}
    regions = {name: list[int | str](ids) for name, ids in regions_of(labels).items()}
    return label_table(further, regions=regions) if regions else None


def _named(folder: Path, ending: str) -> dict[str, Path]:
    """Return the files of an ending in a folder, by their names without it."""
    files = list_files(folder, (Path(f"name{ending}").suffix,)).values()
    return {path.name.removesuffix(ending): path for path in files if path.name.endswith(ending)}


def _channels(name: str, files: Mapping[str, Path], ending: str) -> tuple[Path, ...]:
    """Return a case's files, of channels 0000, 0001, ..."""
    images = list[Path]()
    while (path := files.get(f"{name}_{len(images):04}")) is not None:
        images.append(path)
    if not images:
        raise InputError(
            f"image files must be named CASE_0000{ending}, got none of case {name!r}; rename them"
        )
    return tuple(images)
