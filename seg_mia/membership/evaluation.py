"""How well scores tell members from non-members, in plain values for tables and JSON."""

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_mia.membership.intervals import intervals
from seg_mia.membership.roc import check_scores, confusion, pooled, resolvable

FPRS = (0.1, 0.01, 0.001)


def evaluate(
    scores: NDArray[np.float64],
    members: NDArray[np.bool_],
    groups: NDArray[np.str_],
    *,
    threshold: float,
) -> dict[str, Any]:
    """Return every measure with its 95 % interval, and the counts at a threshold.

    Args:
        scores: higher for members, (n,).
        members: who is one, (n,).
        groups: patient or video of each, (n,); intervals are by group.
        threshold: the least score of what is called a member.

    Returns:
        auc, accuracy, balanced_accuracy, f1 and tpr_at_fpr_0.1, 0.01, 0.001 as value, low and high; for the
        last three also `resolvable`: whether there are enough non-members (units of FPR) to speak of it.
        confusion: the four counts. members, nonmembers, groups: how many there are.

    Raises:
        InputError: scores that are not finite, or fewer than two of either kind.
    """
    check_scores(scores, members, groups)
    found: dict[str, Any] = {
        name: asdict(interval)
        for name, interval in intervals(scores, members, groups, threshold=threshold, fprs=FPRS).items()
    }
    others = int((~members).sum())
    for fpr in FPRS:
        found[f"tpr_at_fpr_{fpr:g}"]["resolvable"] = resolvable(others, fpr)
    counts = {
        "members": int(members.sum()),
        "nonmembers": others,
        "groups": len(np.unique(groups)),
        "threshold": threshold,
    }
    return {**found, "confusion": asdict(confusion(scores, members, threshold)), **counts}


def evaluate_groups(
    scores: NDArray[np.float64], members: NDArray[np.bool_], groups: NDArray[np.str_], *, threshold: float
) -> dict[str, Any] | None:
    """Return what `evaluate` does for the mean score of each group; None where no group has two samples.

    The threshold, chosen for single samples, is kept.
    """
    if len(np.unique(groups)) == len(groups):
        return None
    means, whose, names = pooled(scores, members, groups)
    if min(int(whose.sum()), int((~whose).sum())) < 2:
        return None
    return evaluate(means, whose, np.array(names), threshold=threshold)
