"""What a task's steps return, and callbacks read."""

from typing import TypedDict

from torch import Tensor

from seg_mia.attacks.base import Adversarial


class StepOutput(TypedDict):
    """`losses` of each image (N,), their mean `loss`, and `prediction` (N, h, w) int64."""

    loss: Tensor
    losses: Tensor
    prediction: Tensor


class AttackOutput(TypedDict):
    """One attacked batch: maps (N, h, w), what the attack returned, and measures of each image (N,)."""

    target: Tensor
    clean: Tensor
    prediction: Tensor
    adversarial: Adversarial
    measures: dict[str, Tensor]
