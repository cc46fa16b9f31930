"""Labelled volumes in files, by folders or patterns of paths."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from seg_mia.data.case_files import (
    CASE,
    Listing,
    channels_by_case,
    files_by_case,
    lengths_of_images,
    lengths_of_masks,
)
from seg_mia.data.images.label_ids import LabelSetting, RegionSetting
from seg_mia.data.images.reading import pairs
from seg_mia.data.label_files import LabelFiles
from seg_mia.data.patients import Patients
from seg_mia.data.volumes.geometry import Scan
from seg_mia.data.volumes.label_classes import classes_by_id
from seg_mia.data.volumes.mask_files import MaskFiles
from seg_mia.data.volumes.slices import Case
from seg_mia.errors import InputError


@dataclass(frozen=True)
class Layout:
    """Places of the files of volumes and labels below the root.

    Attributes:
        images: folder of volumes, or a pattern with `{case}`, and `{channel}` if there are several.
        masks: folder of labels, or a pattern with `{case}`; of `label_files` also with `{label}`.
        channel_endings: what tells the channels of a case apart; none for one file.
        labels: labels in files of their own.
        listing: lists the volumes of a folder.
        endings: of volumes.
    """

    images: str
    masks: str
    channel_endings: Sequence[str]
    labels: LabelFiles | None
    listing: Listing
    endings: Sequence[str]

    @property
    def text(self) -> str:
        """The places, for messages."""
        images, masks = (
            where if CASE in where else f"{where}/NAME.nii.gz" for where in (self.images, self.masks)
        )
        return (
            f"{images} and {masks}" if self.labels is None else f"{images} and the masks below {self.masks}"
        )

    def cases(self, root: Path, scan: Callable[[Path], Scan], patients: Patients) -> list[Case]:
        """Return the labelled volumes.

        Args:
            root: data folder.
            scan: reader of a file.
            patients: patient of a case by its name.

        Raises:
            InputError: volumes and labels that do not fit each other.
        """
        masks = (
            lengths_of_masks(root, self.masks)
            if self.labels is None
            else self.labels.lengths(root, self.masks, self.endings)
        )
        images = channels_by_case(root, self.images, self.channel_endings, self.listing, masks)
        scans = {name: tuple(scan(path) for path in paths) for name, paths in images.items()}
        if self.labels is None:
            firsts = {name: paths[0] for name, paths in images.items()}
            others = lengths_of_images(root, self.images, self.channel_endings)
            files = pairs(firsts, files_by_case(root, self.masks, self.listing, others))
            labels = {name: scan(label) for name, _, label in files}
        else:
            parts = self.labels.of_cases(root, self.masks, images, self.endings)
            labels = {
                name: MaskFiles(scans[name][0], held, tuple(scan(part.path) for part in held), self.labels)
                for name, held in parts.items()
            }
        return [
            Case(name, scans[name][0], label, patients.of(name), scans[name][1:])
            for name, label in labels.items()
        ]


def label_setting(
    organs: Sequence[Sequence[int]] | None,
    labels: LabelSetting | None,
    regions: RegionSetting | None,
    files: LabelFiles | None,
) -> tuple[Mapping[int, int], tuple[str, ...]]:
    """Return the class of each label id, and the names of labels that may overlap.

    Raises:
        InputError: label ids of files beside labels in files of their own; see `classes_by_id`.
    """
    if files is None:
        return classes_by_id(organs, labels, regions), tuple(regions or ())
    if (organs, labels, regions) != (None, None, None):
        raise InputError(
            f"label_files exclude organs, labels and regions, got {organs}, {labels} and {regions}; leave "
            "them out"
        )
    return files.classes_of, files.regions
