"""Choice of the deployed output map of a network with several heads."""

import logging
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from seg_mia.data.base import SegmentationData
from seg_mia.errors import InputError, name_some
from seg_mia.metrics.label_sets import label_masks, label_names
from seg_mia.metrics.overlap import foreground_dice_per_class
from seg_mia.models.heads import class_count, predicted
from seg_mia.models.label_logits import set_logits
from seg_mia.models.one_head import maps
from seg_mia.tasks.sample_check import answered, labelled, tried

log = logging.getLogger(__name__)

CLEAR = 0.02
"""Least lead of the best head in mean Dice, besides three standard errors."""
_LEAST = 4


def choose_head(network: nn.Module, data: SegmentationData, *, trained: bool) -> int | str | None:
    """Return the position of the deployed map; None for a network with a single output.

    Candidates have the number of classes of the data and the size of the masks. Among several, the one with
    a clear lead on labelled images is chosen, which requires a trained network.

    Args:
        network: network from images in [0, 1] to its output.
        data: after setup.
        trained: whether the network is trained.

    Raises:
        InputError: no map matches, or several match and are indistinguishable.
    """
    image, mask, _ = data.dataset(data.evaluated()[:1])[0, 0]
    output = tried(network, image)
    if isinstance(output, Tensor) and output.ndim == image.ndim + 1:
        return None
    maps_by_path = maps(output, image.ndim + 1)
    if not maps_by_path:
        raise InputError(
            "a network must return its logits as a tensor of shape (N, K, *s), or several such in a tuple, "
            f"mapping or object, got {_shape(output)}; wrap the network in a module that returns its logits"
        )
    classed = {name: logits for name, logits in maps_by_path.items() if _fits(logits, data.source.classes)}
    fitting = {name: logits for name, logits in classed.items() if logits.shape[2:] == mask.shape} or classed
    if not fitting or (len(fitting) > 1 and fitting is classed):
        raise InputError(
            f"the network returns {_listed(maps_by_path)}: no single map has the data's "
            f"{data.source.classes} classes and the masks' size {tuple(mask.shape)}; set --model.head to the "
            "deployed one, and wrap the network in seg_mia.models.adapter.InputAdapter where sizes differ"
        )
    first = next(iter(fitting))
    if all(torch.equal(logits, fitting[first]) for logits in fitting.values()):
        return _logged_head(
            first, maps_by_path, "it has the masks' size and classes" if len(maps_by_path) > 1 else ""
        )
    if not trained:
        raise InputError(
            f"the network returns {len(fitting)} maps of the expected shape ({', '.join(fitting)}), which "
            "cannot be distinguished before training; set the deployed one, --model.head NAME (-1 is the "
            "last)"
        )
    return _leader(network, data, list(fitting), maps_by_path)


def _fits(logits: Tensor, classes: int) -> bool:
    """Return whether a map has the channels of the classes; of label sets also one for each label."""
    return class_count(logits) == classes or logits.shape[1] == len(label_names(classes))


def _leader(
    network: nn.Module, data: SegmentationData, names: list[str], maps_by_path: Mapping[str, Tensor]
) -> int | str:
    """Return the best head on labelled images; raise InputError without a clear lead."""
    scores = head_scores(network, data, names)
    means = {name: float(values.mean()) if len(values) else math.nan for name, values in scores.items()}
    best, second, *_ = sorted(names, key=lambda name: -means[name])
    lead = scores[best] - scores[second]
    dice_list = ", ".join(f"{name}: {means[name]:.3f}" for name in names)
    # Three standard errors of the mean difference: the chance of such a lead is about 1 in 700.
    clear = len(lead) >= _LEAST and float(lead.mean()) > max(CLEAR, 3 * float(lead.std()) / len(lead) ** 0.5)
    if not clear:
        raise InputError(
            f"the network returns {len(names)} maps of the expected shape, and on {len(lead)} labelled "
            f"images none is clearly best (Dice of {dice_list}); set the deployed one, --model.head NAME (-1 "
            "is the last)"
        )
    return _logged_head(
        best, maps_by_path, f"it has the highest Dice on {len(lead)} labelled images, {dice_list}"
    )


def head_scores(network: nn.Module, data: SegmentationData, names: list[str]) -> dict[str, Tensor]:
    """Return the Dice (n,) of each head on labelled images with foreground."""
    gathered: dict[str, list[Tensor]] = {name: [] for name in names}
    for image, mask in zip(*labelled(data), strict=True):
        answer = maps(answered(network, image[None]), image.ndim + 1)
        for name in names:
            logits = as_classes(answer[name], data.source.classes)
            gathered[name].append(foreground(predicted(logits).cpu(), mask[None], data.source.classes))
    dice = {name: torch.cat(values) for name, values in gathered.items()}
    return {name: values[~values.isnan()] for name, values in dice.items()}


def foreground(prediction: Tensor, mask: Tensor, classes: int) -> Tensor:
    """Return the mean Dice of the foreground classes of each mask, (N,); NaN without foreground."""
    dice = foreground_dice_per_class(prediction, mask, classes)
    if names := label_names(classes):
        present = (label_masks(mask, len(names)) == 1).flatten(2).any(2)
    else:
        present = torch.stack([(mask == number).flatten(1).any(1) for number in range(1, classes)], dim=1)
    return dice.masked_fill(~present, torch.nan).nanmean(1)


def as_classes(logits: Tensor, classes: int) -> Tensor:
    """Return logits of the classes: of label sets also from one channel (logit or sigmoid) for each label."""
    if logits.shape[1] != len(label_names(classes)) or logits.shape[1] == classes:
        return logits
    bounded = bool(((logits >= 0) & (logits <= 1)).all())
    return set_logits(logits - 0.5 if bounded else logits)  # of probabilities only the sign is used here


def _logged_head(name: str, maps_by_path: Mapping[str, Tensor], why: str) -> int | str:
    if why:
        log.info(
            "the network returns %s; %s is evaluated: %s (--model.head selects another)",
            _listed(maps_by_path),
            name,
            why,
        )
    return int(name) if name.isdigit() else name


def _listed(maps_by_path: Mapping[str, Tensor]) -> str:
    shapes = [f"{name or 'one'} {tuple(logits.shape[1:])}" for name, logits in maps_by_path.items()]
    return name_some(shapes, 6)


def _shape(output: object) -> str:
    kind = type(output).__name__
    return f"{kind} of shape {tuple(output.shape)}" if isinstance(output, Tensor) else kind
