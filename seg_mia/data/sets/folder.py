"""Generic folder of images and masks."""

from pathlib import Path
from typing import Any

import numpy as np

from seg_mia.data.base import SegmentationData
from seg_mia.data.images.folder_source import FolderSource
from seg_mia.data.images.label_ids import LabelSetting, LabelTable, RegionSetting, label_table
from seg_mia.data.label_files import Absent, LabelFileSetting
from seg_mia.data.label_files import label_files as label_files_of
from seg_mia.data.root import find_root
from seg_mia.data.source import Source
from seg_mia.errors import InputError


class Folder(SegmentationData):
    """PNG, JPEG, TIFF or BMP images and masks, matched by name, or listed in a CSV file.

    Args:
        root: data folder; all other paths are relative to it and must stay inside it.
        images: sub-folder of images, or a pattern of their paths, such as `{case}/image.png`.
        masks: sub-folder of masks, or a pattern such as `{case}/mask.png`; of `label_files` a folder for
            each case, `{case}/masks`, or the pattern of a file, `masks/{case}_{label}.png`.
        channels: 1 for grey, 3 for RGB, other numbers for the bands of TIFF files.
        value_range: image values that become black and white, `[0, 4095]`, for more than 8 bits and for
            floats; if not given, 0 and 255, 0 and 65535, or 0 and 1.
        classes: number of classes, background included; 2 if not given, or those of `labels`.
        threshold: mask values above it are foreground (two classes only); if not given, masks hold class ids.
        labels: class of each mask value, `{0: 0, 128: 1, 255: 2}`, or of each colour,
            `{"#000000": 0, "#ff0000": 1}`; class 255 is ignored. Others are an error.
        regions: labels that may overlap, by name, with the mask values or colours of each, as in nnU-Net:
            `{whole: [1, 2, 3], core: [2, 3], enhancing: [3]}`; a sigmoid for each.
        label_tolerance: grey levels by which a value may differ from its label; if not given, 16 in JPEG
            files and 0 in others.
        channel_endings: ends of names of a grey file for each channel, `[_t1, _t2, _flair]`; `channels` is
            their number then, `images/NAME_t1.png` the first channel of `NAME`.
        label_files: files of each label, 0 and one other value (or a threshold), instead of one mask:
            `{polyp: polyp, tool: [forceps, snare]}` are `masks/NAME/polyp.png` and so on, or what a pattern
            in `masks` says. They may overlap, a sigmoid for each.
        labels_exclusive: whether labels of `label_files` are classes 1, 2, ... of one softmax instead.
        absent_labels: treatment of a label without a file in a case: an error, or no pixel.
        image_ending: end of image names before the suffix, such as `_image`, not part of ids.
        mask_ending: end of mask names before the suffix, such as `_mask`, for masks beside their images.
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
        value_range: list[float] | None = None,
        classes: int | None = None,
        threshold: int | None = None,
        labels: LabelSetting | None = None,
        regions: RegionSetting | None = None,
        label_tolerance: int | None = None,
        channel_endings: list[str] | None = None,
        label_files: LabelFileSetting | None = None,
        labels_exclusive: bool = False,
        absent_labels: Absent = "refuse",
        image_ending: str = "",
        mask_ending: str = "",
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
        if channels < 1 or (classes is not None and classes < 2):
            raise InputError(
                f"channels must be at least 1 and classes at least 2, got {channels} and {classes}; correct "
                "them"
            )
        ends = value_range
        if ends is not None and not (len(ends) == 2 and ends[0] < ends[1] and np.isfinite(ends).all()):
            raise InputError(f"value_range must be two ascending numbers, got {ends}; correct it")
        self.value_range = None if ends is None else (ends[0], ends[1])
        self.table = label_table(labels, label_tolerance, regions)
        _check_table(self.table, classes, threshold)
        self.label_files = label_files_of(label_files, exclusive=labels_exclusive, absent=absent_labels)
        if self.label_files is not None and (self.table is not None or classes is not None):
            raise InputError(
                f"label_files exclude labels, regions and classes, got labels={labels}, regions={regions}, "
                f"classes={classes}; leave them out"
            )
        self.root, self.images, self.masks = root, images, masks
        self.channels, self.classes, self.threshold, self.size = channels, classes or 2, threshold, size
        self.channel_endings = channel_endings or []
        self.image_ending, self.mask_ending = image_ending, mask_ending
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
            table=self.table,
            channel_endings=self.channel_endings,
            label_files=self.label_files,
            value_range=self.value_range,
            image_ending=self.image_ending,
            mask_ending=self.mask_ending,
            size=self.size,
            manifest=self.manifest,
            image_column=self.image_column,
            mask_column=self.mask_column,
            group_column=self.group_column,
            patient=self.patient,
        )


def _check_table(table: LabelTable | None, classes: int | None, threshold: int | None) -> None:
    """Raise InputError for settings that contradict the labels."""
    if table is not None and (threshold is not None or classes not in (None, table.classes)):
        raise InputError(
            f"labels exclude a threshold and make {table.classes} classes, got threshold={threshold}, "
            f"classes={classes}; set these to null"
        )
