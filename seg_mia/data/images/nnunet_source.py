"""Images and labels in the raw folders of nnU-Net v2: imagesTr, labelsTr, imagesTs, labelsTs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seg_mia.data.images.label_ids import LabelSetting, LabelTable, label_table
from seg_mia.data.images.reading import digest, image_size, list_files, read_image, read_mask
from seg_mia.data.patients import Patients
from seg_mia.data.source import Image, Mask, Note, Source
from seg_mia.errors import InputError, name_some
from seg_mia.metrics.labels import IGNORE
from seg_mia.models.nnunet.folder import classes_of, regions_of
from seg_mia.models.nnunet.plans import Labels, label_number

TRAINING, TEST = "Tr", "Ts"
"""Endings of the folders of training and test cases."""
ENDINGS = (".png", ".bmp", ".tif", ".tiff")


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


class NnUNetSource(Source):
    """Cases of nnU-Net's raw data in 2-D, test cases only where they have labels.

    Images of different sizes are padded with zeros, below and on the right, to the largest height and width;
    nnU-Net crops such margins. Padded pixels are ignored in masks.

    Args:
        root: folder of the data set with dataset.json.
        bits: grey levels of the image files, 8 or 16.
        patient: regular expression matched against a case; its first group is the patient. Each case is a
            patient if not given.

    Attributes:
        training: names of the cases in imagesTr.
        size: height and width of all samples.

    Raises:
        InputError: missing folders, cases without labels or channels, unreadable files.
    """

    def __init__(self, root: Path, *, bits: int = 8, patient: str | None = None) -> None:
        self.root, self.bits = root, bits
        self.labels = read_labels(root / "dataset.json")
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
        self._sizes = [image_size(case.images[0]) for case in self.cases]
        self.size = (max(size[0] for size in self._sizes), max(size[1] for size in self._sizes))
        padded = tuple(
            case.name for case, size in zip(self.cases, self._sizes, strict=True) if size != self.size
        )
        if padded:
            text = f"{len(padded)} images are padded with zeros to {self.size[0]}x{self.size[1]}"
            self.notes = (*self.notes, Note(text, padded))

    def _cases(self, part: str, patients: Patients) -> tuple[list[NnUNetCase], tuple[str, ...]]:
        """Return the cases of a part, and the names of those without labels, which only test cases may be."""
        folder, ending = self.root / f"images{part}", self.labels.ending
        files = {path.name: path for path in list_files(folder, (ending,)).values()}
        labels = self.root / f"labels{part}"
        masks = list_files(labels, (ending,)) if labels.is_dir() else {}
        names = dict.fromkeys(name.removesuffix(ending).rpartition("_")[0] for name in files)
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

    def decode(self, index: int) -> tuple[Image, Mask]:
        """Return image (H, W, C) and mask (H, W), padded to the common size."""
        case = self.cases[index]
        image, mask = self._image(case), self._mask(case)
        if image.shape[:2] != mask.shape:
            raise InputError(
                f"image and label must have one size, got {image.shape[:2]} for {case.images[0]} and "
                f"{mask.shape} "
                f"for {case.mask}; replace one"
            )
        margin = [(0, full - side) for full, side in zip(self.size, mask.shape, strict=True)]
        padded: NDArray[Any] = np.pad(image, [*margin, (0, 0)])
        return padded, np.pad(mask, margin, constant_values=IGNORE)

    def _image(self, case: NnUNetCase) -> Image:
        grey = len(case.images) > 1 or self.channels == 1
        parts = [read_image(path, 1 if grey else 3) for path in case.images]
        image: NDArray[Any] = np.concatenate(parts, axis=2)
        if image.shape[2] != self.channels:
            raise InputError(
                f"{case.images[0]} must hold {self.channels} channels with its further files, got "
                f"{image.shape[2]}; correct dataset.json, or add the files"
            )
        if (image.dtype == np.uint8) != (self.bits == 8):
            raise InputError(f"{case.images[0]} must have {self.bits} bits, as other images; convert it")
        return image

    def _mask(self, case: NnUNetCase) -> Mask:
        ignored = self.labels.ignored
        if self.labels.table is not None:
            return self.labels.table.read(case.mask)
        mask = read_mask(
            case.mask,
            threshold=None,
            classes=self.classes + (ignored is not None),
            remedy="correct the labels in dataset.json",
        )
        return mask if ignored is None else np.where(mask == ignored, np.uint8(IGNORE), mask)

    def reference(self, ids: NDArray[np.integer[Any]]) -> Mask:
        """Return the sets of regions of label ids."""
        table = self.labels.table
        return super().reference(ids) if table is None else table.classes_for(ids)

    def unpadded(self, index: int) -> tuple[int, int] | None:
        """Return height and width of a case's files."""
        return self._sizes[index]

    @property
    def settings(self) -> Mapping[str, bool | int | float | str | None]:
        """Return all that decoded pixels depend on besides the files."""
        height, width = self.size
        settings = {"height": height, "width": width, "bits": self.bits, "ignored": self.labels.ignored}
        return settings if self.labels.table is None else {**settings, "regions": self.labels.table.text}


def read_labels(file: Path) -> NnUNetLabels:
    """Return the content of nnU-Net's dataset.json.

    Raises:
        InputError: an unreadable file, paths to files, other endings than of images.
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
    if labels.ending not in ENDINGS or "dataset" in content:
        listed = "paths of files" if "dataset" in content else f"files {labels.ending}"
        raise InputError(
            f"{file} must describe images ({', '.join(ENDINGS)}) in imagesTr, got {listed}; audit the saved "
            "predictions instead: audit --predictions"
        )
    return labels


def region_table(labels: Mapping[str, int | list[int]], ignored: int | None) -> LabelTable | None:
    """Return the set of regions of each label id; None for exclusive classes."""
    further: LabelSetting = {} if ignored is None else {ignored: IGNORE}
    regions = {name: list[int | str](ids) for name, ids in regions_of(labels).items()}
    return label_table(further, regions=regions) if regions else None


def _channels(name: str, files: Mapping[str, Path], ending: str) -> tuple[Path, ...]:
    """Return a case's files, of channels 0000, 0001, ..."""
    images = list[Path]()
    while (path := files.get(f"{name}_{len(images):04}{ending}")) is not None:
        images.append(path)
    if not images:
        raise InputError(
            f"image files must be named CASE_0000{ending}, got none of case {name!r}; rename them"
        )
    return tuple(images)
