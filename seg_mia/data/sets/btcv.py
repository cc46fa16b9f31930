"""Beyond the Cranial Vault (BTCV, Synapse multi-atlas): abdominal CT, 13 organs (Landman et al., 2015)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, assert_never

from seg_mia.data.images.reading import pairs
from seg_mia.data.patients import Patients
from seg_mia.data.root import find_root, path_below
from seg_mia.data.volumes.label_classes import organs_of
from seg_mia.data.volumes.nifti_file import NiftiFile, list_volumes
from seg_mia.data.volumes.slices import Case, Slices
from seg_mia.errors import InputError

Target = Literal["organs", "eight", "liver"]

ORGANS = (
    "spleen",
    "right kidney",
    "left kidney",
    "gallbladder",
    "oesophagus",
    "liver",
    "stomach",
    "aorta",
    "inferior vena cava",
    "portal and splenic vein",
    "pancreas",
    "right adrenal gland",
    "left adrenal gland",
)
"""Organs of label ids 1 to 13."""
EIGHT = (8, 4, 3, 2, 6, 11, 1, 7)
"""Label ids evaluated by TransUNet and its successors, in their class order."""
_LAYOUTS = (".", "RawData/Training", "Training")


class Btcv(Slices):
    """Labelled subset of BTCV: `img/img0001.nii.gz` and `label/label0001.nii.gz`.

    Both folders may also lie in `RawData/Training`, the layout of the unpacked archive.

    Args:
        root: the folder; if not given, `BTCV` or `btcv` under $SEG_MIA_DATA.
        target: `organs` has 14 classes, background and `ORGANS`; `eight` has 9, background and aorta,
            gallbladder, left and right kidney, liver, pancreas, spleen and stomach; `liver` has 2.
        level: centre of the grey window in Hounsfield units; 75 if not given.
        width: width of the window, 400 if not given; with level 75, -125 to 275, usual for this data set.
        unoriented: axis directions of volumes without orientation, such as LAS; None rejects such volumes.
        patient: regular expression matched against the number in a volume's name; its first group is the
            patient. If not given, each volume is a separate patient.
        members: see `SegmentationData`, also for all further arguments; see `Slices` for the selection.
        nonmembers: see `SegmentationData`.
    """

    usual_window = (75.0, 400.0)

    def __init__(
        self,
        *,
        target: Target = "organs",
        level: float | None = None,
        width: float | None = None,
        unoriented: str | None = None,
        patient: str | None = None,
        members: int | None = 400,
        nonmembers: int | None = 300,
        **slicing_split_and_loading: Any,
    ) -> None:
        super().__init__(
            members=members, nonmembers=nonmembers, level=level, width=width, **slicing_split_and_loading
        )
        self.save_hyperparameters(logger=False)
        self.target, self.unoriented = target, unoriented
        self.patients = Patients(patient)

    def find(self) -> Path:
        """Return the given folder, or one found under a known name."""
        return find_root(
            self.root,
            ("BTCV", "btcv", "Abdomen"),
            get="the abdomen data of synapse.org, syn3193805",
            layout="img/img0001.nii.gz and label/label0001.nii.gz",
        )

    def cases(self, root: Path) -> list[Case]:
        """Return the labelled volumes, named by their numbers."""
        folder = next((name for name in _LAYOUTS if path_below(root, f"{name}/img").is_dir()), ".")
        images = _numbered(list_volumes(root, f"{folder}/img"), "img")
        labels = _numbered(list_volumes(root, f"{folder}/label"), "label")
        return [
            Case(
                name,
                NiftiFile(image, self.unoriented),
                NiftiFile(label, self.unoriented),
                self.patients.of(name),
            )
            for name, image, label in pairs(images, labels)
        ]

    def classes_of(self) -> Mapping[int, int]:
        """Return the class of each label id; organs outside the target are background."""
        nothing = dict.fromkeys(range(1, len(ORGANS) + 1), 0)
        match self.target:
            case "organs":
                return organs_of([[label] for label in nothing])
            case "eight":
                return nothing | organs_of([[label] for label in EIGHT])
            case "liver":
                return nothing | organs_of([[ORGANS.index("liver") + 1]])
            case _:
                assert_never(self.target)


def _numbered(files: Mapping[str, Path], prefix: str) -> dict[str, Path]:
    """Return the files, keyed by the part of their names after a prefix."""
    strange = [name for name in files if not name.startswith(prefix) or name == prefix]
    if strange:
        raise InputError(
            f"{files[strange[0]]} must be named {prefix} and a number, such as {prefix}0001.nii.gz; "
            "rename or remove it"
        )
    return {name.removeprefix(prefix): path for name, path in files.items()}
