"""Training patches, determined by seed, epoch and sample alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_mia.data.augment import Augmentation, Augmenter, margins
from seg_mia.data.source import Image, Mask
from seg_mia.errors import InputError, refuse_idle
from seg_mia.metrics.labels import IGNORE

_STREAM = 1
"""Number of this draw beside that of the augmentation, which has none."""


_COUNTED = 2**16
"""Pixels of a mask that are counted at once: counting takes eight bytes for each."""


class Patches:
    """Draws one patch of a sample, the same of image and mask.

    A share of the patches is centred on a foreground pixel, as far as the borders allow: a class is drawn
    among those present, then one of its pixels. The others lie anywhere; where such a patch has no labelled
    pixel, as in padding, it is centred on one. A patch is a function of (seed, epoch, index): the number of
    workers, the order of samples and an interruption do not change it.

    Args:
        size: lengths of a patch, one for each spatial axis, at most those of a sample.
        foreground: share of patches centred on foreground, in [0, 1].
        seed: seed of all draws.
    """

    def __init__(self, size: Sequence[int], foreground: float, seed: int) -> None:
        self.size, self.foreground, self.seed = tuple(size), foreground, seed

    def __call__(self, image: Image, mask: Mask, *, epoch: int, index: int) -> tuple[Image, Mask]:
        """Return the patch of an image (*S, C) and its mask (*S), as views."""
        part = self.part(mask, epoch=epoch, index=index)
        return image[part], mask[part]

    def part(self, mask: Mask, *, epoch: int, index: int) -> tuple[slice, ...]:
        """Return the place of the patch, by the mask (*S) of the whole sample."""
        draw = np.random.default_rng([self.seed, epoch, index, _STREAM])
        on_foreground = draw.random() < self.foreground
        starts = [
            int(draw.integers(whole - side + 1)) for whole, side in zip(mask.shape, self.size, strict=True)
        ]
        classes = [int(kind) for kind in np.flatnonzero(class_counts(mask)) if kind not in (0, IGNORE)]
        if on_foreground and classes:
            return self._around(mask, mask == draw.choice(classes), draw)
        part = self._slices(starts)
        if (mask[part] == IGNORE).all() and (mask != IGNORE).any():
            return self._around(mask, mask != IGNORE, draw)
        return part

    def _around(self, mask: Mask, chosen: NDArray[np.bool_], draw: np.random.Generator) -> tuple[slice, ...]:
        """Return the patch around one of the chosen pixels."""
        reached = np.count_nonzero(chosen.reshape(len(chosen), -1), axis=1).cumsum()
        number = int(draw.integers(int(reached[-1])))  # in row order
        row = int(np.searchsorted(reached, number, side="right"))
        before = int(reached[row - 1]) if row else 0
        place = np.flatnonzero(chosen[row])[number - before]
        centre = (row, *np.unravel_index(place, mask.shape[1:]))
        return self._slices(
            [
                min(max(int(middle) - side // 2, 0), whole - side)
                for middle, whole, side in zip(centre, mask.shape, self.size, strict=True)
            ]
        )

    def _slices(self, starts: Sequence[int]) -> tuple[slice, ...]:
        return tuple(slice(start, start + side) for start, side in zip(starts, self.size, strict=True))


class AugmentedPatches:
    """Augments a patch with what surrounds it, which rotation and translation move into it.

    Beyond the sample lie black and ignored pixels, as in the augmentation of whole samples. A patch that
    would have no labelled pixel any more is not augmented.

    Args:
        patches: draws the patches (H, W).
        policy: of the augmentation.
    """

    def __init__(self, patches: Patches, policy: Augmentation) -> None:
        self.patches, self.augment = patches, Augmenter(policy, patches.seed)
        self.margins = margins(policy, patches.size)

    def __call__(self, image: Image, mask: Mask, *, epoch: int, index: int) -> tuple[Image, Mask]:
        """Return the augmented patch of an image (H, W, C) and its mask (H, W)."""
        part = self.patches.part(mask, epoch=epoch, index=index)
        cut = self._surrounded(image, part, 0), self._surrounded(mask, part, IGNORE)
        inner = tuple(
            slice(edge, edge + side) for edge, side in zip(self.margins, self.patches.size, strict=True)
        )
        augmented, labels = self.augment(*cut, epoch=epoch, index=index)
        if (labels[inner] == IGNORE).all():
            return image[part], mask[part]
        return augmented[inner], labels[inner]

    def _surrounded(self, values: NDArray[Any], part: tuple[slice, ...], outside: int) -> NDArray[Any]:
        """Return a part and its margins, filled outside of the sample."""
        held, beyond = list[slice](), [(0, 0)] * values.ndim
        for axis, (edge, margin) in enumerate(zip(part, self.margins, strict=True)):
            start, stop, length = edge.start - margin, edge.stop + margin, values.shape[axis]
            held.append(slice(max(start, 0), min(stop, length)))
            beyond[axis] = (max(-start, 0), max(stop - length, 0))
        return np.pad(values[tuple(held)], beyond, constant_values=outside)


def class_counts(mask: Mask) -> NDArray[np.int64]:
    """Return the number of pixels of each value of a mask (*S), (256,)."""
    values = mask.reshape(-1)
    counts = np.zeros(256, np.int64)
    for start in range(0, values.size, _COUNTED):
        counts += np.bincount(values[start : start + _COUNTED], minlength=256)
    return counts


def check_patch(patch: Sequence[int] | None, foreground: float) -> None:
    """Raise InputError for settings out of range."""
    if patch is not None and (len(patch) not in (2, 3) or min(patch) < 1):
        raise InputError(
            f"patch must be [H, W], or [D, H, W] of volumes, in pixels, got {list(patch)}; leave it out to "
            "train on whole samples"
        )
    if not 0 <= foreground <= 1:
        raise InputError(f"patch_foreground must lie in [0, 1], got {foreground}; 0.33 is usual")
    if patch is None:
        refuse_idle("without patch", patch_foreground=(foreground, 0.33))


def check_fit(
    patch: Sequence[int] | None, policy: Augmentation, image: Sequence[int], mask: Sequence[int]
) -> None:
    """Raise InputError unless patches and augmentation suit images (*S) and masks (*s) of these sizes."""
    if policy == "standard" and len(mask) > 2:
        raise InputError(f"volumes are augmented by flips alone, got {policy}; use --data.augment flip")
    if (patch is not None or policy != "none") and tuple(image) != tuple(mask):
        name, remedy = ("patches need", "leave out patch") if patch else ("augmentation needs", "use none")
        raise InputError(
            f"{name} images and masks of one size, got {tuple(image)} and {tuple(mask)}; {remedy} "
            "(--data.augment none)"
        )
    if patch is None:
        return
    if len(patch) != len(mask) or any(side > whole for side, whole in zip(patch, mask, strict=True)):
        raise InputError(
            f"patch must have {len(mask)} lengths, at most those of the samples "
            f"{'x'.join(map(str, mask))}, got {list(patch)}; shorten it"
        )
