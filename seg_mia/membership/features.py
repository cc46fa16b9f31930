"""Statistics of an image and its mask that predict how hard the sample is for any network."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from seg_mia.membership.arrays import Values
from seg_mia.metrics.label_sets import label_names
from seg_mia.metrics.labels import IGNORE


def sample_statistics(image: NDArray[np.floating], mask: NDArray[np.integer], classes: int) -> Values:
    """Return statistics of an image and its mask, (3 C + 1 + 6 (classes - 1),), or 6 for each label of sets.

    Of each channel: mean, standard deviation, and log of the mean absolute second difference (sharpness).
    The fraction of ignored pixels. Of each foreground class: the square root of its fraction of the valid
    pixels; the length of its border and its number of components, as log(1 + number); the differences of mean
    and standard deviation inside and outside, averaged over channels; and the mean gradient on its border
    over that of the image. The last three are 0 for a class that is absent or fills the image.

    Args:
        image: in [0, 1], (C, *S); of volumes the box of the valid voxels, without the padding.
        mask: class ids (*S), 255 where ignored.
        classes: number of classes, with the background as 0.
    """
    if mask.ndim == 3:
        image, mask = _unpadded(image, mask)
    pixels, valid = np.asarray(image, dtype=np.float64), mask != IGNORE
    long = [axis for axis in range(1, pixels.ndim) if pixels.shape[axis] > 1]
    slope = sum((np.abs(np.gradient(pixels, axis=axis)) for axis in long), np.zeros_like(pixels)).mean(axis=0)
    curved = [np.abs(ndimage.laplace(channel)).mean() for channel in pixels]
    space = tuple(range(1, pixels.ndim))
    general = [*pixels.mean(axis=space), *pixels.std(axis=space), *np.log(np.array(curved) + 1e-6)]
    numbers = [*general, float(1 - valid.mean())]
    labels = len(label_names(classes))
    parts = (
        [(mask >> label & 1 == 1) & valid for label in range(labels)]
        if labels
        else [mask == number for number in range(1, classes)]
    )
    for inner in parts:
        numbers += _of_class(pixels, slope, inner, valid)
    return np.array(numbers, dtype=np.float64)


def _unpadded(
    image: NDArray[np.floating], mask: NDArray[np.integer]
) -> tuple[NDArray[np.floating], NDArray[np.integer]]:
    """Return a volume (C, D, H, W) and its mask cut to the box of valid voxels, whole without any."""
    valid = mask != IGNORE
    if not valid.any():
        return image, mask
    filled = (np.flatnonzero(valid.any(tuple({0, 1, 2} - {axis}))) for axis in range(3))
    box = tuple(slice(int(places[0]), int(places[-1]) + 1) for places in filled)
    return image[(slice(None), *box)], mask[box]


def _of_class(
    pixels: Values, slope: Values, inner: NDArray[np.bool_], valid: NDArray[np.bool_]
) -> list[float]:
    """Return the statistics of a class's pixels."""
    outer = valid & ~inner
    border = inner & ~ndimage.binary_erosion(inner, border_value=1)
    fraction = float(inner.sum() / max(1, int(valid.sum())))
    size = [fraction**0.5, float(np.log1p(border.sum())), float(np.log1p(ndimage.label(inner)[1]))]
    if not inner.any() or not outer.any():
        return [*size, 0.0, 0.0, 0.0]
    interior, surround = pixels[:, inner], pixels[:, outer]
    contrast = np.abs(interior.mean(axis=1) - surround.mean(axis=1)).mean()
    texture = (interior.std(axis=1) - surround.std(axis=1)).mean()
    edge = slope[border].mean() / (slope.mean() + 1e-6) if border.any() else 0.0
    return [*size, float(contrast), float(texture), float(edge)]
