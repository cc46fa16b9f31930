"""Liver CT of the Medical Segmentation Decathlon, Task03_Liver (Antonelli et al., 2022), CC BY-SA 4.0."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, assert_never

from seg_mia.data.images.reading import pairs
from seg_mia.data.patients import Patients
from seg_mia.data.root import find_root
from seg_mia.data.volumes.nifti_file import FlatFile, NiftiFile, list_volumes
from seg_mia.data.volumes.slices import Case, Slices
from seg_mia.errors import InputError

Target = Literal["liver", "parenchyma", "tumour", "liver_and_tumour"]
Layout = Literal["decathlon", "export"]

_FOLDERS: dict[Layout, tuple[str, str]] = {"decathlon": ("imagesTr", "labelsTr"), "export": ("imgs", "lbls")}


class MsdLiver(Slices):
    """Task03_Liver as unpacked: `imagesTr/liver_N.nii.gz` and `labelsTr/liver_N.nii.gz`, 131 patients.

    Label ids are 1 for liver tissue and 2 for tumours. Liver tumours are part of the organ, so `liver` covers
    both, as in the evaluation of the LiTS challenge and in the training code of the membership paper.

    Args:
        root: the folder; if not given, `Task03_Liver` or `msd_liver` under $SEG_MIA_DATA.
        target: `liver` is the organ with its tumours, `parenchyma` the organ without tumours (counted as
            background), `tumour` the tumours alone; `liver_and_tumour` has three classes: background,
            parenchyma and tumour.
        layout: `decathlon`, or `export`: 2-D NIfTI files `imgs/NAME` and `lbls/NAME`, the input of the
            membership paper's code; each file is one slice, shown in its stored orientation.
        patient: for `export`, a regular expression whose first group is the patient in a file's name, such as
            `(.+)_[0-9]+`. If not given, each slice is a patient, and a split may separate slices of one.
        unoriented: axis directions of volumes without orientation, such as LAS; None rejects such volumes.
        members: see `SegmentationData`, also for all further arguments; `Slices` has window and selection.
        nonmembers: see `SegmentationData`.
    """

    def __init__(
        self,
        *,
        target: Target = "liver",
        layout: Layout = "decathlon",
        patient: str | None = None,
        unoriented: str | None = None,
        members: int | None = 500,
        nonmembers: int | None = 500,
        **slicing_split_and_loading: Any,
    ) -> None:
        super().__init__(members=members, nonmembers=nonmembers, **slicing_split_and_loading)
        self.save_hyperparameters(logger=False)
        self.target, self.layout, self.unoriented = target, layout, unoriented
        self.patients = Patients(patient)
        if layout == "export" and self.slicing.axis != "axial":
            raise InputError(
                f"layout export has only axial slices, got axis={self.slicing.axis}; leave it out"
            )
        if layout == "decathlon" and patient is not None:
            raise InputError(
                "patient applies to layout export, each file of the decathlon is one patient; leave it out"
            )

    def find(self) -> Path:
        """Return the given folder, or one found under a known name."""
        images, labels = _FOLDERS[self.layout]
        return find_root(
            self.root,
            ("Task03_Liver", "msd_liver") if self.layout == "decathlon" else ("liver",),
            get="Task03_Liver from medicaldecathlon.com",
            layout=f"{images}/NAME.nii.gz and {labels}/NAME.nii.gz",
        )

    def cases(self, root: Path) -> list[Case]:
        """Return the labelled volumes."""
        images, labels = (list_volumes(root, folder) for folder in _FOLDERS[self.layout])
        triples = pairs(images, labels)
        if self.layout == "export":
            return [
                Case(name, FlatFile(image), FlatFile(label), self.patients.of(name))
                for name, image, label in triples
            ]
        return [
            Case(name, NiftiFile(image, self.unoriented), NiftiFile(label, self.unoriented), name)
            for name, image, label in triples
        ]

    def classes_of(self) -> Mapping[int, int]:
        """Return the classes of liver tissue (label id 1) and tumour (label id 2)."""
        match self.target:
            case "liver":
                return {1: 1, 2: 1}
            case "parenchyma":
                return {1: 1, 2: 0}
            case "tumour":
                return {1: 0, 2: 1}
            case "liver_and_tumour":
                return {1: 1, 2: 2}
            case _:
                assert_never(self.target)
