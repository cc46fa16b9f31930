"""Configurable forms of attacks with reference networks: the shadows are the references."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from scipy import stats

from seg_mia.errors import InputError, refuse_idle
from seg_mia.membership.answers import Answers, Fleet, answered, rows_of
from seg_mia.membership.fleet.arrays import Inside, Values, informative, mates, standardised
from seg_mia.membership.fleet.gaussian import Centre, Variance, lira_offline, lira_online
from seg_mia.membership.fleet.joint import JointPrior, fitted_joint
from seg_mia.membership.fleet.quantile import LEAST_NONMEMBERS, quantile_scores
from seg_mia.membership.fleet.ratios import Population, base, less_population, rmia
from seg_mia.membership.fleet.scoring import scored
from seg_mia.membership.fleet.vectors import Density, lira_vector
from seg_mia.membership.roc import best_threshold
from seg_mia.membership.scorers import Learner, Scorer
from seg_mia.membership.scores import Guesses


@dataclass(kw_only=True)
class ByReferences(Scorer):
    """An attack that compares the victim with each shadow on the same samples.

    The threshold is that of highest balanced accuracy over the shadows, each in turn the victim of the
    others; 0 if there are too few shadows.

    Args:
        standardise: remove each network's level and scale over the samples (`standardised`), which differ
            between networks of one recipe.
    """

    standardise: bool = True

    def __post_init__(self) -> None:
        self._threshold = 0.0

    @abstractmethod
    def compare(self, target: Values, references: Values, inside: Inside) -> Values:
        """Return scores of a target's samples, (n,), from signals that are higher for members."""

    def learn(self, references: Values, inside: Inside) -> None:
        """Learn from the shadows on all their samples, before the threshold is chosen."""

    def fit(self, shadows: Sequence[Answers], learner: Learner | None = None) -> None:  # noqa: ARG002
        """Choose the threshold on the shadows' own samples."""
        self.needs.check_count(len(shadows))
        ids = shadows[0].ids
        numbers, seen = answered(ids, shadows)
        judged = np.stack([shadow.judged[rows_of(ids, shadow)] for shadow in shadows])
        signals, complement = self._level(-numbers), mates(seen[:, judged.all(axis=0)])
        self.learn(signals, seen)
        scores, members = list[Values](), list[Inside]()
        for target in range(len(shadows)):
            # The complement's presence would tell the target's members by the number of references.
            left_out = [number for number in (target, int(complement[target])) if number >= 0]
            references, membership = np.delete(signals, left_out, axis=0), np.delete(seen, left_out, axis=0)
            usable = judged[target] & self._usable(membership)
            if usable.any():
                scores.append(
                    scored(
                        self.compare, signals[target, usable], references[:, usable], membership[:, usable]
                    )
                )
                members.append(seen[target, usable])
        known = np.concatenate(members) if members else np.zeros(0, dtype=np.bool_)
        few = min(int(known.sum()), int((~known).sum())) < 2
        self._threshold = 0.0 if few else best_threshold(np.concatenate(scores), known)

    def score(self, victim: Answers, shadows: Sequence[Answers]) -> Guesses:
        """Return the attack's scores."""
        numbers, members = answered(victim.ids, [victim, *shadows])
        seen = members[1:]
        self.needs.check(seen)
        levels = self._level(-numbers)
        return Guesses(scored(self.compare, levels[0], levels[1:], seen), self._threshold)

    @property
    def least_inside(self) -> int:
        """Minimum number of shadows trained on a sample."""
        return self.needs.count if self.needs.sampling == "online" else 0

    def _usable(self, seen: Inside) -> Inside:
        """Return which samples have enough shadows, bool (n,)."""
        enough = ((~seen).sum(axis=0) >= self.needs.count) & (seen.sum(axis=0) >= self.least_inside)
        return np.asarray(enough, dtype=np.bool_)

    def _level(self, signals: Values) -> Values:
        values = signals[:, :, informative(signals)] if signals.ndim == 3 else signals
        return standardised(values) if self.standardise else values


@dataclass(kw_only=True)
class Lira(ByReferences):
    """The likelihood ratio attack, online: with shadows trained and not trained on a sample (`lira_online`).

    Args:
        variance: as in `lira_online`.
        centre: as in `lira_online`.
        density: of several signals, as in `lira_vector`.
    """

    needs: ClassVar[Fleet] = Fleet(count=2, maximum=None, sampling="online")
    variance: Variance = "bayesian"
    centre: Centre = "mean"
    density: Density = "separate"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_centre(self.variance, self.centre)

    def compare(self, target: Values, references: Values, inside: Inside) -> Values:
        """Return `lira_online`, or `lira_vector` of several signals."""
        settings = target, references, inside
        if target.ndim == 2:
            return lira_vector(*settings, density=self.density, variance=self.variance, centre=self.centre)
        return lira_online(*settings, variance=self.variance, centre=self.centre)


@dataclass(kw_only=True)
class LiraOffline(ByReferences):
    """The likelihood ratio attack, offline: shadows trained on a sample are not used for it.

    Args:
        variance: as in `lira_offline`.
        centre: as in `lira_offline`.
        guess: expect the effect that membership has on the shadows' own samples of the same difficulty.
    """

    needs: ClassVar[Fleet] = Fleet(count=2, maximum=None, sampling="offline")
    variance: Variance = "bayesian"
    centre: Centre = "mean"
    guess: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_centre(self.variance, self.centre)
        if self.guess and self.variance != "bayesian":
            raise InputError(
                f"guess goes with variance bayesian, got {self.variance}; leave one of the two out"
            )
        self._effect: JointPrior | None = None

    def learn(self, references: Values, inside: Inside) -> None:
        """Learn the expected effect."""
        self._effect = fitted_joint(references, inside) if self.guess else None

    def compare(self, target: Values, references: Values, inside: Inside) -> Values:
        """Return `lira_offline`."""
        return lira_offline(
            target, references, inside, variance=self.variance, centre=self.centre, effect=self._effect
        )


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

    The population is the evaluation samples themselves, without their membership. A population does not
    affect the order: it only turns ratios into fractions, and its size sets the lowest false positive rate.

    Args:
        standardise: as in `ByReferences`; off, since signals are likelihoods.
        gamma: as in `rmia`.
        offline_a: as in `rmia`; None is online, and needs shadows trained on each sample.
    """

    needs: ClassVar[Fleet] = Fleet(maximum=None, sampling="offline")
    standardise: bool = False
    gamma: float = 1.0
    offline_a: float | None = 0.3

    @property
    def least_inside(self) -> int:
        """One, online."""
        return 1 if self.offline_a is None else 0

    @property
    def attacker(self) -> Literal["online", "offline"]:
        """Online without `offline_a`."""
        return "online" if self.offline_a is None else "offline"

    def compare(self, target: Values, references: Values, inside: Inside) -> Values:
        """Return `rmia`."""
        population = Population(target, references, inside)
        return rmia(target, references, inside, population, gamma=self.gamma, offline_a=self.offline_a)


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


def _check_centre(variance: Variance, centre: Centre) -> None:
    """Raise InputError for a centre that the Bayesian density, which has its own, would not use."""
    if variance == "bayesian":
        refuse_idle("with variance bayesian", centre=(centre, "mean"))
