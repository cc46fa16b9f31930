"""Any folder of NIfTI volumes and their labels."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seg_mia.data.images.reading import pairs
from seg_mia.data.patients import Patients
from seg_mia.data.root import find_root
from seg_mia.data.volumes.nifti_file import NiftiFile, list_volumes
from seg_mia.data.volumes.slices import Case, Slices, Unlisted, organs_of


class Nifti(Slices):
    """Volumes, `images/NAME.nii.gz`, and their label ids, `masks/NAME.nii.gz`.

    Args:
        root: the folder; nothing may lie outside of it.
        images: its sub-folder of volumes.
        masks: its sub-folder of labels.
        organs: the label ids of each class, from class 1: [[5]] is one organ, [[2, 3], [1]] are two classes,
            the first of two ids.
        unlisted: what ids are that `organs` does not name: an error, or background.
        unoriented: how the axes run in a volume that does not say, such as LAS; None refuses it.
        patient: a regular expression whose first group, matched with a volume's name, is the patient, such as
            `(.+)_[0-9]+`; without it each volume is a patient.
        members: as in the base class, and so are all further arguments; `Slices` has window and selection.
        nonmembers: as in the base class.
    """

    def __init__(
        self,
        *,
        members: int,
        nonmembers: int,
        images: str = "images",
        masks: str = "masks",
        organs: list[list[int]] | None = None,
        unlisted: Unlisted = "refuse",
        unoriented: str | None = None,
        patient: str | None = None,
        **slicing_split_and_loading: Any,
    ) -> None:
        super().__init__(members=members, nonmembers=nonmembers, **slicing_split_and_loading)
        self.save_hyperparameters(logger=False)
        self.images, self.masks, self.unoriented = images, masks, unoriented
        self.patients = Patients(patient)
        self.organs, self.unlisted = organs_of(organs if organs is not None else [[1]]), unlisted

    def find(self) -> Path:
        """Return the folder that was given."""
        return find_root(
            self.root,
            ("nifti",),
            get="your own volumes",
            layout=f"{self.images}/NAME.nii.gz and {self.masks}/NAME.nii.gz",
        )

    def cases(self, root: Path) -> list[Case]:
        """Return the volumes that have a label."""
        triples = pairs(list_volumes(root, self.images), list_volumes(root, self.masks))
        return [
            Case(
                name,
                NiftiFile(image, self.unoriented),
                NiftiFile(label, self.unoriented),
                self.patients.of(name),
            )
            for name, image, label in triples
        ]

    def classes_of(self) -> Mapping[int, int]:
        """Return the class of each label id."""
        return self.organs
