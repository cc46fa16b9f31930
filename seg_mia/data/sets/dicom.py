"""DICOM series, one folder per patient (layout of CHAOS)."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seg_mia.data.images.label_ids import LabelSetting, RegionSetting
from seg_mia.data.patients import Patients, same_patients
from seg_mia.data.root import entries, find_root, path_below, regular
from seg_mia.data.volumes.dicom_file import DicomSeries, PngStack, patient_of
from seg_mia.data.volumes.label_classes import classes_by_id
from seg_mia.data.volumes.nifti_file import NiftiFile, is_volume
from seg_mia.data.volumes.slices import Case, Slices, Unlisted
from seg_mia.errors import InputError


class Dicom(Slices):
    """DICOM series with labels, one folder per patient; the default layout is that of CHAOS.

    Args:
        root: folder with one sub-folder per patient; all files must lie inside it.
        series: folder of .dcm files within a patient's folder; `.` for the patient's folder itself.
        label: label within a patient's folder: a NIfTI file on the grid of the series, or a folder of PNG
            files, one per .dcm file, paired in natural order of their names (2 before 10).
        threshold: PNG values above it are label id 1, all others 0; None, or `labels`, interprets values
            as label ids.
        organs: label ids of each class, from class 1; see `seg_mia.data.sets.nifti.Nifti`.
        labels: class of each label id instead of `organs`: `{0: 0, 128: 1, 255: 2}`; class 255 is ignored.
        regions: labels that may overlap, by name, with the label ids of each, as in nnU-Net:
            `{whole: [1, 2, 3], core: [2, 3], enhancing: [3]}`; a sigmoid for each.
        unlisted: treatment of ids without a class: an error, or background.
        unoriented: axis directions of NIfTI labels without orientation, such as LAS; None rejects them.
        patient: regular expression matched against a folder's name; its first group is the patient, such as
            `(.+)_scan[0-9]+`, or `(.+)` for one patient per folder. If not given, PatientID is used.
        members: see `SegmentationData`, also for all further arguments; `Slices` has window and selection.
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
        organs: list[list[int]] | None = None,
        labels: LabelSetting | None = None,
        regions: RegionSetting | None = None,
        unlisted: Unlisted = "refuse",
        unoriented: str | None = None,
        patient: str | None = None,
        **slicing_split_and_loading: Any,
    ) -> None:
        super().__init__(members=members, nonmembers=nonmembers, **slicing_split_and_loading)
        self.save_hyperparameters(logger=False)
        self.series, self.label, self.unoriented = series, label, unoriented
        self.threshold = threshold if labels is None else None
        self.patients = Patients(patient)
        self.organs, self.unlisted = classes_by_id(organs, labels, regions), unlisted
        self.regions = tuple(regions or ())

    def find(self) -> Path:
        """Return the given folder."""
        return find_root(
            self.root,
            ("dicom", "CHAOS/Train_Sets/CT"),
            get="your own series, or the CT part of CHAOS from chaos.grand-challenge.org",
            layout=f"PATIENT/{self.series}/NAME.dcm and PATIENT/{self.label}",
        )

    def cases(self, root: Path) -> list[Case]:
        """Return the patients with their labels."""
        patients = [path.name for path in entries(root) if path.is_dir() and path.name[0] != "."]
        if not patients:
            raise InputError(f"{root} must hold a folder for each patient, found none; correct the root")
        ungrouped = [self._case(root, name) for name in patients]
        groups = self._groups(ungrouped, root)
        return [case._replace(group=groups[case.name]) for case in ungrouped]

    def classes_of(self) -> Mapping[int, int]:
        """Return the class of each label id."""
        return self.organs

    def _groups(self, cases: Sequence[Case], root: Path) -> Mapping[str, str]:
        """Return the patient of each folder: from its name if `patient` is given, else from its header."""
        if self.patients.stated:
            return {case.name: self.patients.of(case.name) for case in cases}
        return same_patients({case.name: patient_of(case.image.files[0]) for case in cases}, root)

    def _case(self, root: Path, patient: str) -> Case:
        series = DicomSeries(_files(root, f"{patient}/{self.series}", ".dcm"))
        if is_volume(Path(self.label)):
            label = regular(path_below(root, f"{patient}/{self.label}"))
            return Case(patient, series, NiftiFile(label, self.unoriented), patient)
        pictures = _files(root, f"{patient}/{self.label}", ".png")
        return Case(patient, series, PngStack(pictures, series, self.threshold), patient)


def _files(root: Path, relative: str, suffix: str) -> tuple[Path, ...]:
    """Return a folder's files of one suffix in natural order of their names (2 before 10)."""
    folder = path_below(root, relative)
    names = [
        path.name
        for path in (entries(folder) if folder.is_dir() else ())
        if path.suffix.lower() == suffix and path.name[0] != "."
    ]
    if not names:
        raise InputError(
            f"{folder} must be a folder of {suffix} files, found none; correct --data.root, --data.series or "
            "--data.label"
        )
    names.sort(key=_by_number)
    return tuple(path_below(root, f"{relative}/{regular(folder / name).name}") for name in names)


def _by_number(name: str) -> list[tuple[int, str]]:
    parts = re.split(r"(\d+)", name)
    return [(int(part), part) if part.isdecimal() else (0, part) for part in parts]
