"""Generic folder of NIfTI volumes and labels."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seg_mia.data.channel_files import by_channel
from seg_mia.data.images.label_ids import LabelSetting, RegionSetting
from seg_mia.data.images.reading import pairs
from seg_mia.data.patients import Patients
from seg_mia.data.root import find_root
from seg_mia.data.volumes.label_classes import classes_by_id
from seg_mia.data.volumes.nifti_file import NiftiFile, list_volumes
from seg_mia.data.volumes.slices import Case, Slices, Unlisted


class Nifti(Slices):
    """NIfTI volumes, `images/NAME.nii.gz`, with label ids, `masks/NAME.nii.gz`.

    Args:
        root: data folder; all files must lie inside it.
        images: sub-folder of volumes.
        masks: sub-folder of labels.
        organs: label ids of each class, from class 1: [[5]] is one organ; [[2, 3], [1]] are two classes, the
            first comprising two ids.
        labels: class of each label id instead of `organs`: `{0: 0, 128: 1, 255: 2}`; class 255 is ignored.
        regions: labels that may overlap, by name, with the label ids of each, as in nnU-Net:
            `{whole: [1, 2, 3], core: [2, 3], enhancing: [3]}`; a sigmoid for each.
        unlisted: treatment of ids without a class: an error, or background.
        unoriented: axis directions of volumes without orientation, such as LAS; None rejects such volumes.
        patient: regular expression matched against a volume's name; its first group is the patient, such as
            `(.+)_[0-9]+`. If not given, each volume is a separate patient.
        channel_endings: ends of names of a volume for each channel, such as `[_0000, _0001]` of nnU-Net or
            `[_t1, _t1ce, _t2, _flair]`, on one grid; `windows` gives each its grey window.
        members: see `SegmentationData`, also for all further arguments; `Slices` has window and selection.
        nonmembers: see `SegmentationData`.
    """

    def __init__(
        self,
        *,
        members: int | None,
        nonmembers: int | None,
        images: str = "images",
        masks: str = "masks",
        organs: list[list[int]] | None = None,
        labels: LabelSetting | None = None,
        regions: RegionSetting | None = None,
        unlisted: Unlisted = "refuse",
        unoriented: str | None = None,
        patient: str | None = None,
        channel_endings: list[str] | None = None,
        **slicing_split_and_loading: Any,
    ) -> None:
        super().__init__(members=members, nonmembers=nonmembers, **slicing_split_and_loading)
        self.save_hyperparameters(logger=False)
        self.images, self.masks, self.unoriented = images, masks, unoriented
        self.patients = Patients(patient)
        self.channel_endings = channel_endings or []
        self.organs, self.unlisted = classes_by_id(organs, labels, regions), unlisted
        self.regions = tuple(regions or ())

    def find(self) -> Path:
        """Return the given folder."""
        return find_root(
            self.root,
            ("nifti",),
            get="your own volumes",
            layout=f"{self.images}/NAME.nii.gz and {self.masks}/NAME.nii.gz",
        )

    def cases(self, root: Path) -> list[Case]:
        """Return the labelled volumes."""
        files, labels = list_volumes(root, self.images), list_volumes(root, self.masks)
        stacks = (
            by_channel(files, self.channel_endings)
            if self.channel_endings
            else {name: (path,) for name, path in files.items()}
        )
        triples = pairs({name: stack[0] for name, stack in stacks.items()}, labels)
        return [self._case(name, stacks[name], label) for name, _, label in triples]

    def _case(self, name: str, images: tuple[Path, ...], label: Path) -> Case:
        first, *further = (NiftiFile(image, self.unoriented) for image in images)
        group = self.patients.of(name)
        return Case(name, first, NiftiFile(label, self.unoriented), group, tuple(further))

    def classes_of(self) -> Mapping[int, int]:
        """Return the class of each label id."""
        return self.organs
