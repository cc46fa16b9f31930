"""How sure a membership attack's numbers are: stratified bootstrap intervals, by whole groups where given."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seg_mia.errors import InputError
from seg_mia.membership.rates import tpr_bounds
from seg_mia.membership.roc import (
    Confusion,
    Groups,
    Members,
    Scores,
    auc,
    check_members,
    check_scores,
    confusion,
    tpr_at_fpr,
)

NAMES = ("auc", "accuracy", "balanced_accuracy", "f1")
"""What is resampled."""
CELLS = 2**19
"""Replicates times samples held at once: about 4 MiB an array."""

Counts = NDArray[np.int64]
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A statistic of the samples at hand and the bounds of its confidence interval."""

    value: float
    low: float
    high: float


def draw_counts(members: Members, groups: Groups | None, *, draws: int, seed: int) -> Counts:
    """Return how often each sample occurs in each bootstrap replicate, int64 (draws, n).

    Members and non-members are resampled apart, so each replicate has as many of either; where groups are
    given, whole groups are, as many as there are on that side (Davison and Hinkley 1997, section 3.8).
    Raises InputError for fewer than two groups on a side, besides what `check_members` refuses.
    """
    return np.concatenate(list(_replicates(members, groups, draws, seed)))


def intervals(
    scores: Scores,
    members: Members,
    groups: Groups | None = None,
    *,
    threshold: float,
    fprs: Sequence[float] = (0.1, 0.01, 0.001),
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Return intervals of what an attack achieves.

    The keys are auc, accuracy, balanced_accuracy and f1 at `threshold`, and tpr_at_fpr_X for each X of
    `fprs`. The first four have percentile intervals (Efron and Tibshirani 1993, chapter 13); the threshold is
    held fixed: it was chosen elsewhere, on the shadow. Few units make them too narrow: with ten patients a
    side 95 % intervals of an AUC of 0.95 held it in 85 % of simulations (benchmarks/bootstrap_coverage.py).
    The rates have the bounds of `seg_mia.membership.rates.tpr_bounds`, exact on both axes: resampling does
    not show what a threshold does that was chosen on the scores that it is judged by. With 100 to 200
    samples percentile intervals of the TPR at 1 % FPR held it in 73 to 96 % of simulations.

    Resampling cannot show what never occurred: scores that part perfectly do so in every replicate, and the
    percentile interval has no width. There the interval is widened to the exact bound of Clopper and Pearson
    (1934) for independent trials that all came out alike: with alpha = 1 - level and m trials, the chance
    of that outcome is at least (alpha / 2) ** (1 / m). A unit is a group where groups are given, else a
    sample. It applies to

    - auc of 0, of 1 and of equal scores: m disjoint pairs of a member and a non-member, as many as there are
      units on the smaller side;
    - accuracy and balanced accuracy when all members are decided alike, and all non-members: all units, and
      those of the smaller side;
    - f1 then, and when it is 0: the f1 if as many samples came out otherwise as accuracy's bound allows.

    Args:
        scores: float (n,), higher for members.
        members: bool (n,).
        groups: the patient or video of each sample, if samples of one are alike.
        threshold: a member where score >= threshold.
        fprs: false positive rates; the TPR there is never interpolated.
        draws: bootstrap replicates.
        level: the share of such intervals that should hold the true value.
        seed: of the replicates.
    """
    check_scores(scores, members, groups)
    confused = confusion(scores, members, threshold)
    tprs = [tpr_at_fpr(scores, members, fpr) for fpr in fprs]
    values = [auc(scores, members), confused.accuracy, confused.balanced_accuracy, confused.f1, *tprs]
    rates = {f"tpr_at_fpr_{fpr:g}": fpr for fpr in fprs}
    points = dict(zip([*NAMES, *rates], values, strict=True))
    called = scores.astype(np.float64) >= threshold
    ranked = _ranked(scores)
    replicates = _replicates(members, groups, draws, seed)
    parts = [_statistics(counts, members, called, ranked) for counts in replicates]
    tail = _tail(level)
    exact = _exact(points, confused, _sides(members, groups), tail, tied=len(ranked[1]) == 1)
    result = {}
    for name, point in points.items():
        if name in rates:
            low, high = tpr_bounds(scores, members, groups, fpr=rates[name], tail=tail)
            result[name] = Interval(point, min(low, point), max(high, point))
            continue
        bounds = _percentiles(np.concatenate([part[name] for part in parts]), tail)
        floor, ceiling = exact.get(name, bounds)
        result[name] = Interval(point, min(bounds[0], floor), max(bounds[1], ceiling))
    return result


def paired_difference(
    first: Scores,
    second: Scores,
    members: Members,
    groups: Groups | None = None,
    *,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return AUC(first) - AUC(second) of two attacks on the same samples, both in the same replicates.

    When both AUCs are 0 or 1 it is widened by the exact bound that `intervals` describes, of pairs that
    both attacks order alike.
    """
    check_scores(first, members, groups)
    check_scores(second, members, groups)
    rankings = _ranked(first), _ranked(second)
    drawn = []
    for counts in _replicates(members, groups, draws, seed):
        one, other = (_auc(*_curve(counts, members, ranked)) for ranked in rankings)
        drawn.append(one - other)
    tail = _tail(level)
    low, high = _percentiles(np.concatenate(drawn), tail)
    aucs = auc(first, members), auc(second, members)
    point = aucs[0] - aucs[1]
    if set(aucs) <= {0.0, 1.0}:
        slack = _slack(min(_sides(members, groups)), tail)
        low, high = point * (1 - slack) - slack, point * (1 - slack) + slack
    return Interval(point, low, high)


def _replicates(members: Members, groups: Groups | None, draws: int, seed: int) -> Iterator[Counts]:
    """Yield the rows of `draw_counts`, CELLS at a time; how they are cut changes none of them."""
    if draws < 1:
        raise InputError(f"draws must be at least 1, got {draws}; 2000 is usual")
    check_members(members, groups)
    if min(_sides(members, groups)) < 2:
        inside, outside = _sides(members, groups)
        raise InputError(
            "at least 2 groups of members and 2 of non-members are needed, "
            f"got {inside} and {outside}; score more patients"
        )
    unit = _units(members, groups)
    sides = [np.unique(unit[side]) for side in (members, ~members)]
    generators = np.random.default_rng(seed).spawn(2)
    rows = max(1, CELLS // len(members))
    for start in range(0, draws, rows):
        counts = np.empty((min(rows, draws - start), unit.max() + 1), np.int64)
        for side, generator in zip(sides, generators, strict=True):
            counts[:, side] = _resampled(len(side), len(counts), generator)
        yield counts[:, unit]


def _resampled(units: int, rows: int, generator: np.random.Generator) -> Counts:
    """Return how often each unit is drawn in `units` draws with replacement, (rows, units)."""
    drawn = generator.integers(units, size=(rows, units)) + units * np.arange(rows)[:, None]
    return np.bincount(drawn.ravel(), minlength=rows * units).reshape(rows, units)


def _units(members: Members, groups: Groups | None) -> Counts:
    """Return the number of the unit that each sample belongs to, (n,)."""
    if groups is None:
        return np.arange(len(members))
    return np.unique(np.asarray(groups), return_inverse=True)[1]


def _sides(members: Members, groups: Groups | None) -> tuple[int, int]:
    """Return how many units are members and how many are not."""
    unit = _units(members, groups)
    return len(np.unique(unit[members])), len(np.unique(unit[~members]))


def _ranked(scores: Scores) -> tuple[Counts, Counts]:
    """Return the samples' order by falling score, and where in it each run of equal scores ends."""
    order = np.argsort(-scores)
    steps = np.diff(scores[order]) != 0
    return order, np.append(np.flatnonzero(steps), len(scores) - 1)


def _curve(counts: Counts, members: Members, ranked: tuple[Counts, Counts]) -> tuple[Counts, Counts]:
    """Return true and false positives at the ROC's points in each replicate, (rows, 1 + distinct scores)."""
    order, ends = ranked
    counts, inside = counts[:, order], members[order]
    true, false = (np.cumsum(counts * side, axis=1)[:, ends] for side in (inside, ~inside))
    return np.pad(true, ((0, 0), (1, 0))), np.pad(false, ((0, 0), (1, 0)))


def _auc(true: Counts, false: Counts) -> Values:
    doubled_area = (np.diff(false, axis=1) * (true[:, 1:] + true[:, :-1])).sum(axis=1)
    return np.asarray(doubled_area / (2 * true[:, -1] * false[:, -1]))


def _statistics(
    counts: Counts, members: Members, called: Members, ranked: tuple[Counts, Counts]
) -> dict[str, Values]:
    """Return every statistic in each replicate, (rows,)."""
    true, false = _curve(counts, members, ranked)
    inside, outside = true[:, -1], false[:, -1]
    hits, alarms = counts @ (called & members), counts @ (called & ~members)
    values = [
        _auc(true, false),
        (hits + outside - alarms) / (inside + outside),
        (hits / inside + (outside - alarms) / outside) / 2,
        2 * hits / (hits + alarms + inside),
    ]
    return dict(zip(NAMES, values, strict=True))


def _tail(level: float) -> float:
    if not 0 < level < 1:
        raise InputError(f"level must lie between 0 and 1, got {level}; 0.95 is usual")
    return (1 - level) / 2


def _percentiles(values: Values, tail: float) -> tuple[float, float]:
    low, high = np.quantile(values, [tail, 1 - tail]).tolist()
    return low, high


def _slack(trials: int, tail: float) -> float:
    """Return the highest chance of another outcome after so many trials that all came out alike."""
    return float(1 - tail ** (1 / trials))


def _exact(
    points: dict[str, float], confused: Confusion, sides: tuple[int, int], tail: float, *, tied: bool
) -> dict[str, tuple[float, float]]:
    """Return bounds of those statistics that no replicate can move, as `intervals` describes them."""
    pairs, everyone = _slack(min(sides), tail), _slack(sum(sides), tail)
    slack = dict[str, float]()
    if tied or points["auc"] in {0, 1}:
        slack["auc"] = pairs / 2 if tied else pairs
    members_alike = 0 in {confused.true_positives, confused.false_negatives}
    alike = members_alike and 0 in {confused.true_negatives, confused.false_positives}
    if alike:
        slack |= {"accuracy": everyone, "balanced_accuracy": pairs}
    bounds = {name: (max(0.0, points[name] - by), min(1.0, points[name] + by)) for name, by in slack.items()}
    if alike or confused.true_positives == 0:
        bounds["f1"] = _f1_bounds(confused, everyone)
    return bounds


def _f1_bounds(confused: Confusion, share: float) -> tuple[float, float]:
    """Return the lowest and the highest F1 when that share of all samples comes out otherwise."""
    hits, alarms, inside = confused.true_positives, confused.false_positives, confused.members
    moved = share * (inside + confused.nonmembers)
    lost = min(moved, hits)
    won = min(moved, confused.false_negatives)
    spared = min(moved - won, alarms)
    low = 2 * (hits - lost) / (hits - lost + alarms + inside)
    return low, 2 * (hits + won) / (hits + won + alarms - spared + inside)
