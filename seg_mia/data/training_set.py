"""Samples that a network is trained on."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from seg_mia.data.augment import Augmentation, augmenter
from seg_mia.data.patches import AugmentedPatches, Patches
from seg_mia.data.samples import Change
from seg_mia.data.source import Image
from seg_mia.errors import InputError


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Training samples, and the masks and images that replace their own.

    Attributes:
        indices: data-set indices of the samples, (n,).
        labels: a mask (*s) for each index trained on something other than its ground truth.
        images: an image (*S, C) for each index trained on another image.
    """

    indices: NDArray[np.int64]
    labels: Mapping[int, NDArray[np.uint8]] = field(default_factory=dict)
    images: Mapping[int, Image] = field(default_factory=dict)

    def extended(self, added: "TrainingSet") -> Self:
        """Return these samples followed by further ones."""
        return type(self)(
            np.concatenate([self.indices, added.indices]),
            {**self.labels, **added.labels},
            {**self.images, **added.images},
        )


def check_unevaluated(indices: NDArray[np.int64], evaluated: Collection[int]) -> None:
    """Raise InputError if further training samples are among those that attacks and validation evaluate."""
    if not set(evaluated).isdisjoint(indices.tolist()):
        raise InputError("further training samples must come from the reference, got evaluated samples")


def training_changes(
    augment: Augmentation, patch: Sequence[int] | None, foreground: float, *, seed: int, axes: int
) -> tuple[Change, ...]:
    """Return the changes of training samples: an augmented patch; of volumes, flips, then a patch.

    A whole image need not be augmented for one patch. The flips of a volume are views.

    Args:
        augment: policy of the augmentation.
        patch: lengths of the patches; whole samples if None.
        foreground: share of patches centred on a foreground pixel.
        seed: seed of the training.
        axes: spatial axes of the samples.
    """
    part = None if patch is None else Patches(patch, foreground, seed)
    if part is not None and axes == 2 and augment != "none":
        return (AugmentedPatches(part, augment),)
    changes: list[Change | None] = [augmenter(augment, seed, axes=axes), part]
    return tuple(change for change in changes if change is not None)
