"""Altered samples: the least typical data of a training, on which a defence is tested.

A mean over typical samples hides what a training discloses of its outliers (Aerni, Zhang, Tramèr 2024,
arXiv:2404.17399). A fixed fraction of a source's samples is altered in all networks alike; each is a member
of some networks and not of others, as any sample.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Final, Literal, assert_never, get_args

import numpy as np
from numpy.typing import NDArray

from seg_mia.data.source import Image, Mask, Source
from seg_mia.errors import InputError
from seg_mia.metrics.labels import IGNORE

Alteration = Literal["other mask", "mask inverted", "mask shifted", "image inverted", "mask empty"]
ALTERATIONS: Final[tuple[Alteration, ...]] = get_args(Alteration)
EMPTY: Final[Alteration] = "mask empty"
COLUMN: Final = "altered"
UNALTERED: Final = "unaltered"
SHIFT: Final = 0.15
"""Of the mask's sides."""


class AlteredSource(Source):
    """A source with some samples altered: one each of the groups with the lowest hash values.

    The kinds of alteration take turns: the mask of another altered sample; foreground and background
    exchanged (all foreground becomes background, and background the first class); the mask shifted by 0.15 of
    its sides; grey values inverted; the mask empty, as of an overlooked lesion. A mask that this would leave
    as it is, such as one that is empty already, is inverted instead. Ignored pixels are no foreground.

    Args:
        source: the samples.
        share: fraction of the groups with an altered sample, in (0, 0.5].

    Raises:
        InputError: a share out of range, or one that alters fewer than two samples.
    """

    def __init__(self, source: Source, share: float) -> None:
        if not 0 < share <= 0.5:
            raise InputError(
                f"altered must be a fraction above 0 and at most 0.5, got {share}; 0.05 is usual"
            )
        self.source, self.share = source, share
        self.ids, self.groups = source.ids, source.groups
        self.channels, self.classes = source.channels, source.classes
        self.predefined_split, self.empty_cases = source.predefined_split, source.empty_cases
        self.notes = source.notes
        first: dict[str, int] = {}
        for index, group in enumerate(source.groups):
            first.setdefault(group, index)
        groups = sorted(first, key=lambda group: hashlib.sha256(f"altered/{group}".encode()).digest())
        chosen = [first[group] for group in groups[: round(share * len(groups))]]
        if len(chosen) < 2:
            raise InputError(
                f"altered must be the fraction of 2 groups or more, got {share} of {len(groups)}; raise it"
            )
        self.kinds: dict[int, Alteration] = {
            index: ALTERATIONS[number % len(ALTERATIONS)] for number, index in enumerate(chosen)
        }
        self._donors = dict(zip(chosen, [*chosen[1:], chosen[0]], strict=True))
        labels = (self.kinds.get(index, UNALTERED) for index in range(len(source.ids)))
        self.columns = {**source.columns, COLUMN: tuple(labels)}

    @property
    def case_names(self) -> tuple[str, ...]:
        """As of the source."""
        return self.source.case_names

    def digest(self, index: int) -> str:
        """Return a digest of the sample and its alteration."""
        plain = self.source.digest(index)
        if index not in self.kinds:
            return plain
        parts = [plain, self.kinds[index], self.source.digest(self._donors[index])]
        return hashlib.sha256("/".join(parts).encode()).hexdigest()

    def image_digest(self, index: int) -> str:
        """Return the digest of the unaltered image: an altered copy shows the same patient."""
        return self.source.image_digest(index)

    def decode(self, index: int) -> tuple[Image, Mask]:
        """Return the sample, altered if it is one of the chosen."""
        image, mask = self.source.decode(index)
        if index not in self.kinds:
            return image, mask
        match self.kinds[index]:
            case "image inverted":
                return negative(image), mask
            case "mask inverted":
                return image, inverted(mask)
            case "mask empty":
                return image, _changed(mask, emptied(mask))
            case "mask shifted":
                return image, _changed(mask, shifted(mask))
            case "other mask":
                return image, _changed(mask, _fitted(self.source.decode(self._donors[index])[1], mask.shape))
            case kind:
                assert_never(kind)

    @property
    def settings(self) -> Mapping[str, bool | int | float | str | None]:
        """Return those of the source, and the share."""
        return {**self.source.settings, "altered": self.share}

    @property
    def window(self) -> str:
        """As of the source."""
        return self.source.window

    def window_option(self, low: float, high: float) -> str:
        """As of the source."""
        return self.source.window_option(low, high)

    def limits(self, index: int) -> tuple[float, float]:
        """As of the source."""
        return self.source.limits(index)

    def lost(self, index: int) -> int:
        """As of the source; 0 for an altered sample, whose mask has another content than its file."""
        return 0 if index in self.kinds else self.source.lost(index)

    def proposed_labels(self) -> str:
        """Return the settings that fit the values of all masks."""
        return self.source.proposed_labels()

    def reference(self, ids: NDArray[np.integer[Any]]) -> Mask:
        """As of the source."""
        return self.source.reference(ids)

    def spacing(self, index: int) -> tuple[float, ...] | None:
        """As of the source."""
        return self.source.spacing(index)

    def release(self) -> None:
        """As of the source."""
        self.source.release()


def with_altered(source: Source, share: float) -> Source:
    """Return the source with a fraction of its groups altered, the source itself for 0."""
    return AlteredSource(source, share) if share else source


def negative(image: Image) -> Image:
    """Return an image with grey values inverted within its range."""
    if image.dtype == np.uint8:
        return (255 - image).astype(np.uint8)
    return (1 - image).astype(np.float32)


def inverted(mask: Mask) -> Mask:
    """Return a mask whose foreground is background and whose background is class 1."""
    return np.where(mask == IGNORE, mask, mask == 0).astype(np.uint8)


def emptied(mask: Mask) -> Mask:
    """Return a mask whose foreground is background."""
    return np.where(mask == IGNORE, mask, 0).astype(np.uint8)


def shifted(mask: Mask) -> Mask:
    """Return a mask (..., h, w) moved by `SHIFT` of its sides down and to the right; what enters is 0.

    Ignored pixels move along in images, and stay in volumes, whose padding they are.
    """
    down, right = (max(1, round(SHIFT * side)) for side in mask.shape[-2:])
    result = np.zeros_like(mask)
    result[..., down:, right:] = mask[..., :-down, :-right]
    if mask.ndim == 2:
        return result
    return np.where(mask == IGNORE, IGNORE, np.where(result == IGNORE, 0, result)).astype(np.uint8)


def _changed(mask: Mask, altered: Mask) -> Mask:
    """Return the altered mask, or the inverted one if the altered one shows the same."""
    before, after = (np.where(labels == IGNORE, 0, labels) for labels in (mask, altered))
    return inverted(mask) if np.array_equal(before, after) else altered


def _fitted(mask: Mask, shape: tuple[int, ...]) -> Mask:
    """Return a mask at another size, by nearest neighbour."""
    positions = [
        np.minimum((np.arange(side) + 0.5) * old // side, old - 1).astype(np.int64)
        for side, old in zip(shape, mask.shape, strict=True)
    ]
    return np.asarray(mask[np.ix_(*positions)], dtype=np.uint8)
