"""Folders of whole volumes: NIfTI, NRRD and MetaImage files, and DICOM series."""

from pathlib import Path
from typing import Any

from seg_mia.data.label_files import Absent, LabelFileSetting
from seg_mia.data.label_files import label_files as label_files_of
from seg_mia.data.patients import Patients
from seg_mia.data.root import entries, find_root, path_below, regular
from seg_mia.data.sets.dicom import Dicom
from seg_mia.data.volumes.cases import Layout, label_setting
from seg_mia.data.volumes.geometry import Scan
from seg_mia.data.volumes.itk_file import SUFFIXES as ITK
from seg_mia.data.volumes.itk_file import ItkFile, is_itk
from seg_mia.data.volumes.nifti_file import SUFFIXES as NIFTI
from seg_mia.data.volumes.nifti_file import NiftiFile, is_volume
from seg_mia.data.volumes.slices import Case
from seg_mia.data.volumes.whole import Volumes
from seg_mia.errors import InputError

ENDINGS = (*sorted(NIFTI, key=len, reverse=True), *ITK)


class VolumeFiles(Volumes):
    """Volumes, `images/NAME.nii.gz`, with label ids, `masks/NAME.nii.gz`: one sample for each file.

    Endings may be .nii, .nii.gz, .nrrd and .mha; the last two need `pip install 'seg_mia[itk]'`.

    Args:
        images: sub-folder of volumes, or a pattern of their paths, such as `{case}/ct.nii.gz`, or
            `{case}/{case}{channel}.nii.gz` with `channel_endings`.
        masks: sub-folder of labels, or a pattern such as `{case}/seg.nii.gz`; of `label_files` a folder for
            each case, `{case}/segmentations`, or the pattern of a file, `masks/{case}_{label}.nii.gz`.
        channel_endings: ends of names of a volume for each channel, such as `[_0000, _0001]` of nnU-Net or
            `[_t1, _t1ce, _t2, _flair]`, on one grid; `windows` gives each its grey window.
        label_files: files of each label, 0 and one other value, instead of files of ids:
            `{liver: liver, kidneys: [kidney_left, kidney_right]}` are `masks/NAME/liver.nii.gz` and so on, or
            what a pattern in `masks` says. They may overlap, a sigmoid for each.
        labels_exclusive: whether labels of `label_files` are classes 1, 2, ... of one softmax instead.
        absent_labels: treatment of a label without a file in a case: an error, or no voxel.
        unoriented: axis directions of NIfTI files without orientation, such as LAS; None rejects such files.
        patient: regular expression matched against a volume's name; its first group is the patient, such as
            `(.+)_[0-9]+`. If not given, each volume is a separate patient.
        members: see `SegmentationData`, also for all further arguments; `Volumes` has grid and window.
        nonmembers: see `SegmentationData`.
    """

    def __init__(
        self,
        *,
        members: int | None,
        nonmembers: int | None,
        images: str = "images",
        masks: str = "masks",
        channel_endings: list[str] | None = None,
        label_files: LabelFileSetting | None = None,
        labels_exclusive: bool = False,
        absent_labels: Absent = "refuse",
        unoriented: str | None = None,
        patient: str | None = None,
        **volumes_split_and_loading: Any,
    ) -> None:
        super().__init__(members=members, nonmembers=nonmembers, **volumes_split_and_loading)
        self.save_hyperparameters(logger=False)
        self.unoriented, self.patients = unoriented, Patients(patient)
        files = label_files_of(label_files, exclusive=labels_exclusive, absent=absent_labels)
        if files is not None:
            given = volumes_split_and_loading
            ids = given.get("organs"), given.get("labels"), given.get("regions")
            self.organs, self.regions = label_setting(*ids, files)
        self.layout = Layout(images, masks, channel_endings or [], files, _listed, ENDINGS)

    def find(self) -> Path:
        """Return the given folder."""
        return find_root(
            self.root,
            ("volumes", "nifti"),
            get="your own volumes",
            layout=self.layout.text,
        )

    def cases(self, root: Path) -> list[Case]:
        """Return the labelled volumes."""
        return self.layout.cases(root, self._scan, self.patients)

    def _scan(self, path: Path) -> Scan:
        return ItkFile(path) if is_itk(path) else NiftiFile(path, self.unoriented)


class DicomVolumes(Volumes):
    """DICOM series with labels, one folder per patient: one sample for each series.

    Args:
        series: see `seg_mia.data.sets.dicom.Dicom`.
        label: see `Dicom`.
        threshold: see `Dicom`.
        unoriented: see `Dicom`.
        patient: see `Dicom`.
        members: see `SegmentationData`, also for all further arguments; `Volumes` has grid and window.
        nonmembers: see `SegmentationData`.
    """

    def __init__(
        self,
        *,
        members: int | None,
        nonmembers: int | None,
        series: str = "DICOM_anon",
        label: str = "Ground",
        threshold: int | None = 127,
        unoriented: str | None = None,
        patient: str | None = None,
        **volumes_split_and_loading: Any,
    ) -> None:
        super().__init__(members=members, nonmembers=nonmembers, **volumes_split_and_loading)
        self.save_hyperparameters(logger=False)
        self.folders = Dicom(
            members=members,
            nonmembers=nonmembers,
            root=self.root,
            series=series,
            label=label,
            threshold=threshold if volumes_split_and_loading.get("labels") is None else None,
            unoriented=unoriented,
            patient=patient,
        )

    def find(self) -> Path:
        """Return the given folder."""
        return self.folders.find()

    def cases(self, root: Path) -> list[Case]:
        """Return the patients with their labels."""
        return self.folders.cases(root)


def _listed(root: Path, relative: str) -> dict[str, Path]:
    """Return the volumes of a folder below a root, keyed and sorted by name without ending."""
    folder = path_below(root, relative)
    if not folder.is_dir():
        raise InputError(f"{folder} must be a folder, found none; correct the root or unpack the data set")
    volumes = dict[str, Path]()
    for path in entries(folder):
        if path.name.startswith(".") or not (is_volume(path) or is_itk(path)) or path.is_dir():
            continue
        lower = path.name.lower()
        ending = next(ending for ending in ENDINGS if lower.endswith(ending))
        name = path.name[: -len(ending)]
        if name in volumes:
            raise InputError(f"{folder} must hold one file of {name}, got several endings; remove one")
        volumes[name] = path_below(root, f"{relative}/{regular(path).name}")
    if not volumes:
        raise InputError(
            f"{folder} must hold volumes ({', '.join((*NIFTI, *ITK))}), found none; correct the root"
        )
    return volumes
