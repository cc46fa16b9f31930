"""Membership signals of a network's outputs: arrays in, one number per image out.

Logits are raw scores before softmax or sigmoid, of any framework, floats (N, K, h, w), with
K = 1 for a single foreground class; masks (N, h, w) hold class ids, and 255 for ignored pixels.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seg_mia.losses import LossName
from seg_mia.membership.arrays import Values
from seg_mia.membership.signals import ImageEntropy, ImageLoss, Signal, checked

Array = NDArray[Any] | Tensor


def image_loss(logits: Array, masks: Array, *, loss: LossName = "dice_cross_entropy") -> Values:
    """Return each image's loss, float64 (N,): the signal of `mia-global-loss`.

    Args:
        logits: floats (N, K, h, w).
        masks: class ids (N, h, w).
        loss: a name in `seg_mia.losses.LOSSES`; the victim's training loss is the most effective.

    Raises:
        InputError: incompatible shapes, losses that are not finite.
    """
    return _numbers(ImageLoss(loss=loss), logits, masks)


def image_entropy(logits: Array) -> Values:
    """Return the mean entropy of each image's pixels in nats, float64 (N,): the signal of `mia-entropy`.

    Args:
        logits: floats (N, K, h, w).

    Raises:
        InputError: logits of another shape, entropies that are not finite.
    """
    return _numbers(ImageEntropy(), logits, np.zeros((len(logits), 1, 1), np.int64))


@torch.no_grad()
def _numbers(signal: Signal, logits: Array, masks: Array) -> Values:
    answers, truth = torch.as_tensor(logits), torch.as_tensor(masks).long()
    values = checked(signal(answers, answers, truth), type(signal).__name__)
    return np.asarray(values.double().cpu().numpy(), dtype=np.float64)
