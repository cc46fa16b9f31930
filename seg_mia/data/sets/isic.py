"""ISIC 2018, task 1: skin lesions in dermoscopic images (Codella et al. 2019), and derived folders."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from seg_mia.data.base import SegmentationData
from seg_mia.data.images.file_pairs import Sample
from seg_mia.data.images.paired import Paired, first_folder
from seg_mia.data.images.reading import list_files, pairs
from seg_mia.data.root import find_root
from seg_mia.data.source import Source
from seg_mia.errors import InputError

Part = Literal["train", "validation", "test"]

OFFICIAL: Mapping[Part, str] = {"train": "Training", "validation": "Validation", "test": "Test"}
SPLIT: Mapping[Part, tuple[str, ...]] = {
    "train": ("train",),
    "validation": ("validation", "val"),
    "test": ("test",),
}
SUFFIX = "_segmentation"
SUPERPIXELS = "_superpixels"
"""Ending of superpixel images that an older challenge stored beside its images."""


class Isic(SegmentationData):
    """ISIC 2018 in the layout of the challenge, or as `train` and `test` folders of images and masks.

    Args:
        root: the folder with `ISIC2018_Task1-2_Training_Input` and `ISIC2018_Task1_Training_GroundTruth`,
            or with `train/images` and `train/masks`; if not given, `ISIC2018` or `isic` under $SEG_MIA_DATA.
        sets: subsets to read: train (2594 images), validation (100) and test (1000).
        size: side in pixels after resizing.
        members: see `SegmentationData`, also for all further arguments.
        nonmembers: see `SegmentationData`.
        reference: see `SegmentationData`.
    """

    def __init__(
        self,
        *,
        root: str | None = None,
        sets: list[Part] | None = None,
        size: int = 256,
        members: int | None = 500,
        nonmembers: int | None = 500,
        reference: int | None = None,
        **split_and_loading: Any,
    ) -> None:
        super().__init__(members=members, nonmembers=nonmembers, reference=reference, **split_and_loading)
        self.save_hyperparameters(logger=False)
        chosen: list[Part] = ["train"]
        self.root, self.sets, self.size = root, sets or chosen, size

    def find(self) -> Path:
        """Return the given folder, or one found under a known name."""
        return find_root(
            self.root,
            ("ISIC2018", "isic2018", "isic"),
            get="ISIC 2018 task 1 from challenge.isic-archive.com/data",
            layout="ISIC2018_Task1-2_Training_Input/ISIC_NUMBER.jpg and "
            f"ISIC2018_Task1_Training_GroundTruth/ISIC_NUMBER{SUFFIX}.png",
        )

    def read_source(self) -> Source:
        """Return the pairs of the selected subsets, named `part/ISIC_NUMBER`."""
        root = self.find()
        samples = [sample for part in dict.fromkeys(self.sets) for sample in _part(root, part)]
        return Paired(samples, channels=3, classes=2, threshold=127, width=self.size, height=self.size)


def _part(root: Path, part: Part) -> list[Sample]:
    image_folders = (
        f"ISIC2018_Task1-2_{OFFICIAL[part]}_Input",
        *(f"{subfolder}/images" for subfolder in SPLIT[part]),
    )
    mask_folders = (
        f"ISIC2018_Task1_{OFFICIAL[part]}_GroundTruth",
        *(f"{subfolder}/masks" for subfolder in SPLIT[part]),
    )
    images = list_files(first_folder(root, image_folders, content=f"the images of {part}"))
    masks = list_files(first_folder(root, mask_folders, content=f"the masks of {part}"))
    photographs = {name: file for name, file in images.items() if not name.endswith(SUPERPIXELS)}
    triples = pairs(photographs, _without_suffix(masks))
    return [Sample(f"{part}/{name}", image, mask, f"{part}/{name}") for name, image, mask in triples]


def _without_suffix(masks: Mapping[str, Path]) -> dict[str, Path]:
    """Return masks keyed by image name; older challenges capitalise the suffix."""
    named = dict[str, Path]()
    for name, file in masks.items():
        image = name[: -len(SUFFIX)] if name.lower().endswith(SUFFIX) else name
        if image in named:
            raise InputError(
                f"an image must have one mask, got {named[image].name} and {file.name}; remove one"
            )
        named[image] = file
    return named
