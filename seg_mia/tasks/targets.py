"""Target masks of an attack, for each sample of a test set."""

from collections.abc import Mapping
from pathlib import Path
from typing import assert_never

import numpy as np
import torch
from torch import Tensor

from seg_mia.attacks.base import Perturbation
from seg_mia.attacks.targets import (
    Targeted,
    TargetKind,
    mean_iou_matrix,
    nearest_other,
    need_two,
    random_other,
)
from seg_mia.data.base import SegmentationData
from seg_mia.data.images.mask_coding import refuse_lost
from seg_mia.data.images.reading import list_files, read_mask
from seg_mia.data.samples import Batch
from seg_mia.errors import InputError
from seg_mia.metrics.label_sets import label_names
from seg_mia.metrics.labels import IGNORE, padding
from seg_mia.results.files import file_name


class TargetMasks:
    """Target masks of the tested samples; the ground truth for untargeted attacks.

    Masks of other samples come from the whole subset, so a target depends only on the sample and the seed of
    the attack, not on batches, ranks or the number of tested samples.

    Attributes:
        similarity: mean IoU between all masks of the subset, (n, n), if it determines the targets.
    """

    def __init__(self, attack: Perturbation, data: SegmentationData) -> None:
        self.similarity: Tensor | None = None
        is_targeted = isinstance(attack, Targeted) and attack.is_targeted
        self.chosen = self._choose(attack, data) if is_targeted else None  # type: ignore[arg-type]
        self.row = {int(index): row for row, index in enumerate(data.scored(data.subset))}

    def __call__(self, batch: Batch) -> Tensor:
        """Return int64 masks (N, *s) on the device of the batch; the sample's padding is ignored."""
        if self.chosen is None:
            return batch.mask
        rows = [self.row[int(index)] for index in batch.index]
        return self.chosen[rows].long().to(batch.mask.device).masked_fill(padding(batch.mask), IGNORE)

    def _choose(self, attack: Targeted, data: SegmentationData) -> Tensor:
        classes = data.source.classes
        masks = torch.from_numpy(np.array(data.cached.masks[data.scored(data.subset)]))
        kind: TargetKind = attack.target
        match kind:
            case "random":
                return masks[random_other(len(masks), attack.target_seed)]
            case "nearest":
                self.similarity = mean_iou_matrix(masks, classes)
                return masks[nearest_other(self.similarity)]
            case "white":
                return torch.full_like(masks, _class_or_bit(attack.target_class, classes))
            case "removed":
                return without(masks, _class_or_bit(attack.target_class, classes), classes)
            case "black":
                return torch.zeros_like(masks)
            case "folder":
                return _from_folder(Path(str(attack.target_folder)), data, masks)
            case _:
                assert_never(kind)


def check_targets(attack: Perturbation, data: SegmentationData) -> None:
    """Raise InputError for targets that the evaluated samples cannot have.

    Args:
        attack: the attack; one without a target passes.
        data: opened and divided.
    """
    if not isinstance(attack, Targeted) or not attack.is_targeted:
        return
    if attack.target in {"random", "nearest"}:
        need_two(len(data.scored(data.subset)), attack.target)
    elif attack.target in {"white", "removed"}:
        _class_or_bit(attack.target_class, data.source.classes)
    elif attack.target == "folder":
        _check_folder(Path(str(attack.target_folder)), data)


def _class_or_bit(number: int, classes: int) -> int:
    """Return a foreground class, or for labels that may overlap the set of the label of this number alone."""
    names = label_names(classes)
    if number >= (len(names) + 1 if names else classes):
        raise InputError(
            f"target_class must be below the {classes} classes, got {number}"
            if not names
            else f"target_class must be a label from 1 to {len(names)} ({', '.join(names)}), got {number}"
        )
    return 1 << number - 1 if names else number


def without(masks: Tensor, removed: int, classes: int) -> Tensor:
    """Return masks (n, *S) with a class as background, or without a label of sets (its bit); 255 stays."""
    if not label_names(classes):
        return masks.masked_fill(masks == removed, 0)
    return torch.where(masks == IGNORE, masks, masks & (255 ^ removed))


def _from_folder(folder: Path, data: SegmentationData, masks: Tensor) -> Tensor:
    """Return a copy of the subset's masks; those of tested samples come from files."""
    files, names = _check_folder(folder, data)
    chosen = masks.clone()
    for row, index in enumerate(data.scored(data.subset).tolist()):
        if index in names:
            file = files[names[index]]
            mask = _target_mask(file, data.source.classes)
            if mask.shape != tuple(masks.shape[1:]):
                raise InputError(
                    f"target mask {file} must have the shape of the victim's predictions "
                    f"{tuple(masks.shape[1:])}, got {mask.shape}; resize it"
                )
            chosen[row] = torch.from_numpy(mask)
    return chosen


def _check_folder(folder: Path, data: SegmentationData) -> tuple[Mapping[str, Path], dict[int, str]]:
    """Return a folder's files, and the names of those of tested samples; InputError if one is missing."""
    files = list_files(folder)
    names = {index: file_name(data.source.ids[index]) for index in data.attacked().tolist()}
    missing = [name for name in names.values() if name not in files]
    if missing:
        raise InputError(
            f"target folder {folder} must hold a mask for each of the {len(names)} tested images, "
            f"{len(missing)} are "
            f"missing, the first is {missing[0]!r}; add them or test fewer (--data.limit)"
        )
    return files, names


def _target_mask(path: Path, classes: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Read class ids; for two classes also 0 and 255, the output of `predict`."""
    try:
        mask = read_mask(path, threshold=None, classes=classes, remedy="save the victim's class ids")
    except InputError:
        if classes != 2:
            raise
        refuse_lost(path, 127, below=128)
        return read_mask(path, threshold=127, classes=classes)
    if classes == 2 and not (mask == 1).any():
        return np.asarray(mask == IGNORE, dtype=np.uint8)  # 255 without any 1 denotes white
    return mask
