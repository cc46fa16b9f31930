"""What a task's steps return, and callbacks read."""

from typing import TypedDict

from torch import Tensor

from seg_mia.attacks.base import Adversarial


class StepOutput(TypedDict):
    """`loss` of each image (N,), or their mean in training, and `prediction` (N, h, w) int64."""

    loss: Tensor
    prediction: Tensor


class AttackOutput(TypedDict):
    """One attacked batch: maps (N, h, w), what the attack returned, and measures of each image (N,)."""

    target: Tensor
    clean: Tensor
    prediction: Tensor
    adversarial: Adversarial
    measures: dict[str, Tensor]
