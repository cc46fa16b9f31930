"""How an attacker decides: rules on numbers, or a classifier of maps, which a learner trains."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from seg_mia.errors import InputError
from seg_mia.membership.answers import Answers, Fleet, answered, rows_of
from seg_mia.membership.arrays import Values
from seg_mia.membership.scores import Guesses, Rule, calibrated, calibrated_threshold, shadow_threshold
from seg_mia.models.membership_classifier import Adapter


class Trained(Protocol):
    """A classifier of maps after its training."""

    @property
    def threshold(self) -> float:
        """The least score of what is called a member, chosen on the shadow."""

    def scores(self, answers: Answers) -> Values:
        """Return each sample's score, (n,)."""

    def last(self, answers: Answers) -> list[Values]:
        """Return the scores after each of the last epochs, where they were asked for."""


class Learner(Protocol):
    """What trains classifiers of maps: it has a trainer, which scorers do not know."""

    def __call__(self, settings: "Classifier", shadow: Answers, number: int) -> Trained:
        """Train the classifier of a seed, numbered from 0, on a shadow's signals."""


class Scorer(ABC):
    """A way to turn signals into scores, higher for members, and scores into a decision.

    Attributes:
        maps: whether signals are maps; otherwise numbers.
        needs: how many shadows, and whether they may be trained on judged samples.
    """

    maps: ClassVar[bool] = False
    needs: ClassVar[Fleet] = Fleet()

    @property
    def training(self) -> "Classifier | None":
        """How a classifier is trained, where `fit` trains one."""
        return None

    @abstractmethod
    def fit(self, shadows: Sequence[Answers], learner: Learner | None = None) -> None:
        """Learn from shadows, before the victim is known.

        Args:
            shadows: answers of each, `needs.count` or more, all about the same samples where
                `needs.queries_judged`.
            learner: trains classifiers; needed where `training` is not None.
        """

    @abstractmethod
    def score(self, victim: Answers, shadows: Sequence[Answers]) -> Guesses:
        """Return the scores of the victim's samples, after `fit` on the same shadows.

        Args:
            victim: its answers; its `members` are not looked at.
            shadows: as given to `fit`; where `needs.queries_judged`, with answers about the victim's samples.
        """


@dataclass(kw_only=True)
class Threshold(Scorer):
    """Call an image a member when its number is low enough.

    Args:
        rule: `shadow_mean`: at most the shadow's mean over its members, as published (Chobola et al. 2022),
            but in evaluation mode and per image; `shadow_roc`: where the shadow's balanced accuracy is
            highest.
    """

    rule: Rule = "shadow_mean"

    def __post_init__(self) -> None:
        self._threshold = math.nan

    def fit(self, shadows: Sequence[Answers], learner: Learner | None = None) -> None:  # noqa: ARG002
        """Choose the threshold on the shadow's own samples."""
        self.needs.check_count(len(shadows))
        shadow = shadows[0]
        known, members = shadow.numbers[shadow.judged], shadow.members[shadow.judged]
        self._threshold = shadow_threshold(known, members, rule=self.rule)

    def score(self, victim: Answers, shadows: Sequence[Answers]) -> Guesses:  # noqa: ARG002
        """Return the negative numbers, as `loss_threshold` does."""
        return Guesses(-victim.numbers, self._threshold)


@dataclass(kw_only=True)
class Calibrated(Scorer):
    """Call an image a member when the victim's number is low for so difficult an image (`calibrated`).

    The difficulty is the mean number under shadows that were not trained on the image. The threshold is
    chosen on the shadows, each in turn the victim (`calibrated_threshold`).
    """

    needs: ClassVar[Fleet] = Fleet(maximum=None, sampling="offline")

    def __post_init__(self) -> None:
        self._threshold = math.nan

    def fit(self, shadows: Sequence[Answers], learner: Learner | None = None) -> None:  # noqa: ARG002
        """Choose the threshold on the shadows' own samples."""
        self.needs.check_count(len(shadows))
        ids = shadows[0].ids
        numbers, seen = answered(ids, shadows)
        judged = np.stack([shadow.judged[rows_of(ids, shadow)] for shadow in shadows])
        self._threshold = calibrated_threshold(numbers, seen, judged)

    def score(self, victim: Answers, shadows: Sequence[Answers]) -> Guesses:
        """Return `calibrated`."""
        numbers, seen = answered(victim.ids, shadows)
        self.needs.check(seen)
        return Guesses(calibrated(victim.numbers, numbers, seen), self._threshold)


@dataclass(kw_only=True)
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

    maps: ClassVar[bool] = True
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
        self._trained: list[Trained] = []
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

    @property
    def training(self) -> "Classifier":
        """These settings."""
        return self

    def fit(self, shadows: Sequence[Answers], learner: Learner | None = None) -> None:
        """Train a classifier from each seed on the shadow's own samples."""
        self.needs.check_count(len(shadows))
        if learner is None:
            raise TypeError("a learner must train the classifier, got none; run the attack by `seg_mia test`")
        self._trained = [learner(self, shadows[0], number) for number in range(self.seeds)]

    def score(self, victim: Answers, shadows: Sequence[Answers]) -> Guesses:  # noqa: ARG002
        """Return the mean of the classifiers' scores and of their thresholds."""
        seeds = [(trained.scores(victim), trained.threshold) for trained in self._trained]
        return Guesses(
            np.mean([scores for scores, _ in seeds], axis=0),
            float(np.mean([threshold for _, threshold in seeds])),
            seeds,
            self._trained[0].last(victim),
        )


def _at_least(low: int, **settings: float) -> None:
    for name, value in settings.items():
        if value < low:
            raise InputError(f"{name} must be at least {low}, got {value}; raise it")
