"""Evaluation of membership scores, by image and by group."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from seg_mia.membership.certify import Certified, epsilon_lower_bound
from seg_mia.membership.fleet.quantile import QuantileScores
from seg_mia.membership.fleet.victim import victim_rates
from seg_mia.membership.gaussian_threshold import gaussian_threshold_bound
from seg_mia.membership.intervals import intervals
from seg_mia.membership.roc import auc, check_scores, confusion, group_counts, pooled, resolvable
from seg_mia.membership.scores import Guesses
from seg_mia.results.base import Measure
from seg_mia.results.membership import (
    FPRS,
    ClassifierSeeds,
    LastEpochs,
    MembershipMeasures,
    MembershipScores,
    RegressionFit,
    SeedValues,
)
from seg_mia.results.privacy import DPGuarantee, EpsilonLowerBound
from seg_mia.results.rates import ThresholdRates, reaches, threshold_rates

Scores = NDArray[np.float64]
Members = NDArray[np.bool_]
Groups = NDArray[np.str_]

DECIDED = ("accuracy", "balanced_accuracy", "f1")
"""Measures of decisions at a threshold."""


def evaluate(
    scores: Scores, members: Members, groups: Groups, *, threshold: float, resolution: float = 0.0
) -> MembershipMeasures:
    """Return every measure with its 95 % interval, and the counts at a threshold.

    Args:
        scores: higher for members, (n,).
        members: membership of each sample, (n,).
        groups: patient or video of each sample, (n,); intervals are clustered by group.
        threshold: lowest score called a member; NaN for none.
        resolution: lowest false positive rate that the values of the scores resolve.

    Returns:
        the measures; rates are `resolvable` if there are enough non-members (units of FPR).

    Raises:
        InputError: scores that are not finite, or fewer than two members or non-members.
    """
    check_scores(scores, members, groups)
    decides, undecided = not math.isnan(threshold), asdict(Measure(None))
    measures = {name: undecided for name in DECIDED if not decides} | {
        name: asdict(interval)
        for name, interval in intervals(scores, members, groups, threshold=threshold, fprs=FPRS).items()
    }
    nonmembers = int((~members).sum())
    for fpr in FPRS:
        measures[f"tpr_at_fpr_{fpr:g}"]["resolvable"] = resolvable(nonmembers, fpr) and reaches(
            fpr, resolution
        )
    counts = {
        "confusion": confusion(scores, members, threshold) if decides else None,
        "members": int(members.sum()),
        "nonmembers": nonmembers,
        "groups": len(np.unique(groups)),
        "threshold": threshold,
    }
    return MembershipMeasures.model_validate(measures | counts)


def evaluate_groups(
    scores: Scores, members: Members, groups: Groups, *, threshold: float, resolution: float = 0.0
) -> MembershipMeasures | None:
    """Return the result of `evaluate` for the mean score of each group; None if no group has two samples.

    The threshold, chosen for single samples, is kept.
    """
    by_group = _pooled(scores, members, groups)
    return None if by_group is None else evaluate(*by_group, threshold=threshold, resolution=resolution)


def certified(
    scores: Scores, members: Members, groups: Groups, guarantee: DPGuarantee | None
) -> EpsilonLowerBound:
    """Return the epsilon shown by scores; for groups of several samples, at the group level.

    Args:
        scores: higher for members, (n,).
        members: membership of each sample, (n,).
        groups: patient or video of each sample, (n,).
        guarantee: guarantee of the victim, whose delta is used; otherwise delta is a tenth of one over the
            number of members.
    """
    return _lower_bound(epsilon_lower_bound, scores, members, groups, guarantee)


def certified_gaussian(
    scores: Scores, members: Members, groups: Groups, guarantee: DPGuarantee | None
) -> EpsilonLowerBound | None:
    """Return the epsilon shown by scores for a Gaussian mechanism; None if the training is not one.

    It is if each step uses all units, with noise, or if one release is all. Arguments as in `certified`.
    """
    if guarantee is None or not guarantee.is_gaussian:
        return None
    return _lower_bound(gaussian_threshold_bound, scores, members, groups, guarantee)


class _Rule(Protocol):
    def __call__(
        self, scores: Scores, members: Members, /, *, delta: float, confidence: float
    ) -> Certified: ...


def _lower_bound(
    rule: _Rule, scores: Scores, members: Members, groups: Groups, guarantee: DPGuarantee | None
) -> EpsilonLowerBound:
    by_group = _pooled(scores, members, groups)
    unit_scores, unit_members = (scores, members) if by_group is None else by_group[:2]
    delta = None if guarantee is None else guarantee.delta
    if delta is None:
        delta = 1 / (10 * int(unit_members.sum()))
    return EpsilonLowerBound.measured(
        lambda confidence: rule(unit_scores, unit_members, delta=delta, confidence=confidence),
        delta=delta,
        unit="image" if by_group is None else "patient",
    )


def membership_scores(
    guesses: Guesses, members: Members, groups: Groups, guarantee: DPGuarantee | None = None
) -> MembershipScores:
    """Return all measures: over images and groups, of epsilon, over seeds and over the last epochs.

    Args:
        guesses: scores of the samples, and their threshold.
        members: membership of each sample, (n,).
        groups: patient or video of each sample, (n,).
        guarantee: differential privacy guarantee of the victim's training.
    """
    scores, settings = guesses.scores, {"threshold": guesses.threshold, "resolution": guesses.resolution}
    return MembershipScores(
        results=evaluate(scores, members, groups, **settings),
        groups=evaluate_groups(scores, members, groups, **settings),
        certified=certified(scores, members, groups, guarantee),
        gaussian=certified_gaussian(scores, members, groups, guarantee),
        seeds=_over_seeds(guesses, members) if len(guesses.seeds) > 1 else None,
        published_mean_of_last_epochs=_last_epochs(guesses, members) if guesses.last else None,
        regression=None if guesses.regression is None else _regression(guesses.regression),
        thresholds=_thresholds(guesses, members, groups),
    )


def _thresholds(guesses: Guesses, members: Members, groups: Groups) -> ThresholdRates | None:
    """Return rates by the origin of the threshold; None with fewer than two patients on a side."""
    if min(group_counts(members, groups)) < 2:
        return None
    rates = victim_rates(guesses.scores, members, groups, guesses.thresholds, fprs=FPRS)
    return threshold_rates(rates, guesses.resolution)


def _regression(fit: QuantileScores) -> RegressionFit:
    coverage = fit.coverage[0]
    return RegressionFit(
        nonmembers=coverage.nonmembers,
        explained=fit.explained,
        nominal_fpr=coverage.nominal,
        achieved_fpr=coverage.achieved,
        covers=coverage.covers,
    )


def _over_seeds(guesses: Guesses, members: Members) -> ClassifierSeeds:
    decided = [confusion(scores, members, threshold) for scores, threshold in guesses.seeds]
    return ClassifierSeeds(
        auc=_spread([auc(scores, members) for scores, _ in guesses.seeds]),
        balanced_accuracy=_spread([counts.balanced_accuracy for counts in decided]),
    )


def _last_epochs(guesses: Guesses, members: Members) -> LastEpochs:
    # The published metric uses a logit threshold of 0, regardless of the threshold chosen here.
    counts = [confusion(scores, members, 0.0) for scores in guesses.last]
    return LastEpochs(
        epochs=len(counts),
        accuracy=float(np.mean([count.accuracy for count in counts])),
        f1=float(np.mean([count.f1 for count in counts])),
    )


def _spread(values: Sequence[float]) -> SeedValues:
    return SeedValues(mean=float(np.mean(values)), std=float(np.std(values, ddof=1)), values=list(values))


def _pooled(scores: Scores, members: Members, groups: Groups) -> tuple[Scores, Members, Groups] | None:
    """Return mean scores of groups; None if no group has two samples, or a side has fewer than two."""
    if len(np.unique(groups)) == len(groups):
        return None
    means, group_members, names = pooled(scores, members, groups)
    if min(int(group_members.sum()), int((~group_members).sum())) < 2:
        return None
    return means, group_members, np.array(names)
