"""Types of step outputs, passed from tasks to callbacks."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from seg_mia.attacks.base import Adversarial
from seg_mia.attacks.certify import Certificate
from seg_mia.data.predictions import SignalSamples
from seg_mia.data.trained_model import TrainedModel
from seg_mia.membership.fleet.quantile import QuantileScores
from seg_mia.membership.fleet.victim import Thresholds
from seg_mia.results.robustness import FittingSet, SanityCheck

Scores = NDArray[np.float64]


class StepOutput(TypedDict):
    """Training `loss`, and per image `losses` (N,), `prediction` and `mask` (N, h, w) int64.

    The loss of an image without a labelled pixel is NaN.

    `mask` is the reference of the loss, which defences may modify in training.
    """

    loss: Tensor
    losses: Tensor
    prediction: Tensor
    mask: Tensor


class AttackOutput(TypedDict):
    """One attacked batch: maps (N, h, w), the attack's output, metrics per image (N,).

    And, where there are, a check of gradients and what a universal change was fitted to.
    """

    target: Tensor
    clean: Tensor
    prediction: Tensor
    adversarial: Adversarial
    measures: dict[str, Tensor]
    sanity: SanityCheck | None
    fitted: FittingSet | None


class CertificateOutput(TypedDict):
    """One certified batch, with metrics per image (N,)."""

    certificate: Certificate
    measures: dict[str, Tensor]


class MembershipOutput(TypedDict):
    """`losses` of each signal (N,), their mean `loss`, and `scores` (N,), higher for members."""

    loss: Tensor
    losses: Tensor
    scores: Tensor


@dataclass(frozen=True)
class Findings:
    """Scores of the victim's members and non-members, in the order of `samples`.

    Attributes:
        samples: scored samples, with outputs of the queried network.
        scores: (n,), higher for members; the mean over seeds.
        threshold: least score classified as member; NaN where no shadow decides it.
        seeds: scores and threshold of each seed.
        last: scores after each of the last epochs of the first seed, if requested.
        regression: fit to known non-members, if the attack is one.
        shadows: those of the attack, without any that did not train.
        thresholds: further decisions, by thresholds of the attacker's networks.
        resolution: lowest false positive rate that the values of the scores resolve.
    """

    samples: SignalSamples
    scores: Scores
    threshold: float
    seeds: list[tuple[Scores, float]] = field(default_factory=list)
    last: list[Scores] = field(default_factory=list)
    regression: QuantileScores | None = None
    shadows: Sequence[TrainedModel] = ()
    thresholds: Thresholds | None = None
    resolution: float = 0.0
