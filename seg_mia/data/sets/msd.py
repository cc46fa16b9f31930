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
    """Task03_Liver as it is unpacked: `imagesTr/liver_N.nii.gz` and `labelsTr/liver_N.nii.gz`, 131 patients.

    The files label liver tissue 1 and tumours 2. A tumour of the liver is part of the organ, so `liver` means
    both, as the LiTS challenge scores it and the membership paper's code trains on it.

    Args:
        root: the folder; if not given, `Task03_Liver` or `msd_liver` under $SEG_MIA_DATA.
        target: `liver` is the organ with its tumours, `parenchyma` the organ without them (they count as
            background), `tumour` they alone, `liver_and_tumour` has three classes: background, parenchyma
            and tumour.
        layout: `decathlon`, or `export`: 2-D NIfTI files `imgs/NAME` and `lbls/NAME`, as the membership
            paper's code reads them, each a slice that is shown as it lies in its file.
        patient: for `export`, a regular expression whose first group is the patient in a file's name, such as
            `(.+)_[0-9]+`; without it each slice is a patient, and slices of one come to lie on both sides.
        unoriented: how the axes run in a volume that does not say, such as LAS; None refuses it.
        members: as in the base class, and so are all further arguments; `Slices` has window and selection.
        nonmembers: as in the base class.
    """

    def __init__(
        self,
        *,
        target: Target = "liver",
        layout: Layout = "decathlon",
        patient: str | None = None,
        unoriented: str | None = None,
        members: int = 500,
        nonmembers: int = 500,
        **slicing_split_and_loading: Any,
    ) -> None:
        super().__init__(members=members, nonmembers=nonmembers, **slicing_split_and_loading)
        self.save_hyperparameters(logger=False)
        self.target, self.layout, self.unoriented = target, layout, unoriented
        self.patients = Patients(patient)
        if layout == "export" and self.slicing.axis != "axial":
            raise InputError(
                f"layout export has axial slices alone, got axis={self.slicing.axis}; leave it out"
            )
        if layout == "decathlon" and patient is not None:
            raise InputError("patient is for layout export, the decathlon's files are one patient each")

    def find(self) -> Path:
        """Return the folder that was given, or that lies under a known name."""
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
        """Return the class of liver tissue, 1, and of tumour, 2."""
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
