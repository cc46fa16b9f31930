"""Kvasir-SEG: 1000 colonoscopy images with polyp masks (Jha et al., MMM 2020), CC BY 4.0."""

from pathlib import Path
from typing import Any

from seg_mia.data.base import SegmentationData
from seg_mia.data.images.folder_source import FolderSource
from seg_mia.data.root import find_root
from seg_mia.data.source import Source

DUPLICATES = [
    ["cju30bmab08bi0835mvlr6e0r", "cju77k828z46w0871r0avuoo9"],
    ["cju76lsehyia10987u54vn8rb", "cju772304yw5t0818vbw8kkjf"],
    ["cju886ryxnsl50801r93jai7q", "cju8amfdtqi4x09871tygrgqe"],
    ["cju5fydrud94708507vo6oy21", "cju7avvi51iox0817ym55y6tt"],
]
"""Pairs of identical or nearly identical images; a split that separates them leaks."""


class Kvasir(SegmentationData):
    """Kvasir-SEG in its own layout: `images/*.jpg` and `masks/*.jpg` with identical names.

    Args:
        root: the folder with `images` and `masks`; if not given, `kvasir_seg` or `Kvasir-SEG` under
            $SEG_MIA_DATA.
        size: side in pixels after resizing.
        members: see `SegmentationData`, also for all further arguments.
        nonmembers: see `SegmentationData`.
        reference: see `SegmentationData`.
    """

    def __init__(
        self,
        *,
        root: str | None = None,
        size: int = 128,
        members: int | None = 300,
        nonmembers: int | None = 200,
        reference: int | None = None,
        **split_and_loading: Any,
    ) -> None:
        super().__init__(members=members, nonmembers=nonmembers, reference=reference, **split_and_loading)
        self.save_hyperparameters(logger=False)
        self.root, self.size = root, size

    def find(self) -> Path:
        """Return the given folder, or one found under a known name."""
        return find_root(
            self.root,
            ("kvasir_seg", "Kvasir-SEG", "kvasir-seg"),
            get="Kvasir-SEG from datasets.simula.no/kvasir-seg",
            layout="images/NAME.jpg and masks/NAME.jpg",
        )

    def read_source(self) -> Source:
        """Return the pairs under the root."""
        root = self.find()
        return FolderSource(root, channels=3, classes=2, threshold=127, size=self.size)

    def known_duplicates(self) -> list[list[str]]:
        """Return the known duplicates present in the data."""
        present = set(self.source.ids)
        return [pair for pair in DUPLICATES if present.issuperset(pair)]
