"""Sanity check of externally trained networks: segmentation quality and likely causes of failure."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from seg_mia.data.base import SegmentationData
from seg_mia.errors import InputError
from seg_mia.metrics.label_sets import label_names
from seg_mia.metrics.shapes import axes
from seg_mia.models.heads import final, predicted
from seg_mia.models.imagenet import MEAN, STD
from seg_mia.models.prompts import prompts_from
from seg_mia.tasks.head_choice import foreground
from seg_mia.tasks.sample_check import answered, labelled

POOR = 0.1
"""Mean Dice below which a network counts as not segmenting, for any structure."""
_CLEARLY = 0.2
_USUAL = (
    "usual causes: normalisation (images are in [0, 1]), order of channels or classes, window or size that "
    "differ from its training"
)

Change = Callable[[Tensor], Tensor]


def warning(network: nn.Module, data: SegmentationData) -> str | None:
    """Return a one-line warning about predictions on labelled images; None if they are plausible.

    Warns of a single class in all pixels, and of a Dice below 0.1 or no better than a constant prediction.
    Common changes of the images are tested to find a preprocessing that differs from training.

    Args:
        network: network with logits as output, the deployed ones first.
        data: after setup.

    Raises:
        InputError: outputs contain NaN or infinity.
    """
    images, masks = labelled(data)
    classes = data.source.classes
    prediction = _predictions(network, images, masks, strict=True)
    dice = foreground(prediction, masks, classes)
    judged = int((~dice.isnan()).sum())
    if not judged:
        return None
    reached, constant = float(dice.nanmean()), _best_constant(masks, classes)
    classes_there = set(prediction.flatten().tolist())
    if len(classes_there) == 1:
        only = _class_in_words(classes_there.pop(), classes)
        wrong = f"predicts {only} for every pixel of {len(images)} images"
    elif reached < max(POOR, constant):
        wrong = (
            f"has a Dice of {reached:.3f} on {judged} labelled images, where one class for every pixel has "
            f"{constant:.3f}"
        )
    else:
        return None
    remedy = _helpful_change(network, images, masks, classes, reached)
    return f"WARNING: the network {wrong}: its audit would be meaningless; {remedy}"


def _class_in_words(number: int, classes: int) -> str:
    """Return a class by its number, a set of labels by their names."""
    if not (names := label_names(classes)):
        return f"class {number}"
    return " and ".join(name for bit, name in enumerate(names) if number >> bit & 1) or "no label"


def _predictions(network: nn.Module, images: Tensor, masks: Tensor, *, strict: bool = False) -> Tensor:
    """Return class maps (n, h, w), computed image by image; masks (n, *s) give the prompts, if any."""
    predictions = []
    for image, mask in zip(images, masks, strict=True):
        with prompts_from(mask[None]):
            logits = final(answered(network, image[None])).cpu()  # type: ignore[arg-type]
        if strict and not logits.isfinite().all():
            raise InputError(
                "the network's output must be finite, got NaN or infinity on a labelled image; check for "
                "damaged weights, overflow or division by 0, and clamp probabilities above 0 before their "
                "logarithm"
            )
        predictions.append(predicted(logits))
    return torch.cat(predictions)


def _best_constant(masks: Tensor, classes: int) -> float:
    """Return the best mean Dice of a constant foreground prediction."""
    constants = [foreground(torch.full_like(masks, number), masks, classes) for number in range(1, classes)]
    return max(float(dice.nanmean()) for dice in constants)


def _helpful_change(network: nn.Module, images: Tensor, masks: Tensor, classes: int, reached: float) -> str:
    """Return the common image change, or swap of two classes, that clearly improves Dice, if any."""
    scores = {
        name: float(foreground(_predictions(network, change(images), masks), masks, classes).nanmean())
        for name, change in _changes(images.shape[1]).items()
    }
    if classes == 2:
        swapped = 1 - _predictions(network, images, masks)
        scores["the two classes exchanged"] = float(foreground(swapped, masks, classes).nanmean())
    best = max(scores, key=lambda name: scores[name])
    if scores[best] > max(reached, _best_constant(masks, classes)) + _CLEARLY:
        return f"with {best} its Dice is {scores[best]:.3f}: include that in the network"
    return _USUAL


def _changes(channels: int) -> dict[str, Change]:
    """Return common preprocessing steps by name."""
    changes: dict[str, Change] = {
        "images in 0 to 255": lambda x: x * 255,
        "images in -1 to 1": lambda x: 2 * x - 1,
        "each image less its mean, over its standard deviation": lambda x: (
            (x - x.mean(axes(x, 1), keepdim=True)) / x.std(axes(x, 1), keepdim=True).clamp(min=1e-6)
        ),
        "black and white exchanged": lambda x: 1 - x,
    }
    if channels == 3:
        mean, std = (torch.tensor(statistic) for statistic in (MEAN, STD))
        changes["ImageNet's mean and standard deviation"] = lambda x: (
            (x.movedim(1, -1) - mean) / std
        ).movedim(-1, 1)
        changes["channels in the order BGR"] = lambda x: x.flip(1)
    return changes
