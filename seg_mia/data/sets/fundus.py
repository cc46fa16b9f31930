"""Retinal images in RIM-ONE style, cropped as in the ASMA paper for its unpadded U-Net."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from seg_mia.data.base import SegmentationData
from seg_mia.data.images.mask_coding import largest_lost
from seg_mia.data.images.reading import digest, list_files, pairs, read_image, read_mask
from seg_mia.data.root import find_root, path_below
from seg_mia.data.source import Image, Mask, Source
from seg_mia.errors import InputError

HEIGHT, WIDTH = 569, 428
CROP = (slice(70, 478), slice(10, 418))
PAD = 82
SEEN = (slice(80, 468), slice(20, 408))
"""Region of the padded crop predicted by an unpadded U-Net, in rows and columns of the original."""
PUBLISHED = (slice(70, 458), slice(20, 408))
"""Mask region in the published code: ten rows too high."""
THRESHOLD = 20


class FundusSource(Source):
    """Pairs of 569x428 images and optic-disc masks, decoded to 572x572 and 388x388."""

    channels, classes = 3, 2

    def __init__(self, images: Path, masks: Path, *, published_crop: bool) -> None:
        self.files = pairs(list_files(images), list_files(masks))
        self.ids = tuple(name for name, _, _ in self.files)
        self.groups = self.ids
        self.published_crop = published_crop

    def digest(self, index: int) -> str:
        """Return a digest of both files."""
        return digest(*self.files[index][1:])

    def image_digest(self, index: int) -> str:
        """Return a digest of the image file."""
        return digest(self.files[index][1])

    def decode(self, index: int) -> tuple[Image, Mask]:
        """Return the crop, padded by 82 replicated edge pixels, and the mask of its predicted centre."""
        _, image_file, mask_file = self.files[index]
        image = read_image(image_file, 3)
        mask = read_mask(mask_file, threshold=THRESHOLD, classes=2)
        for file, shape in ((image_file, image.shape[:2]), (mask_file, mask.shape)):
            if shape != (HEIGHT, WIDTH):
                raise InputError(
                    f"{file} must be {HEIGHT} rows by {WIDTH} columns, got {shape}; "
                    "use seg_mia.data.sets.folder.Folder for other sizes"
                )
        rows, columns = (np.clip(np.arange(-PAD, side + PAD), 0, side - 1) for side in image[CROP].shape[:2])
        padded: Image = image[CROP][rows[:, None], columns]
        return padded, mask[PUBLISHED if self.published_crop else SEEN]

    def lost(self, index: int) -> int:
        """Return the largest mask-file value that the threshold mapped to background."""
        return largest_lost(self.files[index][2], THRESHOLD)

    @property
    def settings(self) -> Mapping[str, bool | int | float | str | None]:
        """Return the crop."""
        return {"published_crop": self.published_crop}


class Fundus(SegmentationData):
    """Glaucoma data of the ASMA paper, for networks with 572x572 input and 388x388 output.

    Args:
        root: the folder; if not given, `fundus` under $SEG_MIA_DATA.
        images: its sub-folder of images.
        masks: its sub-folder of masks.
        published_crop: crop masks as the published code does, ten rows above the predicted region.
        members: see `SegmentationData`, also for all further arguments.
        nonmembers: see `SegmentationData`.
        shadow_share: see `SegmentationData`; no samples are reserved for a shadow by default.
    """

    def __init__(
        self,
        *,
        root: str | None = None,
        images: str = "image_samples",
        masks: str = "mask_samples",
        published_crop: bool = False,
        members: int | None = 1,
        nonmembers: int | None = 1,
        shadow_share: float = 0.0,
        **split_and_loading: Any,
    ) -> None:
        super().__init__(
            members=members, nonmembers=nonmembers, shadow_share=shadow_share, **split_and_loading
        )
        self.save_hyperparameters(logger=False)
        self.root, self.images, self.masks, self.published_crop = root, images, masks, published_crop

    def find(self) -> Path:
        """Return the given folder, or one found under a known name."""
        return find_root(
            self.root,
            ("fundus", "rim_one"),
            get="RIM-ONE, or the samples in github.com/utkuozbulak/adaptive-segmentation-mask-attack",
            layout=f"{self.images}/NAME.png and {self.masks}/NAME.png",
        )

    def read_source(self) -> Source:
        """Return the pairs under the root."""
        root = self.find()
        images, masks = (path_below(root, part) for part in (self.images, self.masks))
        return FundusSource(images, masks, published_crop=self.published_crop)
