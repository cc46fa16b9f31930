"""Generic folder of images and masks."""

from pathlib import Path
from typing import Any

from seg_mia.data.base import SegmentationData
from seg_mia.data.images.folder_source import FolderSource
from seg_mia.data.root import find_root
from seg_mia.data.source import Source
from seg_mia.errors import InputError


class Folder(SegmentationData):
    """PNG, JPEG, TIFF or BMP images and masks, matched by name, or listed in a CSV file.

    Args:
        root: data folder; all other paths are relative to it and must stay inside it.
        images: sub-folder of images.
        masks: sub-folder of masks.
        channels: 1 for grey, 3 for RGB.
        classes: number of classes, background included.
        threshold: mask values above it are foreground (two classes only); if not given, masks hold class ids.
        size: side in pixels after resizing; original size if not given.
        manifest: CSV file with one line per sample, to select pairs or to give groups.
        image_column: manifest column of image files.
        mask_column: manifest column of mask files; if absent, masks share their image's name in `masks`.
        group_column: manifest column of patients or videos; a group stays on one side of the split.
        patient: regular expression for data without a group column, matched against an image's name below
            `images` without suffix; its first group is the patient or video, e.g. `(.+)_[0-9]+`, `([^/]+)/`.
        members: see `SegmentationData`, also for all further arguments.
        nonmembers: see `SegmentationData`.
    """

    def __init__(
        self,
        *,
        members: int | None,
        nonmembers: int | None,
        root: str | None = None,
        images: str = "images",
        masks: str = "masks",
        channels: int = 3,
        classes: int = 2,
        threshold: int | None = None,
        size: int | None = None,
        manifest: str | None = None,
        image_column: str = "image",
        mask_column: str = "mask",
        group_column: str | None = None,
        patient: str | None = None,
        **split_and_loading: Any,
    ) -> None:
        super().__init__(members=members, nonmembers=nonmembers, **split_and_loading)
        self.save_hyperparameters(logger=False)
        if channels not in {1, 3} or classes < 2:
            raise InputError(f"channels must be 1 or 3 and classes at least 2, got {channels} and {classes}")
        self.root, self.images, self.masks = root, images, masks
        self.channels, self.classes, self.threshold, self.size = channels, classes, threshold, size
        self.manifest, self.image_column, self.mask_column = manifest, image_column, mask_column
        self.group_column, self.patient = group_column, patient

    def find(self) -> Path:
        """Return the given folder."""
        return find_root(
            self.root,
            ("folder",),
            get="your own data",
            layout=f"{self.images}/NAME.png and {self.masks}/NAME.png"
            if self.manifest is None
            else f"{self.manifest} and the images and masks it lists",
        )

    def read_source(self) -> Source:
        """Return the pairs under the root."""
        root = self.find()
        return FolderSource(
            root,
            images=self.images,
            masks=self.masks,
            channels=self.channels,
            classes=self.classes,
            threshold=self.threshold,
            size=self.size,
            manifest=self.manifest,
            image_column=self.image_column,
            mask_column=self.mask_column,
            group_column=self.group_column,
            patient=self.patient,
        )
