"""Any folder of images and masks."""

from typing import Any

from seg_mia.data.base import SegmentationData
from seg_mia.data.images.folder_source import FolderSource
from seg_mia.data.root import find_root
from seg_mia.data.source import Source
from seg_mia.errors import InputError


class Folder(SegmentationData):
    """PNG, JPEG, TIFF or BMP images and masks, matched by name, or listed in a CSV file.

    Args:
        root: the folder; everything else is relative to it and may not leave it.
        images: sub-folder of images.
        masks: sub-folder of masks.
        channels: 1 for grey, 3 for RGB.
        classes: number of classes, background included.
        threshold: a mask is foreground above this value, for two classes; if not given, masks hold class ids.
        size: side in pixels that images are resized to; their own size if not given.
        manifest: CSV file with one line per sample, if not all pairs are to be used or groups are known.
        image_column: its column of image files.
        mask_column: its column of mask files; the image's name in `masks` if there is no such column.
        group_column: its column of patients or videos, which stay on one side of the split.
        patient: where no column says it, a regular expression whose first group, matched with an image's name
            below `images` without its suffix, is the patient or video, such as `(.+)_[0-9]+` or `([^/]+)/`.
        split_column: its column of who was trained on, where that is known: `train` for the victim's members,
            `test` for its non-members, `reference`, and `shadow` for what is left to the shadow, whose own
            members are drawn.
        members: as in the base class, and so are all further arguments.
        nonmembers: as in the base class.
    """

    def __init__(
        self,
        *,
        members: int,
        nonmembers: int,
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
        split_column: str | None = None,
        **split_and_loading: Any,
    ) -> None:
        super().__init__(members=members, nonmembers=nonmembers, **split_and_loading)
        self.save_hyperparameters(logger=False)
        if channels not in {1, 3} or classes < 2:
            raise InputError(f"channels must be 1 or 3 and classes at least 2, got {channels} and {classes}")
        self.root, self.images, self.masks = root, images, masks
        self.channels, self.classes, self.threshold, self.size = channels, classes, threshold, size
        self.manifest, self.image_column, self.mask_column = manifest, image_column, mask_column
        self.group_column, self.patient, self.split_column = group_column, patient, split_column

    def read_source(self) -> Source:
        """Return the pairs under the root."""
        root = find_root(
            self.root,
            ("folder",),
            get="your own data",
            layout=f"{self.images}/NAME.png and {self.masks}/NAME.png"
            if self.manifest is None
            else f"{self.manifest} and the images and masks it lists",
        )
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
            split_column=self.split_column,
        )
