"""Raw data of nnU-Net v2 with the folds of its trainings."""

from pathlib import Path
from typing import Any, Literal

from seg_mia.data.base import SegmentationData
from seg_mia.data.images.nnunet_source import NnUNetSource
from seg_mia.data.nnunet_cases import NnUNetCases
from seg_mia.data.nnunet_folds import Unseen, fold_members, parts_of_folds
from seg_mia.data.root import find_root
from seg_mia.data.source import Source
from seg_mia.data.volumes.nnunet_source import NnUNetVolumeSource


class NnUNetRaw(SegmentationData):
    """Cases of nnUNet_raw/DATASET in 2-D (PNG, TIFF, BMP); members are those of the named folds.

    Args:
        root: folder of the data set, with dataset.json, imagesTr, labelsTr and, if available, imagesTs and
            labelsTs.
        splits: splits_final.json, or the folder of a training, whose fold_K/validation names the cases that
            fold K was not trained on.
        folds: names of the folds whose networks are averaged; a case is a member if any was trained on it.
        unseen: non-members: cases of imagesTr that none of the folds was trained on, labelled cases of
            imagesTs, or both.
        bits: grey levels of the image files.
        patient: regular expression matched against a case's name; its first group is the patient. Each case
            is a patient if not given.
        members: see `SegmentationData`, also for all further arguments.
        nonmembers: see `SegmentationData`.
    """

    def __init__(
        self,
        *,
        root: str | None = None,
        splits: str | None = None,
        folds: list[str] | None = None,
        unseen: Unseen = "both",
        bits: Literal[8, 16] = 8,
        patient: str | None = None,
        members: int | None = None,
        nonmembers: int | None = None,
        **split_and_loading: Any,
    ) -> None:
        super().__init__(members=members, nonmembers=nonmembers, **split_and_loading)
        self.save_hyperparameters(logger=False)
        self.root, self.splits_file, self.folds, self.unseen = root, splits, folds or [], unseen
        self.bits, self.patient = bits, patient

    def find(self) -> Path:
        """Return the given folder."""
        return find_root(
            self.root, ("nnunet",), get="nnU-Net's raw data", layout="dataset.json, imagesTr and labelsTr"
        )

    def read_cases(self) -> NnUNetCases:
        """Return the cases without their parts."""
        return NnUNetSource(self.find(), bits=self.bits, patient=self.patient)

    def read_source(self) -> Source:
        """Return the cases, with the parts that the folds give them unless `parts` states others."""
        source = self.read_cases()
        if self.folds and self.parts is None:
            splits = None if self.splits_file is None else Path(self.splits_file)
            members = fold_members(splits, self.folds, source.training)
            tests = set(source.ids) - source.training
            parts = parts_of_folds(members, training=source.training, tests=tests, unseen=self.unseen)
            source.predefined_split = tuple(parts[name] for name in source.ids)
        return source


class NnUNetVolumes(NnUNetRaw):
    """Cases of nnUNet_raw/DATASET in 3-D (NIfTI, NRRD, MetaImage); members are those of the named folds.

    Samples are whole volumes in the axes in which nnU-Net reads files, float32, and where these differ in
    size or spacing they state both in their padding (`seg_mia.data.volumes.nnunet_source`).

    Args:
        levels: value in the files of each channel's 0 and of its 1; values beyond are cut, as nnU-Net cuts
            those of CT.
        reoriented: whether volumes are turned into RAS, as some of nnU-Net's readers do.
        members: see `SegmentationData`, also for all further arguments; `NnUNetRaw` has root and folds.
        nonmembers: see `SegmentationData`.
    """

    def __init__(
        self,
        *,
        levels: list[list[float]] | None = None,
        reoriented: bool = False,
        members: int | None = None,
        nonmembers: int | None = None,
        **raw_split_and_loading: Any,
    ) -> None:
        super().__init__(members=members, nonmembers=nonmembers, **raw_split_and_loading)
        self.save_hyperparameters(logger=False)
        self.levels, self.reoriented = levels, reoriented

    def read_cases(self) -> NnUNetCases:
        """Return the volumes without their parts."""
        return NnUNetVolumeSource(
            self.find(), levels=self.levels, reoriented=self.reoriented, patient=self.patient
        )
