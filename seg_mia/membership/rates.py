"""Confidence bounds of a true positive rate at a low false positive rate: exact on both axes, clustered."""

import math

import numpy as np
from scipy import stats

from seg_mia.errors import InputError
from seg_mia.membership.arrays import Groups, Members, Scores, Units, Values
from seg_mia.membership.roc import check_scores


def tpr_bounds(
    scores: Scores, members: Members, groups: Groups | None = None, *, fpr: float, tail: float = 0.025
) -> tuple[float, float]:
    """Return bounds of the TPR of an attack at a population FPR of `fpr`.

    The empirical TPR at an empirical FPR has two errors: the threshold is chosen on the evaluated scores, and
    few non-members leave its true FPR uncertain. With n non-members, the threshold above all of them has a
    true FPR of 1 / (n + 1) on average, and possibly 3.7 / n. Here both axes are bounded:

    - from below, by the lowest threshold whose FPR is at most `fpr` with confidence 1 - tail, and the lower
      bound of the TPR there. Without groups no threshold qualifies below log(tail) / log(1 - fpr)
      non-members, which are 368 at an FPR of 1 %; the bound is then 0.
    - from above, by the highest threshold whose FPR is at least `fpr` with that confidence, and the upper
      bound of the TPR there; 1 if there is none.

    Rates have the bounds of Clopper and Pearson (1934). With groups, these are computed for the effective
    number of samples (Korn and Graubard 1998, Survey Methodology 24:193): the equivalent number of
    independent samples, from the jackknife variance between groups, with the quantiles of Student's t for the
    effective number of groups (Kish 1965). If all samples have the same decision, no variance is observable,
    and the groups are counted.

    Args:
        scores: float (n,), higher for members.
        members: bool (n,).
        groups: patient or video of each sample, if samples of one are dependent.
        fpr: in [0, 1].
        tail: error probability of each of the four bounds, in (0, 0.5).

    Raises:
        InputError: errors of `check_scores`; fpr or tail out of range.
    """
    check_scores(scores, members, groups)
    if not 0 <= fpr <= 1 or not 0 < tail < 0.5:
        raise InputError(
            f"fpr must lie in [0, 1] and tail in (0, 0.5), got {fpr} and {tail}; 0.01 and 0.025 are usual"
        )
    values: Values = scores.astype(np.float64)
    names = np.arange(len(scores)) if groups is None else np.asarray(groups)
    units = np.unique(names, return_inverse=True)[1]
    member_sample, nonmember_sample = (
        ClusteredSample(values[side], units[side]) for side in (members, ~members)
    )
    descending = np.unique(nonmember_sample.scores)[::-1]
    low, high = 0.0, 1.0
    for above in descending:
        # The rule "score > above", which the next threshold of the ROC stands for.
        if nonmember_sample.upper(nonmember_sample.scores > above, tail) > fpr:
            break
        low = member_sample.lower(member_sample.scores > above, tail)
    for threshold in descending:
        if nonmember_sample.lower(nonmember_sample.scores >= threshold, tail) >= fpr:
            high = member_sample.upper(member_sample.scores >= threshold, tail)
            break
    return low, high


class ClusteredSample:
    """Members or non-members, with bounds of the fraction called members by a rule.

    The bounds are those of Clopper and Pearson (1934), for grouped samples of Korn and Graubard (1998), as
    described in `tpr_bounds`.
    """

    def __init__(self, scores: Scores, units: Units) -> None:
        """Set the side's samples.

        Args:
            scores: (n,), higher for members.
            units: index of each sample's group, int (n,).
        """
        self.scores: Values = scores.astype(np.float64)
        self.unit = np.unique(units, return_inverse=True)[1]
        self.sizes = np.bincount(self.unit)
        count, groups = len(scores), len(self.sizes)
        # Few groups tell their own variance badly, and so do many of which one holds most samples.
        known = effective_groups(self.unit)
        self.known = 0.0 if groups < 2 else (_quantile(count) / _quantile(max(2.0, known))) ** 2

    def lower(self, positive: Members, tail: float) -> float:
        """Return the lower bound of the fraction of positives, one-sided at `tail`; positive is bool (n,)."""
        count = self._effective(positive)
        hits = float(positive.mean()) * count
        return float(stats.beta.ppf(tail, hits, count - hits + 1)) if hits > 0 else 0.0

    def upper(self, positive: Members, tail: float) -> float:
        """Return the upper bound of the fraction of positives, one-sided at `tail`."""
        return 1 - self.lower(~positive, tail)

    def _effective(self, positive: Members) -> float:
        """Return the effective number of independent samples."""
        count, groups, share = len(positive), len(self.sizes), float(positive.mean())
        if groups == count:
            return float(count)
        if share in {0.0, 1.0} or groups < 2:
            return float(groups)
        strayed = (np.bincount(self.unit, weights=positive) - share * self.sizes) / (1 - self.sizes / count)
        variance = float((strayed**2).sum()) / count**2
        equal = count if variance == 0 else share * (1 - share) / variance * self.known
        return min(float(count), max(1.0, equal))


def effective_groups(units: Units) -> float:
    """Return the effective number of groups (Kish 1965): near one if one group dominates.

    Args:
        units: index of each sample's group, int (n,).
    """
    sizes = np.unique(units, return_counts=True)[1]
    return float(len(units) ** 2 / (sizes.astype(np.float64) ** 2).sum())


def _quantile(count: float) -> float:
    return float(stats.t.ppf(0.975, count - 1)) if count > 1 else math.inf
