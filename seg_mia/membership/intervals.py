"""Confidence intervals of a membership attack's results, clustered by group if given.

Members and non-members are independent of each other, and so are groups (patients, videos); samples of one
group are dependent. Bootstrap percentile intervals are too narrow for few groups; these intervals use the
quantiles of Student's t, or are exact.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from seg_mia.errors import InputError
from seg_mia.membership.arrays import Groups, Members, Scores, Units, Values
from seg_mia.membership.rates import ClusteredSample, effective_groups, tpr_bounds
from seg_mia.membership.roc import auc, check_group_counts, check_scores, confusion, group_counts, tpr_at_fpr


@dataclass(frozen=True)
class Interval:
    """A sample statistic and the bounds of its confidence interval."""

    value: float
    low: float
    high: float


def intervals(
    scores: Scores,
    members: Members,
    groups: Groups | None = None,
    *,
    threshold: float,
    fprs: Sequence[float] = (0.1, 0.01, 0.001),
    level: float = 0.95,
) -> dict[str, Interval]:
    """Return confidence intervals of an attack's results.

    The keys are auc, accuracy, balanced_accuracy and f1 at `threshold` if there is one, and tpr_at_fpr_X for
    each X of `fprs`. Their coverage is measured in benchmarks/interval_coverage.py.

    - auc: `auc_bounds`.
    - accuracy, balanced_accuracy, f1: functions of the true and the false positive rate. Each rate has the
      exact bounds of `seg_mia.membership.rates.ClusteredSample`, and the distances to the value at one bound,
      with the other rate as observed, are added in quadrature (Zou and Donner 2008, Statistics in Medicine
      27:1693, "MOVER"). The threshold is fixed: it was chosen elsewhere, on the shadow.
    - tpr_at_fpr_X: `seg_mia.membership.rates.tpr_bounds`, exact on both axes, since here the threshold is
      chosen on the evaluated scores.

    Args:
        scores: float (n,), higher for members.
        members: bool (n,).
        groups: patient or video of each sample, if samples of one are dependent.
        threshold: decision rule: member if score >= threshold; NaN for none.
        fprs: false positive rates; the TPR is never interpolated.
        level: coverage of the intervals.

    Raises:
        InputError: errors of `check_scores`, fewer than two groups on a side, settings out of range.
    """
    tail = _tail(level)
    unit = _units(scores, members, groups)
    value = auc(scores, members)
    result = {"auc": Interval(value, *auc_bounds(scores, members, groups, tail=tail))}
    if not math.isnan(threshold):
        result |= _decided(scores, members, unit, threshold, tail)
    for fpr in fprs:
        rate = tpr_at_fpr(scores, members, fpr)
        low, high = tpr_bounds(scores, members, groups, fpr=fpr, tail=tail)
        result[f"tpr_at_fpr_{fpr:g}"] = Interval(rate, min(low, rate), max(high, rate))
    return result


def _decided(
    scores: Scores, members: Members, unit: Units, threshold: float, tail: float
) -> dict[str, Interval]:
    """Return accuracy, balanced accuracy and F1 of the decisions at a threshold."""
    confused = confusion(scores, members, threshold)
    positive = scores.astype(np.float64) >= threshold
    member_sample, nonmember_sample = (
        ClusteredSample(scores[side], unit[side]) for side in (members, ~members)
    )
    member_count, nonmember_count = confused.members, confused.nonmembers
    rates = confused.true_positives / member_count, confused.false_positives / nonmember_count
    ends = [
        (side.lower(hits, tail), side.upper(hits, tail))
        for side, hits in ((member_sample, positive[members]), (nonmember_sample, positive[~members]))
    ]
    decided: dict[str, Callable[[float, float], float]] = {
        "accuracy": lambda tpr, fpr: (
            (tpr * member_count + (1 - fpr) * nonmember_count) / (member_count + nonmember_count)
        ),
        "balanced_accuracy": lambda tpr, fpr: (tpr + 1 - fpr) / 2,
        "f1": lambda tpr, fpr: (
            2 * tpr * member_count / (tpr * member_count + fpr * nonmember_count + member_count)
        ),
    }
    return {
        name: Interval(getattr(confused, name), *_combined(statistic, rates, ends))
        for name, statistic in decided.items()
    }


def auc_bounds(
    scores: Scores, members: Members, groups: Groups | None = None, *, tail: float = 0.025
) -> tuple[float, float]:
    """Return the bounds of the AUC, each one-sided at `tail`, clustered by group.

    On the logit scale, with the variance of Obuchowski 1997 (Biometrics 53:567), which equals that of DeLong
    et al. 1988 if each sample is a group. A group's contribution is divided by (1 - its share of its side)
    squared, as in a jackknife (MacKinnon and White 1985, "HC3"), since a large group pulls the mean to
    itself. The quantile is that of Student's t; its degrees of freedom are the smaller of the sides'
    effective numbers of groups, minus one. The effective number is Kish's, (sum of sizes) squared / sum of
    squared sizes, which equals the number of groups if all have one size.

    Without variation, as when scores separate the sides perfectly or are all equal, the variance is unknown.
    The bounds are then those of Clopper and Pearson (1934) for independent pairs of a member and a
    non-member, as many as there are groups on the smaller side, all with the same outcome: the probability of
    another outcome is at most 1 - tail ** (1 / pairs).

    Args:
        scores: (n,), higher for members.
        members: bool (n,).
        groups: (n,); each on one side.
        tail: in (0, 0.5).

    Raises:
        InputError: errors of `check_scores`; fewer than two groups on a side.
    """
    unit = _units(scores, members, groups)
    area = auc(scores, members)
    variance = _variance(_placements(scores, members), members, unit)
    if variance == 0:
        slack = _slack(min(group_counts(members, unit)), tail)
        return area * (1 - slack), area + (1 - area) * slack
    freedom = min(effective_groups(unit[side]) for side in (members, ~members)) - 1
    quantile = float(stats.t.isf(tail, max(1.0, freedom)))
    width = quantile * math.sqrt(variance) / (area * (1 - area))
    middle = math.log(area / (1 - area))
    return _expit(middle - width), _expit(middle + width)


def paired_difference(
    first: Scores, second: Scores, members: Members, groups: Groups | None = None, *, level: float = 0.95
) -> Interval:
    """Return AUC(first) - AUC(second) of two attacks on the same samples.

    The bounds of the two AUCs (`auc_bounds`) are combined as for a difference of correlated estimates (Zou
    and Donner 2008, Statistics in Medicine 27:1693, "MOVER"), which is valid near an AUC of 1, where the
    normal approximation of DeLong et al. 1988 is not. Their correlation follows from the variances of the two
    and of the samples' differences, clustered by group. Attacks with the same order of samples have
    difference 0; two AUCs of 0 or 1 have the exact bounds for as many pairs as in `auc_bounds`.

    Raises:
        InputError: errors of `check_scores`; fewer than two groups on a side, a level out of range.
    """
    tail = _tail(level)
    check_scores(second, members, groups)
    unit = _units(first, members, groups)
    areas = auc(first, members), auc(second, members)
    point = areas[0] - areas[1]
    placed = _placements(first, members), _placements(second, members)
    if set(areas) <= {0.0, 1.0}:
        slack = _slack(min(group_counts(members, unit)), tail)
        return Interval(point, point * (1 - slack) - slack, point * (1 - slack) + slack)
    if np.array_equal(*placed):
        return Interval(point, point, point)
    first_part, second_part, difference = (
        _variance(values, members, unit) for values in (*placed, placed[0] - placed[1])
    )
    scale = 2 * math.sqrt(first_part * second_part)
    correlation = (first_part + second_part - difference) / scale if scale else 0.0
    correlation = max(-1.0, min(1.0, correlation))
    (low_one, high_one), (low_two, high_two) = (
        auc_bounds(scores, members, groups, tail=tail) for scores in (first, second)
    )
    down = _joined(areas[0] - low_one, high_two - areas[1], correlation)
    up = _joined(high_one - areas[0], areas[1] - low_two, correlation)
    return Interval(point, max(-1.0, point - down), min(1.0, point + up))


def _joined(first: float, second: float, correlation: float) -> float:
    """Return the margin of a difference, given the margins of both terms."""
    return math.sqrt(max(0.0, first**2 + second**2 - 2 * correlation * first * second))


def _placements(scores: Scores, members: Members) -> Values:
    """Return for each sample the correctly ranked fraction of the other side, ties half; (n,)."""
    values = scores.astype(np.float64)
    placed = np.empty(len(values))
    for side, sign in ((members, 1), (~members, -1)):
        opposite = np.sort(sign * values[~side])
        ranked = sign * values[side]
        both = np.searchsorted(opposite, ranked, "left") + np.searchsorted(opposite, ranked, "right")
        placed[side] = both / (2 * len(opposite))
    return placed


def _variance(placed: Values, members: Members, unit: Units) -> float:
    """Return the variance of the mean placement, over both sides."""
    total = 0.0
    for side in (members, ~members):
        group = np.unique(unit[side], return_inverse=True)[1]
        share = np.bincount(group) / len(group)
        sums = np.bincount(group, weights=placed[side] - placed[side].mean())
        total += float(((sums / (1 - share)) ** 2).sum()) / len(group) ** 2
    # Rounding leaves crumbs where nothing varies.
    return total if total > 1e-24 else 0.0


def _combined(
    statistic: Callable[[float, float], float],
    rates: tuple[float, float],
    ends: Sequence[tuple[float, float]],
) -> tuple[float, float]:
    """Return the bounds of a statistic that rises with the TPR and falls with the FPR."""
    (tpr, fpr), value = rates, statistic(*rates)
    (least_tpr, most_tpr), (least_fpr, most_fpr) = ends
    down = math.hypot(value - statistic(least_tpr, fpr), value - statistic(tpr, most_fpr))
    up = math.hypot(statistic(most_tpr, fpr) - value, statistic(tpr, least_fpr) - value)
    return max(0.0, value - down), min(1.0, value + up)


def _units(scores: Scores, members: Members, groups: Groups | None) -> Units:
    """Return the index of each sample's group, (n,)."""
    check_scores(scores, members, groups)
    if groups is None:
        return np.arange(len(members))
    unit = np.unique(np.asarray(groups), return_inverse=True)[1]
    check_group_counts(members, unit)
    return unit


def _tail(level: float) -> float:
    if not 0 < level < 1:
        raise InputError(f"level must lie between 0 and 1, got {level}; 0.95 is usual")
    return (1 - level) / 2


def _slack(trials: int, tail: float) -> float:
    """Return the upper bound on the probability of another outcome after trials with equal outcomes."""
    return float(1 - tail ** (1 / trials))


def _expit(value: float) -> float:
    return 1 / (1 + math.exp(min(700.0, -value)))
