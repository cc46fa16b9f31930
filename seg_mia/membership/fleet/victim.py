"""Decisions about one victim by thresholds of the attacker's networks: those within an attacker's reach.

Each of the attacker's networks in turn is the target of the others. Their scores, whose members are known,
give one threshold for all patients, or a threshold for each; no membership of the victim is used. Without
precedent are the pooling by patient and the exclusion of complementary networks
(`seg_mia.membership.fleet.arrays.pair_folds`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from seg_mia.errors import InputError
from seg_mia.membership.fleet.arrays import Folds, Inside, Values, mates
from seg_mia.membership.fleet.decisions import FPRS, Rate, decided_rate, threshold_at_fpr
from seg_mia.membership.fleet.posterior import fitted_prior, predictive
from seg_mia.membership.fleet.scoring import scored
from seg_mia.membership.rates import tpr_bounds
from seg_mia.membership.roc import best_threshold, pooled

Names = NDArray[np.str_]


class NumberedAttack(Protocol):
    """An attack that is told which networks are compared."""

    def __call__(self, numbers: Folds, target: Values, references: Values, inside: Inside, /) -> Values:
        """Return scores of the target's samples, (n,); `numbers` are those of target and references."""


@dataclass(frozen=True)
class Thresholds:
    """What an attacker decides by about one victim's patients.

    Attributes:
        units: patients, sorted, (units,).
        lowest: lowest mean score of a patient called a member, by nominal false positive rate.
        chances: probability of each patient's score, or a higher one, under a network without it, (units,);
            None where no patient has two such networks.
        nonmembers: number of patients outside the attacker's networks that `lowest` was chosen on, over all
            networks (`Rate.chosen_on`).
    """

    units: Names
    lowest: Mapping[float, float]
    chances: Values | None = None
    nonmembers: int | None = None


@dataclass(frozen=True)
class VictimRates:
    """Rates of an attack on one victim, by the origin of the threshold; units are patients.

    Attributes:
        members: number of patients in the victim's training.
        nonmembers: number of others.
        pooled: one threshold, chosen on the evaluated scores, with the bounds of `tpr_bounds`.
        transferred: one threshold, from the attacker's networks; empty without.
        calibrated: a threshold for each patient, from the attacker's networks; empty without.
    """

    members: int
    nonmembers: int
    pooled: Sequence[Rate]
    transferred: Sequence[Rate]
    calibrated: Sequence[Rate]


def in_turn(
    signals: Values,
    inside: Inside,
    attack: NumberedAttack,
    usable: Callable[[Inside], Inside],
    judged: Inside | None = None,
) -> Values:
    """Return scores of networks, each the target of the others but its complement, (networks, n).

    Args:
        signals: higher for members, (networks, n) or (networks, n, signals).
        inside: bool (networks, n).
        attack: function from numbers of networks, a target, references and their members to scores.
        usable: function from the references' members to the samples that they suffice for, bool (n,).
        judged: samples that each network is attacked on, bool (networks, n); all if not given.

    Returns:
        scores, NaN where a network is not attacked on a sample.
    """
    counted = np.ones_like(inside) if judged is None else judged
    complement = mates(inside[:, counted.all(axis=0)])
    scores = np.full(inside.shape, np.nan)
    for target in range(len(signals)):
        # The complement's presence would tell the target's members by the number of references.
        left_out = [number for number in (target, int(complement[target])) if number >= 0]
        others = np.delete(np.arange(len(signals)), left_out)
        membership = inside[others]
        chosen = counted[target] & usable(membership)
        if chosen.any():
            scores[target, chosen] = scored(
                partial(attack, np.array([target, *others])),
                signals[target, chosen],
                signals[others][:, chosen],
                membership[:, chosen],
            )
    return scores


def transferred_thresholds(
    scores: Values, inside: Inside, groups: Names, fprs: Sequence[float] = FPRS
) -> dict[float, float]:
    """Return the lowest score with each false positive rate over the patients outside networks.

    Args:
        scores: of `in_turn`, (networks, n).
        inside: bool (networks, n).
        groups: patient of each sample, (n,).
        fprs: in [0, 1].

    Returns:
        thresholds for the mean score of a patient's samples, by rate; empty without a scored non-member.
    """
    means, members = _by_patient(scores, inside, groups)
    known = np.isfinite(means)
    if not (known & ~members).any():
        return {}
    return {fpr: threshold_at_fpr(means[known], members[known], fpr) for fpr in fprs}


def decides(scores: Values, inside: Inside, groups: Names, fprs: Sequence[float] = FPRS) -> Thresholds:
    """Return the thresholds of `transferred_thresholds`, for the patients and with the count behind them."""
    means, members = _by_patient(scores, inside, groups)
    count = int((np.isfinite(means) & ~members).sum())
    return Thresholds(
        np.unique(groups), transferred_thresholds(scores, inside, groups, fprs), nonmembers=count
    )


def of_victim(decided: Thresholds | None, groups: Names, chances: Values | None = None) -> Thresholds:
    """Return thresholds for a victim's patients: those decided for all of them, and chances of each."""
    units = np.unique(groups)
    if decided is None:
        return Thresholds(units, {}, chances)
    return replace(decided, units=units, chances=chances)


def turn_threshold(scores: Values, inside: Inside) -> float:
    """Return the score of highest balanced accuracy over networks that take turns as the target.

    Args:
        scores: of `in_turn`, (networks, n).
        inside: bool (networks, n).

    Returns:
        the threshold; 0 with fewer than two scored members or non-members.
    """
    known = np.isfinite(scores)
    few = min(int(inside[known].sum()), int((~inside[known]).sum())) < 2
    return 0.0 if few else best_threshold(scores[known], inside[known])


def null_chances(target: Values, scores: Values, inside: Inside, groups: Names) -> Values | None:
    """Return the probability of each patient's score or a higher one without the patient, (patients,).

    From the patient's scores under networks without it, as `seg_mia.membership.fleet.recipe.p_values`, of the
    scores themselves: ranks within each network would depend on its share of members, and so on the victim's.

    Args:
        target: scores of the victim's samples, (n,).
        scores: of `in_turn`, (networks, n).
        inside: bool (networks, n).
        groups: patient of each sample, (n,).

    Returns:
        probabilities of the sorted patients; None where none has two such networks, or the networks have no
        member among these samples, whose scores then are of other networks than the victim is.
    """
    means, members = _by_patient(scores, inside, groups)
    victim = _by_patient(target[None], np.zeros((1, len(target)), dtype=np.bool_), groups)[0]
    side = np.isfinite(means) & ~members
    if not (side.sum(axis=0) > 1).any() or not members.any():
        return None
    levels = np.nan_to_num(means)
    try:
        prior = fitted_prior(levels, side)
    except InputError:  # all networks give a patient the same score
        return None
    return predictive(levels, side, prior).upper(victim[0])


def victim_rates(
    scores: Values,
    members: Inside,
    groups: Names,
    thresholds: Thresholds | None = None,
    *,
    fprs: Sequence[float] = FPRS,
) -> VictimRates:
    """Return the rates of an attack on one victim, by patient.

    Bounds of decided rates are those of Clopper and Pearson (1934), and take the thresholds as given.

    Args:
        scores: (n,), higher for members.
        members: bool (n,).
        groups: patient of each sample, (n,).
        thresholds: of the attacker's networks; None without such.
        fprs: nominal false positive rates, in [0, 1].

    Raises:
        InputError: errors of `pooled`, no member or non-member, thresholds of other patients.
    """
    means, inside, names = pooled(scores, members, groups)
    if thresholds is not None and names != thresholds.units.tolist():
        raise InputError(
            f"thresholds must be of the scored patients, got {len(thresholds.units)} for {len(names)}; score "
            "the victim again"
        )
    lowest = {} if thresholds is None else thresholds.lowest
    chances = None if thresholds is None else thresholds.chances
    chosen_on = None if thresholds is None else thresholds.nonmembers
    return VictimRates(
        members=int(inside.sum()),
        nonmembers=int((~inside).sum()),
        pooled=[_chosen_here(means, inside, fpr) for fpr in fprs],
        transferred=[
            replace(_decided(fpr, means >= lowest[fpr], inside), chosen_on=chosen_on)
            for fpr in fprs
            if fpr in lowest
        ],
        calibrated=[] if chances is None else [_decided(fpr, chances <= fpr, inside) for fpr in fprs],
    )


def _chosen_here(means: Values, members: Inside, fpr: float) -> Rate:
    called = means >= threshold_at_fpr(means, members, fpr)
    low, high = tpr_bounds(means, members, fpr=fpr)
    return replace(_decided(fpr, called, members), low=low, high=high, achieved_low=None, achieved_high=None)


def _decided(fpr: float, called: Inside, members: Inside) -> Rate:
    return decided_rate(fpr, called[None], members[None])


def _by_patient(scores: Values, inside: Inside, groups: Names) -> tuple[Values, Inside]:
    """Return mean scores (networks, patients) over the scored samples, NaN for none, and members."""
    unit = np.unique(groups, return_inverse=True)[1]
    order = np.argsort(unit, kind="stable")
    starts = np.flatnonzero(np.diff(unit[order], prepend=-1))
    known = np.isfinite(scores)
    counts = np.add.reduceat(known[:, order], starts, axis=1, dtype=np.int64)
    sums = np.add.reduceat(np.where(known, scores, 0.0)[:, order], starts, axis=1)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return means, np.logical_or.reduceat(inside[:, order], starts, axis=1)
