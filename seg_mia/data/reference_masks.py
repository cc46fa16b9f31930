"""Masks that a deployed system has predicted, in the formats of audits of predictions."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seg_mia.data.base import SegmentationData
from seg_mia.data.prediction_files.arrays import KINDS, array_of, is_numpy
from seg_mia.data.prediction_files.content import Fit, fits, kind_of, logits_of, mask_of
from seg_mia.data.root import path_below
from seg_mia.data.source import Source
from seg_mia.data.stated_parts import without_ending
from seg_mia.data.volumes.itk_file import SUFFIXES as ITK
from seg_mia.errors import InputError, name_some
from seg_mia.models.heads import predicted

IDS = 65536
"""Label ids of masks are below it."""


def reference_files(folder: Path, data: SegmentationData) -> dict[int, Path]:
    """Return the file of each sample with a prediction in a folder, by its index in the data set.

    Files are named by sample, or by the last part of its name. Of a mask and an array of one name, such as
    nnU-Net writes, the mask counts.

    Args:
        folder: of the predictions.
        data: after setup.

    Raises:
        InputError: no folder, or no file of a sample.
    """
    if not folder.is_dir():
        raise InputError(f"reference predictions must be a folder, found none at {folder}; correct the path")
    endings = (*(ending.strip() for ending in KINDS.split(",")), *ITK)
    names = dict[str, Path]()
    for path in sorted(folder.rglob("*"), key=lambda path: (not is_numpy(path), path)):
        if path.name.lower().endswith(endings):
            names[without_ending(path.relative_to(folder).as_posix())] = path_below(
                folder, str(path.relative_to(folder))
            )
    files = dict[int, Path]()
    for index, name in enumerate(data.source.ids):
        file = names.get(name) or names.get(name.rpartition("/")[2])
        if file is not None:
            files[index] = file
    if not files:
        raise InputError(
            f"{folder} must hold predictions ({KINDS}) named by sample, such as {data.source.ids[0]}, got "
            f"{name_some(list(names)) if names else 'none'}; rename them"
        )
    return files


def reference_ids(file: Path, shape: tuple[int, ...], source: Source) -> NDArray[np.int64]:
    """Return the label id of each pixel in a mask file, (*s).

    Args:
        file: label ids, from 0 to 65535.
        shape: of the mask.
        source: samples, in whose axes volumes are read.

    Raises:
        InputError: an invalid file, other values, or a mask of another size.
    """
    fit = next((fit for fit in _readings(file, shape, source) if not fit.channels), None)
    if fit is None:
        raise InputError(f"{file} must be a mask of label ids, got channels; name the folder of masks")
    return mask_of(fit.values, IDS, None, str(file)).reshape(shape)


def reference_mask(file: Path, shape: tuple[int, ...], source: Source) -> Tensor:
    """Return the class of each pixel in a prediction file, (*s).

    Args:
        file: probabilities, a foreground map or labels.
        shape: of the mask.
        source: samples, in whose axes volumes are read, and whose classes they show.

    Raises:
        InputError: an invalid file, or a prediction of another size.
    """
    readings, classes = _readings(file, shape, source), source.classes
    kinds = [(fit, kind_of(fit, classes)) for fit in readings]
    fit, kind = next(((fit, kind) for fit, kind in kinds if kind is not None), kinds[0])
    logits = torch.from_numpy(logits_of(fit, kind or "labels", classes, str(file)))
    return predicted(logits[None])[0].reshape(shape)


def _readings(file: Path, shape: tuple[int, ...], source: Source) -> list[Fit]:
    """Return the readings of a file in a mask's axes; InputError for another size."""
    turned = source.prediction(file)
    values = array_of(file) if turned is None else turned
    spatial = tuple(side for side in shape if side != 1)
    readings = fits(values, spatial, channel_axis=None, reverse=False)
    if not readings:
        raise InputError(
            f"{file} must have the size of its mask, {'x'.join(map(str, shape))}, got "
            f"{'x'.join(map(str, values.shape))}: the data is read at another size than the deployed "
            "system's; "
            "leave out --data.size, or save predictions at that size"
        )
    return readings
