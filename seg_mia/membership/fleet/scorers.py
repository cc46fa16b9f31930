"""Configurable forms of attacks with reference networks: the shadows are the references."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import ClassVar, Literal, TypedDict

import numpy as np
from scipy import stats

from seg_mia.errors import InputError, refuse_idle
from seg_mia.membership.answers import Answers, Fleet, answered, rows_of
from seg_mia.membership.fleet.arrays import Folds, Inside, Values
from seg_mia.membership.fleet.gaussian import Centre, Variance, lira_offline, lira_online
from seg_mia.membership.fleet.joint import JointPrior, fitted_joint
from seg_mia.membership.fleet.quantile import LEAST_NONMEMBERS, quantile_scores
from seg_mia.membership.fleet.ratios import Population, base, less_population, rmia, tuned_offline_a
from seg_mia.membership.fleet.scoring import scored
from seg_mia.membership.fleet.vectors import Density, lira_vector
from seg_mia.membership.fleet.victim import (
    Names,
    decides,
    in_turn,
    null_chances,
    of_victim,
    turn_threshold,
)
from seg_mia.membership.scorers import Learner, Levelled, Scorer
from seg_mia.membership.scores import Guesses, calibrated

VICTIM = -1
"""Number of the victim among networks."""
OFFLINE = Fleet(count=2, maximum=None, sampling="offline")
"""Shadows of the likelihood ratio attack without those trained on a sample."""


class _Densities(TypedDict):
    """How Gaussians are fitted to few shadows."""

    variance: Variance
    centre: Centre


@dataclass(kw_only=True)
class ByReferences(Levelled):
    """An attack that compares the victim with each shadow on the same samples.

    The threshold is that of highest balanced accuracy over the shadows, each in turn the victim of the
    others; 0 if there are too few shadows. Their scores also give thresholds of low false positive rates
    (`seg_mia.membership.fleet.victim`).
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self._shown: tuple[Values, Inside, Inside, Names] | None = None

    @abstractmethod
    def compare(self, target: Values, references: Values, inside: Inside) -> Values:
        """Return scores of a target's samples, (n,), from signals that are higher for members."""

    def numbered(
        self,
        numbers: Folds,  # noqa: ARG002
        target: Values,
        references: Values,
        inside: Inside,
    ) -> Values:
        """Return scores as `compare`; `numbers` are those of target and references, or `VICTIM`."""
        return self.compare(target, references, inside)

    def learn(self, references: Values, inside: Inside) -> None:
        """Learn from the shadows on all their samples, before the threshold is chosen."""

    def fit(self, shadows: Sequence[Answers], learner: Learner | None = None) -> None:  # noqa: ARG002
        """Choose the threshold on the shadows' own samples."""
        self.needs.check_count(len(shadows))
        ids = shadows[0].ids
        numbers, seen = answered(ids, shadows)
        judged = np.stack([shadow.judged[rows_of(ids, shadow)] for shadow in shadows])
        self._shown = -numbers, seen, judged, shadows[0].groups
        self._decide(self._levels.fit(-numbers, judged), seen, judged, shadows[0].groups)

    def _decide(self, signals: Values, seen: Inside, judged: Inside, groups: Names) -> None:
        """Learn from the shadows, and choose thresholds on them, each in turn the victim of the others."""
        self.learn(signals, seen)
        scores = in_turn(signals, seen, self.numbered, self._usable, judged)
        self._threshold = turn_threshold(scores, seen)
        self._decided = decides(scores, seen, groups)

    def score(self, victim: Answers, shadows: Sequence[Answers]) -> Guesses:
        """Return the attack's scores."""
        numbers, members = answered(victim.ids, [victim, *shadows])
        seen = members[1:]
        self.needs.check(seen)
        networks = np.array([VICTIM, *range(len(shadows))])
        if self._shown is not None and self._levels.narrows(-numbers[0]):
            shown, seen_then, judged, groups = (
                self._shown
            )  # thresholds of the signals that the victim has, too
            self._decide(self._levels.of_shadows(shown), seen_then, judged, groups)
        levels = self._levels.apply(-numbers)
        scores = scored(partial(self.numbered, networks), levels[0], levels[1:], seen)
        others = in_turn(levels[1:], seen, self.numbered, self._usable)
        chances = null_chances(scores, others, seen, victim.groups)
        thresholds = of_victim(self._decided, victim.groups, chances)
        resolution = self.resolution(self._population(len(victim.ids)))
        return Guesses(scores, self._threshold, thresholds=thresholds, resolution=resolution)

    @property
    def least_inside(self) -> int:
        """Minimum number of shadows trained on a sample."""
        return self.needs.count if self.needs.sampling == "online" else 0

    def _population(self, evaluated: int) -> int:
        """Return the number of samples that a victim's are compared with, of a number of evaluated ones."""
        return evaluated

    def _usable(self, seen: Inside) -> Inside:
        """Return which samples have enough shadows, bool (n,)."""
        enough = ((~seen).sum(axis=0) >= self.needs.count) & (seen.sum(axis=0) >= self.least_inside)
        return np.asarray(enough, dtype=np.bool_)


@dataclass(kw_only=True)
class Calibrated(ByReferences):
    """Call an image a member if the victim's number is low relative to its difficulty (`calibrated`).

    The difficulty is the mean number under shadows not trained on the image.
    """

    needs: ClassVar[Fleet] = Fleet(maximum=None, sampling="offline")

    def compare(self, target: Values, references: Values, inside: Inside) -> Values:
        """Return `calibrated` of losses, which are minus these signals."""
        return calibrated(-target, -references, inside)


@dataclass(kw_only=True)
class Lira(ByReferences):
    """The likelihood ratio attack, by shadows with and without a sample (`lira_online`), or without alone.

    Args:
        mode: `online`, with shadows trained and not trained on a sample; `offline`, by those not trained on
            it alone (`lira_offline`), of several signals the sum.
        variance: as in `lira_online`.
        centre: as in `lira_online`.
        density: of several signals, as in `lira_vector`; online.
        guess: expect the effect that membership has on the shadows' own samples of the same difficulty;
            offline, with variance bayesian.
    """

    needs: ClassVar[Fleet] = Fleet(count=2, maximum=None, sampling="online")
    mode: Literal["online", "offline"] = "online"
    variance: Variance = "bayesian"
    centre: Centre = "mean"
    density: Density = "separate"
    guess: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.variance == "bayesian":  # which has its own
            refuse_idle("with variance bayesian", centre=(self.centre, "mean"))
        else:
            refuse_idle(f"with variance {self.variance}", guess=(self.guess, False))
        self._effects = list[JointPrior]()
        if self.mode == "offline":
            refuse_idle("with mode offline", density=(self.density, "separate"))
            vars(self)["needs"] = OFFLINE  # of this scorer, in front of its class's
        else:
            refuse_idle("with mode online", guess=(self.guess, False))

    @classmethod
    def needs_with(cls, settings: Mapping[str, object]) -> Fleet:
        """Return what `mode` requires."""
        return OFFLINE if settings.get("mode") == "offline" else cls.needs

    def learn(self, references: Values, inside: Inside) -> None:
        """Learn the expected effect on each signal, with `guess`."""
        self._effects = (
            [fitted_joint(signal, inside) for signal in _signals(references)] if self.guess else []
        )

    def compare(self, target: Values, references: Values, inside: Inside) -> Values:
        """Return `lira_online`, or `lira_vector` of several signals; offline the sum of `lira_offline`."""
        densities: _Densities = {"variance": self.variance, "centre": self.centre}
        if self.mode == "offline":
            signals = _signals(references)
            effects: Sequence[JointPrior | None] = self._effects or [None] * len(signals)
            columns = zip(np.atleast_2d(target.T), signals, effects, strict=True)
            scores = [
                lira_offline(own, others, inside, effect=effect, **densities)
                for own, others, effect in columns
            ]
            return np.asarray(np.sum(scores, axis=0), dtype=np.float64)
        if target.ndim == 2:
            return lira_vector(target, references, inside, density=self.density, **densities)
        return lira_online(target, references, inside, **densities)

    def pooled(self, target: Values, references: Values, inside: Inside) -> Values:
        """Return `compare`, with the effect learnt from these references."""
        self.learn(references, inside)
        return self.compare(target, references, inside)


@dataclass(kw_only=True)
class Base(ByReferences):
    """The sample's likelihood under the victim over its mean likelihood under shadows (`base`).

    The audit of a recipe takes out each target's mean over the pool (`less_population`): one number a target,
    which leaves its order as it is and makes scores of several targets comparable. The score of a victim's
    sample depends on no other sample.

    Args:
        standardise: as in `ByReferences`; off, since signals are likelihoods.
        online: whether shadows trained on a sample are used for it.
    """

    needs: ClassVar[Fleet] = Fleet(maximum=None, sampling="offline")
    standardise: bool = False
    online: bool = True

    @property
    def attacker(self) -> Literal["online", "offline"]:
        """As `online` states."""
        return "online" if self.online else "offline"

    def compare(self, target: Values, references: Values, inside: Inside) -> Values:
        """Return `base`."""
        return base(target, references, inside, online=self.online)

    def pooled(self, target: Values, references: Values, inside: Inside) -> Values:
        """Return `base` less its mean over the samples given, of which half are members of every target."""
        ratios = self.compare(target, references, inside)
        return less_population(ratios, ratios)


@dataclass(kw_only=True)
class Rmia(ByReferences):
    """The fraction of samples whose likelihood ratio a sample's exceeds (`rmia`).

    Offline, the population of a victim is of samples outside the training of all networks, of other patients
    than the evaluated ones (`know`): the other half of the data, and the reference part. Without such
    samples, online, whose ratios need networks with each sample, and in the audit of a recipe, it is the
    evaluated samples themselves, about half of them members. A population does not affect the order: it
    turns ratios into fractions, so that a false positive rate of f needs 10 / f samples (`resolution`).

    Args:
        standardise: as in `ByReferences`; off, since signals are likelihoods.
        gamma: as in `rmia`.
        offline_a: as in `rmia`; None is online, and needs shadows trained on each sample; `tuned` is chosen
            on the shadows, each attacked by the others (`tuned_offline_a`), never on the victim.
    """

    needs: ClassVar[Fleet] = Fleet(maximum=None, sampling="offline")
    standardise: bool = False
    gamma: float = 1.0
    offline_a: float | Literal["tuned"] | None = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        self._tuned = 0.0
        self._tuned_on = b""

    @property
    def least_inside(self) -> int:
        """One, online."""
        return 1 if self.offline_a is None else 0

    @property
    def attacker(self) -> Literal["online", "offline"]:
        """Online without `offline_a`."""
        return "online" if self.offline_a is None else "offline"

    @property
    def by_population(self) -> bool:
        """Offline."""
        return super().by_population or self.offline_a is not None

    @property
    def by_evaluated(self) -> bool:
        """With the evaluated samples as population."""
        return super().by_evaluated or self.offline_a is None or self._levels.outside is None

    def resolution(self, population: int) -> float:
        """Return 10 over the size of the population."""
        return 10 / population

    def learn(self, references: Values, inside: Inside) -> None:
        """Choose `offline_a` if it is `tuned`."""
        if self.offline_a != "tuned":
            return
        # Targets of one fold have the same references.
        digest = sha256(np.ascontiguousarray(references).tobytes())
        digest.update(np.ascontiguousarray(inside).tobytes())
        if digest.digest() != self._tuned_on:
            self._tuned, self._tuned_on = tuned_offline_a(references, inside), digest.digest()

    def compare(self, target: Values, references: Values, inside: Inside) -> Values:
        """Return `rmia` with the samples themselves as population."""
        return self._against(Population(target, references, inside), target, references, inside)

    def numbered(self, numbers: Folds, target: Values, references: Values, inside: Inside) -> Values:
        """Return `rmia` with the population of `know`, or as `compare` without."""
        outside_signals = self._levels.outside
        if outside_signals is None or self.offline_a is None:
            return self.compare(target, references, inside)
        known = outside_signals[numbers]
        outside = np.zeros(known[1:].shape, dtype=np.bool_)
        return self._against(Population(known[0], known[1:], outside), target, references, inside)

    def pooled(self, target: Values, references: Values, inside: Inside) -> Values:
        """Return `compare`, with `offline_a` chosen on these references if it is `tuned`."""
        self.learn(references, inside)
        return self.compare(target, references, inside)

    def _population(self, evaluated: int) -> int:
        outside = None if self.offline_a is None else self._levels.outside
        return evaluated if outside is None else outside.shape[1]

    def _against(self, population: Population, target: Values, references: Values, inside: Inside) -> Values:
        a = self._tuned if self.offline_a == "tuned" else self.offline_a
        return rmia(target, references, inside, population, gamma=self.gamma, offline_a=a)


@dataclass(kw_only=True)
class Quantile(Scorer):
    """The victim's signal relative to its prediction from image and mask (`quantile_scores`).

    The regression is fitted to the victim's signals on the shadow's samples, 200 or more, which the victim
    was not trained on; no shadow is queried. A sample is called a member above the normal quantile of `fpr`.
    The results state how often held-out non-members exceed it.

    Args:
        ridge: as in `quantile_scores`.
        folds: as in `quantile_scores`.
        fpr: nominal false positive rate of the decision, in (0, 0.5].
    """

    by_nonmembers: ClassVar[bool] = True
    least_nonmembers: ClassVar[int] = LEAST_NONMEMBERS
    ridge: float = 1.0
    folds: int = 5
    fpr: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.fpr <= 0.5:
            raise InputError(f"fpr must be above 0 and at most 0.5, got {self.fpr}; 0.1 is usual")

    def fit(self, shadows: Sequence[Answers], learner: Learner | None = None) -> None:  # noqa: ARG002
        """Check the number of shadows; the regression is fitted with the victim's samples."""
        self.needs.check_count(len(shadows))

    def score(self, victim: Answers, shadows: Sequence[Answers]) -> Guesses:
        """Return the scores of `quantile_scores`."""
        known = shadows[0]
        if victim.features is None or known.features is None:
            raise TypeError("quantile regression needs features of image and mask, got none")
        result = quantile_scores(
            -victim.numbers,
            victim.features,
            -known.numbers,
            known.features,
            ridge=self.ridge,
            folds=self.folds,
            fprs=(self.fpr,),
        )
        return Guesses(result.scores, float(stats.norm.isf(self.fpr)), regression=result)


def _signals(references: Values) -> Values:
    """Return the networks' values of each signal, (signals, networks, n)."""
    return np.moveaxis(np.atleast_3d(references), 2, 0)
