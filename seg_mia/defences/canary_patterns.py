"""Canaries that resemble neither the data nor each other: two textures on either side of an own outline."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, stats

from seg_mia.data.source import Image, Mask
from seg_mia.metrics.labels import IGNORE

COARSEST, FINEST = 1.5, 0.35
"""Waves of a texture: at least 1.5 over an image's shortest side, at most 0.35 over a pixel."""

SHARE = (0.3, 0.7)
"""Share of an image within the outline."""

OUTLINE = (0.03, 0.2)
"""Smoothing of the outline, over the image's shortest side."""


def distinct_canaries(
    images: Sequence[Image], masks: Sequence[Mask], *, classes: int, seed: int
) -> list[tuple[Image, Mask]]:
    """Return a canary in place of each sample, of its shapes, range of values and ignored pixels.

    Each has an outline of its own, a random class on either side, and on either side a texture: noise around
    one spatial frequency, in a colour of its own. Frequency, direction and bandwidth of all textures come
    from one Halton sequence, so that no two are alike. Voxels that the sample ignores, such as padding, keep
    their values where the mask is as large as the image.

    Args:
        images: (*S, C) each, uint8, or float32 in [0, 1].
        masks: (*s) each, uint8; where smaller than the image, its centre.
        classes: classes of a mask, at least 2.
        seed: of all draws.
    """
    points = stats.qmc.Halton(6, seed=seed).random(len(images))
    return [
        _canary(image, mask, classes, point, np.random.default_rng([seed, row]))
        for row, (image, mask, point) in enumerate(zip(images, masks, points, strict=True))
    ]


def _canary(
    image: Image, mask: Mask, classes: int, point: NDArray[np.float64], generator: np.random.Generator
) -> tuple[Image, Mask]:
    shape, ignored = image.shape[:-1], mask == IGNORE
    inside = _outline(shape, generator)
    textures = [_texture(image.shape, place, generator) for place in (point[:3], point[3:])]
    texture = np.where(inside[..., None], *textures)
    low, high = float(image.min()), float(image.max())
    values = low + (high - low) * texture
    first, second = generator.permutation(classes)[:2]
    drawn = np.where(_centre(inside, mask.shape), first, second).astype(np.uint8)
    if mask.shape == shape:
        values[ignored] = image[ignored]
    labels = np.asarray(np.where(ignored, mask, drawn), dtype=np.uint8)
    if image.dtype == np.uint8:
        return np.rint(values).astype(np.uint8), labels
    return values.astype(np.float32), labels


def _outline(shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[np.bool_]:
    """Return where a smooth random field is high, (*S)."""
    width = min(shape) * generator.uniform(*OUTLINE)
    field = ndimage.gaussian_filter(generator.normal(size=shape), width, mode="wrap")
    return np.asarray(field > np.quantile(field, 1 - generator.uniform(*SHARE)))


def _texture(
    shape: tuple[int, ...], point: NDArray[np.float64], generator: np.random.Generator
) -> NDArray[np.float64]:
    """Return noise around one frequency in a random colour, in [0, 1], (*S, C).

    Args:
        shape: of the image, (*S, C).
        point: logarithm of the frequency, direction and bandwidth, each in [0, 1].
        generator: of what is left to chance.
    """
    axes, channels = shape[:-1], shape[-1]
    lowest = COARSEST / min(axes)
    frequency = lowest * (max(FINEST, lowest) / lowest) ** point[0]
    direction = np.zeros(len(axes))
    direction[-2:] = np.sin(np.pi * point[1]), np.cos(np.pi * point[1])
    if len(axes) > 2:
        direction[:-2] = generator.normal(size=len(axes) - 2)
        direction /= np.linalg.norm(direction)
    grid = np.stack(np.meshgrid(*(np.fft.fftfreq(side) for side in axes), indexing="ij"), axis=-1)
    width = frequency * (0.05 + 0.6 * point[2])
    spectrum = sum(
        np.exp(-((grid - sign * frequency * direction) ** 2).sum(-1) / (2 * width**2)) for sign in (1, -1)
    )
    waves = np.fft.ifftn(np.fft.fftn(generator.normal(size=axes)) * spectrum).real
    colour, base = generator.normal(size=channels), generator.uniform(0.25, 0.75, size=channels)
    contrast = 0.25 * colour / max(float(np.linalg.norm(colour)), 1e-9) * channels**0.5
    coloured = base + contrast * waves[..., None] / max(float(waves.std()), 1e-9)
    return np.asarray(np.clip(coloured, 0.0, 1.0), dtype=np.float64)


def _centre(inside: NDArray[np.bool_], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return the centre of an image's outline, in the shape of its mask."""
    corner = [(whole - part) // 2 for whole, part in zip(inside.shape, shape, strict=True)]
    return inside[tuple(slice(start, start + side) for start, side in zip(corner, shape, strict=True))]
