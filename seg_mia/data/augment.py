"""Training augmentation, determined by seed, epoch and sample alone."""

import os
from collections.abc import Sequence
from itertools import combinations
from random import Random
from typing import Literal, assert_never

import numpy as np
from numpy.typing import NDArray

from seg_mia.data.source import Image, Mask
from seg_mia.metrics.labels import IGNORE

os.environ.setdefault(
    "NO_ALBUMENTATIONS_UPDATE", "1"
)  # it would ask the network for a newer version of itself

import albumentations as A  # noqa: N812  # after the line above; A is the name its users know

Augmentation = Literal["none", "flip", "standard"]

_SMALLEST, _SHIFT, _DEGREES = 0.9, 0.06, 15
"""Of `standard`: least scale, and most translation, as a share of the image, and rotation."""


class Augmenter:
    """One augmentation policy, the same for image and mask.

    A sample's change is a function of (seed, epoch, index): the number of workers, the order of samples and
    an interruption do not change it.
    """

    def __init__(self, policy: Augmentation, seed: int) -> None:
        self.seed = seed
        self.pipeline = A.Compose(_transforms(policy))

    def __call__(self, image: Image, mask: Mask, *, epoch: int, index: int) -> tuple[Image, Mask]:
        """Return the changed image (H, W, C), same dtype, and mask (h, w), as copies.

        A mask of another size than its image (an unpadded network's) is refused by the pipeline.
        """
        draw = np.random.SeedSequence([self.seed, epoch, index])
        # One stream for all steps; set_random_seed would start each at the same number, so that all of them
        # happen or none.
        self.pipeline.set_random_state(np.random.default_rng(draw), Random(int(draw.generate_state(1)[0])))
        changed = self.pipeline(image=np.array(image), mask=np.array(mask))
        return _channels_last(changed["image"]), changed["mask"]


class VolumeFlips:
    """Flips of a volume along each of its three axes, with probability 0.5 each.

    A sample's flips are a function of (seed, epoch, index).
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __call__(self, image: Image, mask: Mask, *, epoch: int, index: int) -> tuple[Image, Mask]:
        """Return views of the volume (D, H, W, C) and its mask (D, H, W)."""
        draws = np.random.default_rng([self.seed, epoch, index]).random(3)
        axes = tuple(int(axis) for axis in np.flatnonzero(draws < 0.5))
        return np.flip(image, axes), np.flip(mask, axes)


def augmenter(policy: Augmentation, seed: int, *, axes: int) -> Augmenter | VolumeFlips | None:
    """Return a policy for samples with two or three spatial axes; None for `none`. Volumes are flipped."""
    if policy == "none":
        return None
    return Augmenter(policy, seed) if axes == 2 else VolumeFlips(seed)


def margins(policy: Augmentation, size: Sequence[int]) -> tuple[int, ...]:
    """Return the pixels on each side of a patch (h, w) that its augmentation may move into it."""
    if policy != "standard":
        return (0,) * len(size)
    cosine, sine = np.cos(np.radians(_DEGREES)), np.sin(np.radians(_DEGREES))
    turned = np.array([[cosine, sine], [sine, cosine]]) / _SMALLEST
    # The translation is a share of the whole that is cut: whole = turned (size + 2 shift whole).
    whole = np.linalg.solve(np.eye(2) - 2 * _SHIFT * turned, turned @ np.asarray(size, np.float64))
    return tuple(int(np.ceil((most - side) / 2)) + 1 for most, side in zip(whole, size, strict=True))


def mirrored_axes(policy: Augmentation, *, axes: int) -> tuple[tuple[int, ...], ...]:
    """Return the sets of axes along which a policy flips samples (..., *S), the empty one first."""
    match policy:
        case "none":
            return ((),)
        case "standard":
            return ((), (-1,))
        case "flip":
            chosen = range(-1, -axes - 1, -1)
            return tuple(some for count in range(axes + 1) for some in combinations(chosen, count))
        case _:
            assert_never(policy)


def _transforms(policy: Augmentation) -> "list[A.BasicTransform]":
    match policy:
        case "none":
            return []
        case "flip":
            return [A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)]
        case "standard":
            return [
                A.HorizontalFlip(p=0.5),
                A.Affine(
                    scale=(_SMALLEST, 1.1),
                    translate_percent=(-_SHIFT, _SHIFT),
                    rotate=(-_DEGREES, _DEGREES),
                    fill_mask=IGNORE,
                    p=0.7,
                ),
                A.RandomBrightnessContrast(brightness_limit=0.1, contrast_limit=0.1, p=0.5),
            ]
        case _:
            assert_never(policy)


def _channels_last(image: NDArray[np.uint8] | NDArray[np.float32]) -> Image:
    return image if image.ndim == 3 else image[..., None]
