"""Detection of what a network's output holds, logits or probabilities, and whether it must be enlarged."""

import logging
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from seg_mia.data.base import SegmentationData
from seg_mia.errors import InputError
from seg_mia.metrics.label_sets import label_names
from seg_mia.models.one_head import OneHead
from seg_mia.models.output_form import Gives
from seg_mia.tasks.sample_check import answered, tried

log = logging.getLogger(__name__)

_IMAGES = 4
_FACTORS = (1.0, 100.0, -100.0)
"""Factors of the images: large ones drive logits out of [0, 1], but no probabilities."""
_SUM_ERROR = 1e-3
_ROUNDING = 1e-6
_GIVEN: Mapping[Gives, str] = {
    "probabilities": "probabilities, not logits",
    "sigmoid": "the result of a sigmoid, not logits",
    "multilabel": "a logit for each label",
    "multilabel_sigmoid": "the result of a sigmoid for each label",
}


def detected_gives(network: OneHead, data: SegmentationData, *, trained: bool) -> Gives | None:
    """Return what the first map of the network holds; None for logits.

    Values in [0, 1], also for images times +-100, are probabilities if they sum to 1 over the channels, and
    sigmoid outputs if there is one channel and the network is trained. Constant values are no evidence.

    Args:
        network: network with its output as it is.
        data: after setup.
        trained: whether the network is trained.

    Raises:
        InputError: values in [0, 1] that may be logits or sigmoid outputs, also of each of several labels.
    """
    values = _outputs(network, data)
    if not values:
        return None
    names = label_names(data.source.classes)
    if names and values[0].shape[1] == len(names):
        return _logged(_of_labels(values, trained=trained), f"{', '.join(names)} may overlap")
    low, high = _range(values)
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING and high - low > _ROUNDING):  # NaN ends here, too
        return None
    channels = values[0].shape[1]
    if channels > 1 and all(_sums_to_one(output) for output in values):
        return _logged("probabilities", f"its values sum to 1 over {channels} channels")
    if channels == 1 and trained:
        return _logged("sigmoid", "its values lie in [0, 1]")
    raise InputError(
        f"the network's output lies in [{low:.3g}, {high:.3g}], so it may be logits or the result of a "
        "sigmoid; set --model.gives logits or --model.gives sigmoid"
    )


def _of_labels(values: Sequence[Tensor], *, trained: bool) -> Gives:
    """Return what a network with a map for each of several labels gives; InputError if that is unknown."""
    if not all(_within(output) for output in values):
        return "multilabel"
    low, high = _range(values)
    if trained and high - low > _ROUNDING:
        return "multilabel_sigmoid"
    raise InputError(
        f"the network's output lies in [{low:.3g}, {high:.3g}], so it may be logits of labels or the "
        "result of a sigmoid for each; set --model.gives multilabel or --model.gives multilabel_sigmoid"
    )


def _range(values: Sequence[Tensor]) -> tuple[float, float]:
    return min(float(output.min()) for output in values), max(float(output.max()) for output in values)


def detected_resize(network: OneHead, data: SegmentationData) -> bool | None:
    """Return True if the masks have the image's size, and a whole multiple of the output's; else None."""
    image, mask, _ = data.dataset(data.evaluated()[:1])[0, 0]
    output: Tensor = tried(network, image)[0]  # type: ignore[index]  # of OneHead
    size, whole = tuple(output.shape[2:]), tuple(mask.shape)
    ratios = {length / short for length, short in zip(whole, size, strict=True)}
    ratio = ratios.pop()
    if mask.shape != image.shape[1:] or ratios or ratio <= 1 or ratio % 1:
        return None
    log.info(
        "the network's output has 1/%d of the image's size, %s for %s, and is enlarged bilinearly "
        "(--model.resize false leaves it)",
        ratio,
        size,
        whole,
    )
    return True


def _outputs(network: OneHead, data: SegmentationData) -> list[Tensor]:
    """Return the outputs for a few images as they are, and far out of their range where it takes those."""
    chosen = data.evaluated()[:_IMAGES]
    samples = data.dataset(chosen)
    images = [samples[0, position].image for position in range(len(chosen))]
    outputs = []
    for factor in _FACTORS:
        for image in images:
            output = _output(network, factor * image, needed=factor == 1)
            if output is None:
                break
            outputs.append(output)
            if not _within(output):
                return outputs
    return outputs


def _output(network: OneHead, image: Tensor, *, needed: bool) -> Tensor | None:
    """Return the first map for an image; None where the network refuses one that is not `needed`."""
    if needed:
        return tried(network, image)[0]  # type: ignore[index,no-any-return]  # of OneHead
    try:
        return answered(network, image[None])[0]  # type: ignore[index,no-any-return]  # of OneHead
    except Exception:  # noqa: BLE001  (networks may refuse images out of their range)
        return None


def _within(values: Tensor) -> bool:
    return bool(((values >= -_ROUNDING) & (values <= 1 + _ROUNDING)).all())


def _sums_to_one(values: Tensor) -> bool:
    return torch.allclose(values.float().sum(1), torch.ones(()).to(values.device), rtol=0, atol=_SUM_ERROR)


def _logged(gives: Gives, why: str) -> Gives:
    log.info(
        "the network gives %s: %s; they are converted to logits (--model.gives states otherwise)",
        _GIVEN[gives],
        why,
    )
    return gives
