"""Separation of members and non-members by scores: ROC, AUC, low-FPR rates, decisions at a threshold.

Scores are float (n,), one per image, higher for members; members is bool (n,). All functions raise InputError
for the errors of `check_scores`. Equal scores are one point of the ROC: no threshold separates them.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seg_mia.errors import InputError
from seg_mia.membership.arrays import Groups, Members, Scores, Units


def check_scores(scores: Scores, members: Members, groups: Groups | None = None) -> None:
    """Raise InputError unless scores are finite (n,) and `check_members` accepts members and groups."""
    if scores.ndim != 1 or members.shape != scores.shape:
        raise InputError(
            f"scores and members must have one shape (n,), got {scores.shape} and {members.shape}; "
            "give one score and one flag per image"
        )
    broken = np.count_nonzero(~np.isfinite(scores))
    if broken:
        raise InputError(
            f"scores must be finite, {broken} of {len(scores)} are NaN or infinite; check the network's "
            "output for these images"
        )
    check_members(members, groups)


def check_members(members: Members, groups: Groups | None = None) -> None:
    """Raise InputError unless members is bool (n,), with two on either side, and each group on one side."""
    if members.ndim != 1 or members.dtype != np.bool_:
        raise InputError(
            f"members must be bool (n,), got {members.dtype} {members.shape}; convert it with .astype(bool)"
        )
    member_count = np.count_nonzero(members)
    nonmember_count = len(members) - member_count
    if min(member_count, nonmember_count) < 2:
        raise InputError(
            f"at least 2 members and 2 non-members are needed, got {member_count} and {nonmember_count}; "
            "score more images"
        )
    if groups is not None:
        _check_groups(members, groups)


@dataclass(frozen=True)
class Roc:
    """Points by ascending FPR: (0, 0) at threshold inf, one per distinct score, the last (1, 1); float64."""

    fpr: NDArray[np.float64]
    tpr: NDArray[np.float64]
    thresholds: NDArray[np.float64]


def roc(scores: Scores, members: Members) -> Roc:
    """Return the ROC of the rule "member if score >= threshold"."""
    thresholds, true, false = _points(scores, members)
    return Roc(false / false[-1], true / true[-1], thresholds)


def auc(scores: Scores, members: Members) -> float:
    """Return the probability that a member scores above a non-member, ties half (Mann and Whitney 1947)."""
    _, true, false = _points(scores, members)
    doubled_area = (np.diff(false) * (true[1:] + true[:-1])).sum()
    return float(doubled_area / (2 * true[-1] * false[-1]))


def tpr_at_fpr(scores: Scores, members: Members, fpr: float) -> float:
    """Return the highest TPR among the ROC's points with FPR <= fpr; never interpolated.

    Below one allowed false positive (see `resolvable`) it is the fraction of members above every non-member.
    """
    if not 0 <= fpr <= 1:
        raise InputError(f"fpr must lie in [0, 1], got {fpr}; 0.001 is one false alarm in a thousand")
    _, true, false = _points(scores, members)
    last = np.searchsorted(false, allowed_false_positives(int(false[-1]), fpr), side="right") - 1
    return float(true[last] / true[-1])


def resolvable(nonmembers: int, fpr: float) -> bool:
    """Whether the non-members resolve that FPR: one false positive does not exceed it."""
    return bool(allowed_false_positives(nonmembers, fpr) >= 1)


def allowed_false_positives(nonmembers: int | NDArray[np.int64], fpr: float) -> NDArray[np.float64]:
    """Return the allowed number of false positives, a whole number; 0.29 of 100 are 29."""
    # 100 * 0.29 is 28.999999999999996.
    return np.floor(np.asarray(nonmembers) * fpr + 1e-9)


@dataclass(frozen=True)
class Confusion:
    """How one threshold decides; members are the positives, and there are some on either side."""

    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int

    @property
    def members(self) -> int:
        """Number of members."""
        return self.true_positives + self.false_negatives

    @property
    def nonmembers(self) -> int:
        """Number of non-members."""
        return self.true_negatives + self.false_positives

    @property
    def accuracy(self) -> float:
        """Fraction of correct decisions, in [0, 1]."""
        return (self.true_positives + self.true_negatives) / (self.members + self.nonmembers)

    @property
    def balanced_accuracy(self) -> float:
        """Mean of members' and non-members' accuracy, in [0, 1]; 0.5 is chance for any class sizes."""
        return (self.true_positives / self.members + self.true_negatives / self.nonmembers) / 2

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN), in [0, 1]; 0 without true positives, even without any positives."""
        return 2 * self.true_positives / (self.true_positives + self.false_positives + self.members)


def confusion(scores: Scores, members: Members, threshold: float) -> Confusion:
    """Count the decisions of the rule "member if score >= threshold"."""
    check_scores(scores, members)
    if math.isnan(threshold):
        raise InputError("threshold must be a number, got nan; choose it on the shadow with best_threshold")
    # NumPy would round the threshold to the scores' precision, onto one of them.
    positive = scores.astype(np.float64) >= threshold
    return Confusion(
        true_positives=int(np.count_nonzero(positive & members)),
        false_positives=int(np.count_nonzero(positive & ~members)),
        true_negatives=int(np.count_nonzero(~positive & ~members)),
        false_negatives=int(np.count_nonzero(~positive & members)),
    )


def best_threshold(scores: Scores, members: Members) -> float:
    """Return the threshold of highest balanced accuracy (Youden 1950), for use on other scores.

    It lies midway between the lowest score called a member and the next one below. Among several optima, by
    falling threshold, the middle one is taken, and of two middle ones the lower. If no threshold beats
    chance, as for equal scores, and the lowest score itself is taken, all are called members.
    """
    thresholds, true, false = _points(scores, members)
    # In whole numbers, so that equal ones are equal.
    youden = true * false[-1] - false * true[-1]
    best = np.flatnonzero(youden == youden.max())
    chosen = best[len(best) // 2]
    # The first point, without any positives, is never chosen: the last is as good and comes after it.
    if chosen == len(thresholds) - 1:
        return float(thresholds[-1])
    high, low = float(thresholds[chosen]), float(thresholds[chosen + 1])
    middle = high / 2 + low / 2
    return middle if middle > low else high


def pooled(
    scores: Scores, members: Members, groups: Groups
) -> tuple[NDArray[np.float64], Members, list[str]]:
    """Return mean scores (g,), members (g,) and names of the groups, sorted: patient-level scores."""
    check_scores(scores, members, groups)
    names, first, unit = np.unique(np.asarray(groups), return_index=True, return_inverse=True)
    sums = np.bincount(unit, weights=scores)
    return sums / np.bincount(unit), members[first], names.tolist()


def _points(
    scores: Scores, members: Members
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Return thresholds, true and false positives of the ROC's points."""
    check_scores(scores, members)
    distinct, rank = np.unique(scores.astype(np.float64), return_inverse=True)
    both = (np.bincount(rank[side], minlength=len(distinct))[::-1].cumsum() for side in (members, ~members))
    true, false = (np.concatenate([[0], counts]) for counts in both)
    return np.concatenate([[np.inf], distinct[::-1]]), true, false


def group_counts(members: Members, groups: Groups | Units) -> tuple[int, int]:
    """Return the numbers of member and non-member groups."""
    names = np.asarray(groups)
    return len(np.unique(names[members])), len(np.unique(names[~members]))


def check_group_counts(members: Members, groups: Groups | Units) -> None:
    """Raise InputError for fewer than two groups on a side, for which the variance is undefined."""
    member_count, nonmember_count = group_counts(members, groups)
    if min(member_count, nonmember_count) < 2:
        raise InputError(
            "at least 2 groups of members and 2 of non-members are needed, "
            f"got {member_count} and {nonmember_count}; score more patients"
        )


def _check_groups(members: Members, groups: Groups) -> None:
    if np.shape(groups) != members.shape:
        raise InputError(
            f"groups must have the members' shape {members.shape}, got {np.shape(groups)}; "
            "name one group per image"
        )
    names, unit = np.unique(np.asarray(groups), return_inverse=True)
    member_counts, size = np.bincount(unit, weights=members), np.bincount(unit)
    torn = names[(member_counts > 0) & (member_counts < size)]
    if len(torn):
        raise InputError(
            f"a group must be all members or all non-members, {len(torn)} of {len(names)} hold both, "
            f"{str(torn[0])!r} first; split by group"
        )
