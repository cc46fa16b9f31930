"""Evaluation of membership scores, by image and by group."""

from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from seg_mia.membership.certify import epsilon_lower_bound
from seg_mia.membership.intervals import intervals
from seg_mia.membership.roc import check_scores, confusion, pooled, resolvable
from seg_mia.results.membership import FPRS, MembershipMeasures
from seg_mia.results.privacy import DPGuarantee, EpsilonLowerBound

Scores = NDArray[np.float64]
Members = NDArray[np.bool_]
Groups = NDArray[np.str_]


def evaluate(scores: Scores, members: Members, groups: Groups, *, threshold: float) -> MembershipMeasures:
    """Return every measure with its 95 % interval, and the counts at a threshold.

    Args:
        scores: higher for members, (n,).
        members: membership of each sample, (n,).
        groups: patient or video of each sample, (n,); intervals are clustered by group.
        threshold: lowest score called a member.

    Returns:
        the measures; rates are `resolvable` if there are enough non-members (units of FPR).

    Raises:
        InputError: scores that are not finite, or fewer than two members or non-members.
    """
    check_scores(scores, members, groups)
    measures = {
        name: asdict(interval)
        for name, interval in intervals(scores, members, groups, threshold=threshold, fprs=FPRS).items()
    }
    nonmembers = int((~members).sum())
    for fpr in FPRS:
        measures[f"tpr_at_fpr_{fpr:g}"]["resolvable"] = resolvable(nonmembers, fpr)
    counts = {
        "confusion": confusion(scores, members, threshold),
        "members": int(members.sum()),
        "nonmembers": nonmembers,
        "groups": len(np.unique(groups)),
        "threshold": threshold,
    }
    return MembershipMeasures.model_validate(measures | counts)


def evaluate_groups(
    scores: Scores, members: Members, groups: Groups, *, threshold: float
) -> MembershipMeasures | None:
    """Return the result of `evaluate` for the mean score of each group; None if no group has two samples.

    The threshold, chosen for single samples, is kept.
    """
    by_group = _pooled(scores, members, groups)
    return None if by_group is None else evaluate(*by_group, threshold=threshold)


def certified(
    scores: Scores, members: Members, groups: Groups, guarantee: DPGuarantee | None
) -> EpsilonLowerBound:
    """Return the epsilon proved by scores; for groups of several samples, at the group level.

    Args:
        scores: higher for members, (n,).
        members: membership of each sample, (n,).
        groups: patient or video of each sample, (n,).
        guarantee: guarantee of the victim, whose delta is used; otherwise delta is a tenth of one over the
            number of members.
    """
    by_group = _pooled(scores, members, groups)
    unit_scores, unit_members = (scores, members) if by_group is None else by_group[:2]
    delta = None if guarantee is None else guarantee.delta
    if delta is None:
        delta = 1 / (10 * int(unit_members.sum()))
    bound = asdict(epsilon_lower_bound(unit_scores, unit_members, delta=delta))
    return EpsilonLowerBound(unit="image" if by_group is None else "patient", delta=delta, **bound)


def _pooled(scores: Scores, members: Members, groups: Groups) -> tuple[Scores, Members, Groups] | None:
    """Return mean scores of groups; None if no group has two samples, or a side has fewer than two."""
    if len(np.unique(groups)) == len(groups):
        return None
    means, group_members, names = pooled(scores, members, groups)
    if min(int(group_members.sum()), int((~group_members).sum())) < 2:
        return None
    return means, group_members, np.array(names)
