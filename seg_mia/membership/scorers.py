"""Decision methods of an attacker: rules on numbers, or a trained classifier of maps."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import numpy as np

from seg_mia.errors import InputError
from seg_mia.membership.answers import Answers, Fleet
from seg_mia.membership.arrays import Members, Values
from seg_mia.membership.blind import blind_scores
from seg_mia.membership.fleet.victim import (
    Thresholds,
    decides,
    of_victim,
)
from seg_mia.membership.level import Level, Levels
from seg_mia.membership.scores import Guesses, Rule, shadow_threshold
from seg_mia.models.membership_classifier import Adapter


class Trained(Protocol):
    """A trained classifier of maps."""

    @property
    def threshold(self) -> float:
        """Decision threshold, chosen on the shadow: lowest score called a member."""

    def scores(self, answers: Answers) -> Values:
        """Return each sample's score, (n,)."""

    def last(self, answers: Answers) -> list[Values]:
        """Return the scores after each of the last epochs, if requested."""


class Learner(Protocol):
    """Trains classifiers of maps; it holds the trainer, which scorers do not depend on."""

    def __call__(self, settings: "Classifier", shadow: Answers, number: int) -> Trained:
        """Train the classifier of a seed, numbered from 0, on a shadow's signals."""


class Scorer(ABC):
    """Turns signals into scores, higher for members, and scores into decisions.

    Attributes:
        maps: whether signals are maps; otherwise numbers.
        needs: required number of shadows, and whether they may be trained on evaluation samples.
        standardise: whether signals are compared after `standardised`.
        by_nonmembers: whether the attack learns from the victim's own signals on known non-members, samples
            of the shadows' half, with features of image and mask; the shadows are not queried.
        by_features: whether scores depend on features of image and mask.
        least_nonmembers: minimum number of known non-members, with `by_nonmembers`.
    """

    maps: ClassVar[bool] = False
    by_nonmembers: ClassVar[bool] = False
    by_features: ClassVar[bool] = False
    least_nonmembers: ClassVar[int] = 0
    needs: ClassVar[Fleet] = Fleet()
    standardise: bool = False

    @classmethod
    def shows_shadows(cls) -> bool:
        """Return whether shadows are queried, if the signal queries networks at all."""
        return cls.needs.maximum != 0 and not cls.by_nonmembers

    @classmethod
    def needs_with(cls, settings: Mapping[str, object]) -> Fleet:  # noqa: ARG003
        """Return the shadows required with some settings, plain values by name, before a scorer is built."""
        return cls.needs

    @property
    def training(self) -> "Classifier | None":
        """Training settings of the classifier, if `fit` trains one."""
        return None

    @property
    def attacker(self) -> Literal["online", "offline"]:
        """Whether shadows trained on a sample count for it, `online`, or do not."""
        return "online" if self.needs.sampling == "online" else "offline"

    @abstractmethod
    def fit(self, shadows: Sequence[Answers], learner: Learner | None = None) -> None:
        """Fit to shadow models, before the victim is known.

        Args:
            shadows: signals of each shadow, `needs.count` or more, all on the same samples if
                `needs.queries_judged`; with `by_nonmembers`, those of the victim on samples that it was not
                trained on.
            learner: trains classifiers; required if `training` is not None.
        """

    @property
    def by_population(self) -> bool:
        """Whether samples outside all networks' training are compared with the evaluated ones (`know`)."""
        return False

    @property
    def by_evaluated(self) -> bool:
        """Whether scores depend on the share of members among the evaluated samples, after `know`."""
        return False

    def know(self, victim: Answers | None, shadows: Sequence[Answers]) -> None:  # noqa: ARG002
        """Learn signals on samples outside all networks' training, before `fit`, with `by_population`.

        Args:
            victim: the victim's; None if there are no such samples.
            shadows: the same samples under each shadow.

        Raises:
            TypeError: a scorer without a population.
        """
        raise TypeError(f"{type(self).__name__} compares with no population, got {len(shadows)} shadows")

    def resolution(self, population: int) -> float:  # noqa: ARG002
        """Return the lowest false positive rate that scores resolve, compared with a number of samples."""
        return 0.0

    @property
    def audits_recipes(self) -> bool:
        """Whether it can score one network of a fleet by the others (`compare`)."""
        return type(self).compare is not Scorer.compare

    def of_victims(self) -> dict[str, tuple[object, object]]:
        """Return value and default, by name, of options that the audit of a recipe does not take."""
        return {}

    def compare(self, target: Values, references: Values, inside: Members) -> Values:  # noqa: ARG002
        """Return scores of a target's samples, (n,), by other networks of its recipe.

        Args:
            target: signals, higher for members, (n,) or (n, signals).
            references: signals of the other networks, (networks, n) or (networks, n, signals).
            inside: training set of each, bool (networks, n).

        Raises:
            InputError: a scorer without such a form, too few references.
        """
        raise InputError(
            f"{type(self).__name__} scores no network of a fleet by the others; name an attack on numbers, "
            "such as mia-lira"
        )

    def pooled(self, target: Values, references: Values, inside: Members) -> Values:
        """Return scores as `compare`, comparable between targets, for the audit of a recipe."""
        return self.compare(target, references, inside)

    @abstractmethod
    def score(self, victim: Answers, shadows: Sequence[Answers]) -> Guesses:
        """Return the scores of the victim's samples, after `fit` on the same shadows.

        Args:
            victim: signals of the victim; its `members` are not used.
            shadows: as given to `fit`; if `needs.queries_judged`, with signals on the victim's samples.
        """


@dataclass(kw_only=True)
class Threshold(Scorer):
    """Call an image a member if its number is low enough.

    Args:
        rule: `shadow_mean`: at most the shadow's mean over its members, as published (Chobola et al. 2022),
            but in evaluation mode and per image; `shadow_roc`: at the shadow's highest balanced accuracy.
            Without a shadow there is no threshold, and AUC and rates at few false positives need none.
    """

    needs: ClassVar[Fleet] = Fleet(optional=True)
    rule: Rule = "shadow_mean"

    def __post_init__(self) -> None:
        self._threshold = math.nan
        self._decided: Thresholds | None = None

    def of_victims(self) -> dict[str, tuple[object, object]]:
        """The rule: the audit of a recipe takes thresholds of false positive rates."""
        return {"rule": (self.rule, "shadow_mean")}

    def fit(self, shadows: Sequence[Answers], learner: Learner | None = None) -> None:  # noqa: ARG002
        """Choose the threshold on the shadow's own samples."""
        self.needs.check_count(len(shadows))
        if not shadows:
            return
        shadow = shadows[0]
        known, members = shadow.numbers[shadow.judged], shadow.members[shadow.judged]
        self._threshold = shadow_threshold(known, members, rule=self.rule)
        groups = shadow.groups[shadow.judged]
        self._decided = decides(-known[None], members[None], groups)

    def compare(self, target: Values, references: Values, inside: Members) -> Values:  # noqa: ARG002
        """Return the target's signals themselves."""
        return target

    def score(self, victim: Answers, shadows: Sequence[Answers]) -> Guesses:  # noqa: ARG002
        """Return the negative numbers, as in `loss_threshold`."""
        thresholds = of_victim(self._decided, victim.groups)
        return Guesses(-victim.numbers, self._threshold, thresholds=thresholds)


@dataclass(kw_only=True)
class CrossFitted(Scorer):
    """Predict membership from statistics of image and mask alone, cross-fitted by patient (`blind_scores`).

    A baseline that queries no network; there is no threshold.

    Args:
        seed: seed of the folds.
    """

    maps: ClassVar[bool] = True
    by_features: ClassVar[bool] = True
    needs: ClassVar[Fleet] = Fleet(count=0, maximum=0)
    seed: int = 0

    def fit(self, shadows: Sequence[Answers], learner: Learner | None = None) -> None:  # noqa: ARG002
        """Learn nothing of shadows."""
        self.needs.check_count(len(shadows))

    def score(self, victim: Answers, shadows: Sequence[Answers]) -> Guesses:  # noqa: ARG002
        """Return out-of-fold scores."""
        if victim.features is None:
            raise TypeError(
                "this scorer takes statistics of image and mask, got none; run it by `seg_mia test`"
            )
        return Guesses(blind_scores(victim.features, victim.members, victim.groups, seed=self.seed), math.nan)


@dataclass(kw_only=True)
class Levelled(Scorer):
    """An attack that takes each network's level out of its numbers.

    Args:
        standardise: remove each network's level and scale over the samples (`standardised`), which differ
            between networks of one recipe.
        level: samples that give level and scale: each network's own `evaluated` ones, right for thresholds if
            like shares of them are members, or samples `outside` all trainings (`Levels`).
    """

    standardise: bool = True
    level: Level = "evaluated"

    def __post_init__(self) -> None:
        self._threshold = 0.0
        self._decided: Thresholds | None = None
        self._levels = Levels(self.level, standardise=self.standardise)

    @property
    def by_population(self) -> bool:
        """With a level `outside`."""
        return self.level == "outside"

    @property
    def by_evaluated(self) -> bool:
        """With levels over the evaluated samples."""
        return self.standardise and self.level == "evaluated"

    def of_victims(self) -> dict[str, tuple[object, object]]:
        """The level: the audit of a recipe takes levels over the pool, half of it in each network."""
        return {"level": (self.level, "evaluated")}

    def know(self, victim: Answers | None, shadows: Sequence[Answers]) -> None:
        """Keep the signals outside all trainings, the victim's last."""
        self._levels.know(victim, shadows)


@dataclass(kw_only=True)
class Classifier(Scorer):
    """A network trained on the shadow's signals, with the threshold of highest balanced accuracy there.

    Part of the shadow's samples is held out from training, by whole groups: its learning curve measures
    generalisation, and the decision threshold is chosen on it. The victim's samples are scored once, after
    training. Published: ResNet-34, NAdam 1e-4, batch 4, 30 epochs.

    Args:
        architecture: any timm classifier by name.
        weights: initial weights: `imagenet` (downloads), a local file, or none.
        adapter: `convolution` adds a 1x1 convolution in front, `first_layer` widens the network's first
            layer.
        epochs: passes over the training part.
        lr: initial learning rate, with cosine decay to 0.
        weight_decay: weight decay of NAdam, decoupled.
        batch_size: signals per batch, at least 2.
        dropout: dropout before the last layer.
        augment: flip each signal at random in training.
        patch: side of the voting patches, as in Segmentations-Leak; None uses the whole map.
        validation: fraction of the shadow's samples held out from training.
        seeds: number of classifiers; with several, scores are averaged and their spread is reported.
        last_epochs: also report the mean over this many last epochs, as in the published code; it does not
            affect the decision.
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
