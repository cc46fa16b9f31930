"""Cityscapes: street scenes in 19 classes (Cordts et al., CVPR 2016)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from seg_mia.data.base import SegmentationData
from seg_mia.data.images.file_pairs import Sample
from seg_mia.data.images.paired import Paired, first_folder
from seg_mia.data.images.reading import list_files, pairs, read_mask
from seg_mia.data.root import find_root
from seg_mia.data.source import Mask, Source
from seg_mia.errors import InputError
from seg_mia.metrics.labels import IGNORE

Part = Literal["train", "val"]

IMAGE, LABELS = "_leftImg8bit", "_gtFine_labelIds"
CLASSES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation",
    "terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)  # fmt: skip
TRAINED = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""Label id of each class; all other ids below 34 are void."""
IDS = 34
AS_GIVEN = f"use the original files that end in {LABELS}.png"

_UNKNOWN = -1
_TABLE = np.full(256, _UNKNOWN, np.int16)
_TABLE[:IDS] = IGNORE
_TABLE[list(TRAINED)] = range(len(TRAINED))


class CityscapesSource(Paired):
    """Image and label files; label ids map to class ids in one step, so no class is mapped twice."""

    def mask(self, path: Path) -> Mask:
        """Return class ids (h, w), 255 where void.

        Raises:
            InputError: an id unknown to Cityscapes.
        """
        ids = read_mask(path, threshold=None, classes=255, remedy=AS_GIVEN)
        mapped = _TABLE[ids]
        if (mapped == _UNKNOWN).any():
            unknown = ", ".join(map(str, np.unique(ids[mapped == _UNKNOWN]).tolist()[:8]))
            raise InputError(f"{path} must hold label ids 0 to {IDS - 1}, got {unknown}; {AS_GIVEN}")
        return mapped.astype(np.uint8)


class Cityscapes(SegmentationData):
    """Cityscapes, fine annotations: `leftImg8bit/SPLIT/CITY/*.png` and `gtFine/SPLIT/CITY/*_labelIds.png`.

    Args:
        root: the folder with `leftImg8bit` and `gtFine`; if not given, `cityscapes` under $SEG_MIA_DATA.
        sets: subsets to read: train (2975 images) and val (500); test has no public labels.
        group: `city` keeps the images of a city (18 in train) on one side of the split, `image` counts each
            as independent.
        width: in pixels after resizing.
        height: in pixels after resizing.
        members: see `SegmentationData`, also for all further arguments.
        nonmembers: see `SegmentationData`.
        reference: see `SegmentationData`.
    """

    def __init__(
        self,
        *,
        root: str | None = None,
        sets: list[Part] | None = None,
        group: Literal["image", "city"] = "image",
        width: int = 512,
        height: int = 256,
        members: int | None = 1000,
        nonmembers: int | None = 400,
        reference: int | None = None,
        **split_and_loading: Any,
    ) -> None:
        super().__init__(members=members, nonmembers=nonmembers, reference=reference, **split_and_loading)
        self.save_hyperparameters(logger=False)
        chosen: list[Part] = ["train"]
        self.root, self.sets, self.group = root, sets or chosen, group
        self.width, self.height = width, height

    def find(self) -> Path:
        """Return the given folder, or one found under a known name."""
        return find_root(
            self.root,
            ("cityscapes", "Cityscapes"),
            get="leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip from www.cityscapes-dataset.com",
            layout=f"leftImg8bit/train/CITY/NAME{IMAGE}.png and gtFine/train/CITY/NAME{LABELS}.png",
        )

    def read_source(self) -> Source:
        """Return the pairs of the selected subsets, named `part/city/city_sequence_frame`."""
        root = self.find()
        samples = [sample for part in dict.fromkeys(self.sets) for sample in _part(root, part)]
        if self.group == "city":
            samples = [sample._replace(group=sample.name.rpartition("/")[0]) for sample in samples]
        return CityscapesSource(
            samples, channels=3, classes=len(CLASSES), threshold=None, width=self.width, height=self.height
        )


def _part(root: Path, part: Part) -> list[Sample]:
    """Return the samples of one subset, each as its own group."""
    folders = [
        first_folder(root, (f"{kind}/{part}",), content=f"the {part} part")
        for kind in ("leftImg8bit", "gtFine")
    ]
    images, labels = (
        _ending(list_files(folder), end) for folder, end in zip(folders, (IMAGE, LABELS), strict=True)
    )
    triples = pairs(images, labels)
    return [Sample(f"{part}/{name}", image, mask, f"{part}/{name}") for name, image, mask in triples]


def _ending(files: Mapping[str, Path], ending: str) -> dict[str, Path]:
    """Return files with a given ending, keyed by name without it; the folder also holds other images."""
    return {name.removesuffix(ending): file for name, file in files.items() if name.endswith(ending)}
