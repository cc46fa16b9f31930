"""Target masks of targeted attacks."""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from seg_mia.attacks.white_box import WhiteBox
from seg_mia.errors import InputError, refuse_idle
from seg_mia.metrics.label_sets import label_names
from seg_mia.metrics.labels import IGNORE
from seg_mia.models.replacement import StandIn

TargetKind = Literal["random", "nearest", "white", "black", "removed", "folder"]


class Targeted(WhiteBox):
    """A perturbation with a target mask.

    Args:
        target: the mask to be predicted. `random`: the mask of another sample, one per image; `nearest`: the
            other mask of highest mean IoU with the image's own; `white`: `target_class` everywhere; `black`:
            background everywhere; `removed`: the true mask without `target_class`; `folder`: a file.
        target_class: class of the `white` and the `removed` mask; where labels may overlap, the
            number of a label, from 1.
        target_folder: folder of masks named like the images: class ids, or black and white for two classes;
            sets of labels that may overlap: bit k, of value 2^k, is 1 where the pixel has label k, counted
            from 0.
        target_seed: seed of the `random` draw; an image's target depends only on the seed and the set of
            masks.
        surrogate: checkpoint or run folder of the attacker's surrogate network; each image is also attacked
            on it, to evaluate transfer to the victim.
        replace: layers by class path, with the stand-in that provides the gradient of each.
        sanity_images: on how many images to check that the victim's gradients can be followed; 0: none.
        knobs: options of the function.
    """

    def __init__(
        self,
        *,
        target: TargetKind = "random",
        target_class: int = 1,
        target_folder: str | None = None,
        target_seed: int = 0,
        surrogate: str | None = None,
        replace: dict[str, StandIn] | None = None,
        sanity_images: int = 0,
        **knobs: Any,
    ) -> None:
        self._follow(surrogate, replace, sanity_images)
        self.target: TargetKind = target
        self.target_class = target_class
        self.target_folder = target_folder
        self.target_seed = target_seed
        self.knobs = knobs
        self.check_knobs()

    def check_knobs(self) -> None:
        """Raise InputError for an impossible target or options out of range."""
        super().check_knobs()
        if self.target_class < 1:
            raise InputError(f"target_class must be a foreground class, 1 or more, got {self.target_class}")
        if (self.target == "folder") != (self.target_folder is not None):
            raise InputError(
                f"target 'folder' and target_folder must be given together, got target {self.target!r} and "
                f"target_folder {self.target_folder!r}"
            )
        where = f"on target {self.target!r}" if self.is_targeted else "on an attack without a target"
        if not self.is_targeted or self.target not in {"white", "removed"}:
            refuse_idle(where, target_class=(self.target_class, 1))
        if not self.is_targeted or self.target != "random":
            refuse_idle(where, target_seed=(self.target_seed, 0))

    @property
    def is_targeted(self) -> bool:
        """Whether the attack has a target mask."""
        return True


class Directed(Targeted):
    """A perturbation to a target mask, or away from the ground truth (option `targeted`)."""

    def check_knobs(self) -> None:
        """Also raise InputError for a target given to an untargeted attack."""
        super().check_knobs()
        if not self.is_targeted and self.target != "random":
            raise InputError(
                f"target {self.target!r} applies only to targeted attacks; add targeted true, or "
                "set target to random"
            )

    @property
    def is_targeted(self) -> bool:
        """Whether the attack has a target mask; otherwise the target is the ground truth."""
        return bool(self.settings["targeted"])


def random_other(count: int, seed: int) -> Tensor:
    """Return for each of `count` samples the index of a different one, drawn uniformly, int64 (count,).

    Raises InputError for fewer than two samples.
    """
    need_two(count, "random")
    draws = torch.from_numpy(np.random.default_rng(seed).integers(0, count - 1, count))
    return draws + (draws >= torch.arange(count))  # skips the sample itself, the others stay equally likely


def nearest_other(similarity: Tensor) -> Tensor:
    """Return for each mask the index of the most similar other one, int64 (n,); ties go to the lowest index.

    Args:
        similarity: (n, n), mean IoU of the row's mask with the column's, from `mean_iou_matrix`.
    """
    need_two(len(similarity), "nearest")
    itself = torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)
    return similarity.masked_fill(itself, -1).argmax(1)


def mean_iou_matrix(masks: Tensor, classes: int) -> Tensor:
    """Return the (n, n) mean IoU of row's mask against column's, over the classes in the row's.

    Of label sets over the labels in the row's mask and the pixels without a label, as
    `seg_mia.metrics.overlap.mean_iou`. Computed with one matrix product per class; pixels ignored (255) in
    either mask are excluded.
    Memory: 2 n p + 6 n^2 floats, p pixels per mask.
    """
    flat = masks.flatten(1)
    valid = (flat != IGNORE).float()
    all_valid = bool(valid.all())  # then areas alone make the unions: one product a class instead of three
    total = torch.zeros(len(flat), len(flat), device=masks.device)
    classes_present = torch.zeros(len(flat), 1, device=masks.device)
    for pixels in _memberships(flat, classes):
        of_class = pixels.float()
        both = of_class @ of_class.T
        area = of_class.sum(1)
        sums = area.unsqueeze(1) + area if all_valid else of_class @ valid.T + valid @ of_class.T
        either = sums - both
        present = of_class.any(1, keepdim=True)
        total += torch.where(present, both / either.clamp(min=1), 0.0)
        classes_present += present
    return total / classes_present.clamp(min=1)


def _memberships(masks: Tensor, classes: int) -> Iterator[Tensor]:
    """Yield the pixels of each class, bool; of label sets those without a label, then those of each."""
    if not (names := label_names(classes)):
        yield from (masks == value for value in range(classes))
        return
    yield masks == 0
    yield from ((masks >> label & 1 == 1) & (masks != IGNORE) for label in range(len(names)))


def need_two(count: int, kind: str) -> None:
    """Raise InputError for a kind of target that is another sample's mask, in a set of one."""
    if count < 2:
        raise InputError(
            f"target {kind!r} needs another sample's mask, got a set of {count}; attack another subset "
            "(--data.subset) or choose white, black or folder"
        )
