"""How an attacker decides: a rule on one number, or a classifier of maps, which a task trains."""

from abc import ABC
from dataclasses import dataclass
from typing import Literal, assert_never

import numpy as np
from numpy.typing import NDArray

from seg_mia.errors import InputError
from seg_mia.membership.roc import best_threshold
from seg_mia.models.membership_classifier import Adapter

Rule = Literal["shadow_mean", "shadow_roc"]


class Scorer(ABC):  # noqa: B024  # a family for configs, whose members share no method
    """A way to turn signals into scores, higher for members, and scores into a decision."""


@dataclass(frozen=True, kw_only=True)
class Threshold(Scorer):
    """Call an image a member when its number is low enough.

    Args:
        rule: `shadow_mean`: at most the shadow's mean over its members, as published (Chobola et al. 2022),
            but in evaluation mode and per image; `shadow_roc`: where the shadow's balanced accuracy is
            highest.
    """

    rule: Rule = "shadow_mean"

    def threshold(self, scores: NDArray[np.float64], members: NDArray[np.bool_]) -> float:
        """Return the least score of a member, from the shadow's scores (n,) and its membership (n,)."""
        match self.rule:
            case "shadow_mean":
                return float(scores[members].mean())
            case "shadow_roc":
                return best_threshold(scores, members)
            case _:
                assert_never(self.rule)


@dataclass(frozen=True, kw_only=True)
class Classifier(Scorer):
    """A network trained on the shadow's signals; it decides where its balanced accuracy is highest there.

    Part of the shadow's samples is kept out of training, whole groups at a time: its curve shows whether the
    classifier learns anything that carries over, and the decision threshold is chosen on it. The victim's
    samples are scored once, after training. Published: ResNet-34, NAdam 1e-4, batch 4, 30 epochs.

    Args:
        architecture: any timm classifier by name.
        weights: what it starts from: `imagenet` (downloads), a local file, or nothing.
        adapter: `convolution` puts a 1x1 convolution in front, `first_layer` widens the network's own.
        epochs: passes over the training part.
        lr: learning rate at the start; it falls to 0 along a cosine.
        weight_decay: of NAdam, decoupled.
        batch_size: signals in a batch, at least 2.
        dropout: before the last layer.
        augment: flip each signal at random in training.
        patch: side of the patches that vote, as in Segmentations-Leak; None shows the whole map.
        validation: the part of the shadow's samples kept out of training.
        seeds: how many classifiers are trained; with several, scores are their mean, and the spread is told.
        last_epochs: also tell the mean over so many last epochs, as the published code does; an extra that
            chooses nothing.
    """

    architecture: str = "resnet34"
    weights: str | None = None
    adapter: Adapter = "convolution"
    epochs: int = 30
    lr: float = 1e-4
    weight_decay: float = 0.0
    batch_size: int = 4
    dropout: float = 0.0
    augment: bool = False
    patch: int | None = None
    validation: float = 0.2
    seeds: int = 1
    last_epochs: int = 0

    def __post_init__(self) -> None:
        _at_least(1, epochs=self.epochs, seeds=self.seeds)
        _at_least(2, batch_size=self.batch_size)
        _at_least(0, last_epochs=self.last_epochs, weight_decay=self.weight_decay)
        if not 0 < self.lr < float("inf"):
            raise InputError(f"lr must be above 0, got {self.lr}; 1e-4 is published")
        if not 0 < self.validation < 1:
            raise InputError(f"validation must lie between 0 and 1, got {self.validation}; 0.2 is usual")
        if self.patch is not None and self.patch < 8:
            raise InputError(
                f"patch must be at least 8 pixels, got {self.patch}; leave it out for whole maps"
            )
        if self.last_epochs > self.epochs:
            raise InputError(f"last_epochs must be at most epochs, got {self.last_epochs} and {self.epochs}")


def _at_least(low: int, **settings: float) -> None:
    for name, value in settings.items():
        if value < low:
            raise InputError(f"{name} must be at least {low}, got {value}; raise it")
