"""Interface of sample sources."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8] | NDArray[np.float32]
Mask = NDArray[np.uint8]
PARTS = ("train", "test", "reference", "shadow", "shadow_train", "shadow_test")
"""Parts of a stated split: the victim's members, non-members and reference; samples of the shadow to draw its
members from, or its members and non-members.
"""


class Note(NamedTuple):
    """Remark on samples or files: a clause, and their names."""

    text: str
    names: tuple[str, ...]

    @property
    def line(self) -> str:
        """The clause with the first names."""
        return f"{self.text} ({listed(self.names)})" if self.names else self.text


def listed(names: Sequence[str], limit: int = 6) -> str:
    """Return the first of some names as a list."""
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")


class Source(ABC):
    """Samples that are cheap to list and are decoded one by one.

    Attributes:
        ids: one name per sample, unique, in a stable order.
        groups: the unit that must stay on one side of a split (patient, video), one per sample; the
            sample's own id where samples are independent.
        channels: image channels.
        classes: number of classes, background included; 2 for a binary mask.
        predefined_split: part of each sample in a stated split, one of PARTS; None for a random split.
        empty_cases: names of cases that give no sample.
        notes: remarks from listing the samples.
        decoded_at_once: samples that are decoded and kept in memory at once, at most; None where they are
            small.
        columns: further facts of each sample by name, as text, empty where unknown: subgroups of an audit.
    """

    ids: tuple[str, ...]
    groups: tuple[str, ...]
    channels: int
    classes: int
    predefined_split: tuple[str, ...] | None = None
    empty_cases: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()
    decoded_at_once: int | None = None
    columns: Mapping[str, tuple[str, ...]] = MappingProxyType({})

    @property
    def case_names(self) -> tuple[str, ...]:
        """Return the case of each sample, a file or folder of the data: of slices the volume."""
        return self.ids

    @abstractmethod
    def digest(self, index: int) -> str:
        """Return a hex digest of everything that the undecoded sample consists of."""

    def image_digest(self, index: int) -> str:
        """Return a hex digest of the undecoded image alone: a split must not part equal images."""
        return self.digest(index)

    @abstractmethod
    def decode(self, index: int) -> tuple[Image, Mask]:
        """Return the image (H, W, C), uint8 or float32 in [0, 1], and its mask (h, w) of class ids.

        Volumes are (D, H, W, C) with masks (D, H, W). Class id 255 marks pixels to ignore. Raises InputError
        when the sample is not what it should be.
        """

    @property
    @abstractmethod
    def settings(self) -> Mapping[str, bool | int | float | str | None]:
        """Further settings that determine decoded pixels; part of the cache key."""

    @property
    def window(self) -> str:
        """What a grey window shows of the files' values, as a clause; nothing where there is none."""
        return ""

    def window_option(self, low: float, high: float) -> str:
        """Return the options that show the values from low to high; asked where there is a window."""
        raise NotImplementedError

    def limits(self, index: int) -> tuple[float, float]:
        """Return the smallest and the largest value of the undecoded image; asked where there is a window."""
        raise NotImplementedError

    def lost(self, index: int) -> int:  # noqa: ARG002
        """Return the largest value of a mask's file that decoding made background, 0 where all of it is 0.

        Asked about empty masks alone.
        """
        return 0

    def proposed_labels(self) -> str:
        """Return the settings that fit the values of all masks, as YAML; empty if there are none."""
        return ""

    def reference(self, ids: NDArray[np.integer[Any]]) -> Mask:
        """Return the sets of labels of a deployed system's mask of label ids (h, w).

        Asked where labels may overlap. Raises InputError where masks hold no ids.
        """
        raise NotImplementedError

    def prediction(self, file: Path) -> NDArray[Any] | None:  # noqa: ARG002
        """Return a deployed system's prediction in the axes of a sample; None to read the file as it is."""
        return None

    def unpadded(self, index: int) -> tuple[int, ...] | None:  # noqa: ARG002
        """Return the lengths of a sample without the padding behind its ends; None if it has none."""
        return None

    def spacing(self, index: int) -> tuple[float, ...] | None:  # noqa: ARG002
        """Return the distance of a decoded sample's pixels along each axis in mm; None where unknown."""
        return None

    def release(self) -> None:  # noqa: B027  # most sources keep nothing
        """Let go of what decoding keeps in memory; called when all samples are decoded."""

    def __len__(self) -> int:
        return len(self.ids)
