"""Generic folder of NIfTI volumes and labels."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seg_mia.data.images.label_ids import LabelSetting, RegionSetting
from seg_mia.data.label_files import Absent, LabelFileSetting
from seg_mia.data.label_files import label_files as label_files_of
from seg_mia.data.patients import Patients
from seg_mia.data.root import find_root
from seg_mia.data.volumes.cases import Layout, label_setting
from seg_mia.data.volumes.nifti_file import SUFFIXES, NiftiFile, list_volumes
from seg_mia.data.volumes.slices import Case, Slices, Unlisted


class Nifti(Slices):
    """NIfTI volumes, `images/NAME.nii.gz`, with label ids, `masks/NAME.nii.gz`.

    Args:
        root: data folder; all files must lie inside it.
        images: sub-folder of volumes, or a pattern of their paths, such as `{case}/ct.nii.gz`, or
            `{case}/{case}{channel}.nii.gz` with `channel_endings`.
        masks: sub-folder of labels, or a pattern such as `{case}/seg.nii.gz`; of `label_files` a folder for
            each case, `{case}/segmentations`, or the pattern of a file, `masks/{case}_{label}.nii.gz`.
        organs: label ids of each class, from class 1: [[5]] is one organ; [[2, 3], [1]] are two classes, the
            first comprising two ids.
        labels: class of each label id instead of `organs`: `{0: 0, 128: 1, 255: 2}`; class 255 is ignored.
        regions: labels that may overlap, by name, with the label ids of each, as in nnU-Net:
            `{whole: [1, 2, 3], core: [2, 3], enhancing: [3]}`; a sigmoid for each.
        label_files: files of each label, 0 and one other value, instead of files of ids:
            `{liver: liver, kidneys: [kidney_left, kidney_right]}` are `masks/NAME/liver.nii.gz` and so on, or
            what a pattern in `masks` says. They may overlap, a sigmoid for each.
        labels_exclusive: whether labels of `label_files` are classes 1, 2, ... of one softmax instead.
        absent_labels: treatment of a label without a file in a case: an error, or no voxel.
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
        label_files: LabelFileSetting | None = None,
        labels_exclusive: bool = False,
        absent_labels: Absent = "refuse",
        unlisted: Unlisted = "refuse",
        unoriented: str | None = None,
        patient: str | None = None,
        channel_endings: list[str] | None = None,
        **slicing_split_and_loading: Any,
    ) -> None:
        super().__init__(members=members, nonmembers=nonmembers, **slicing_split_and_loading)
        self.save_hyperparameters(logger=False)
        self.unoriented, self.unlisted = unoriented, unlisted
        self.patients = Patients(patient)
        files = label_files_of(label_files, exclusive=labels_exclusive, absent=absent_labels)
        self.organs, self.regions = label_setting(organs, labels, regions, files)
        self.layout = Layout(images, masks, channel_endings or [], files, list_volumes, SUFFIXES)

    def find(self) -> Path:
        """Return the given folder."""
        return find_root(
            self.root,
            ("nifti",),
            get="your own volumes",
            layout=self.layout.text,
        )

    def cases(self, root: Path) -> list[Case]:
        """Return the labelled volumes."""
        return self.layout.cases(root, self._scan, self.patients)

    def _scan(self, path: Path) -> NiftiFile:
        return NiftiFile(path, self.unoriented)

    def classes_of(self) -> Mapping[int, int]:
        """Return the class of each label id."""
        return self.organs
