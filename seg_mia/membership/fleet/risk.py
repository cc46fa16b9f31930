"""Each patient's own risk: how well a fleet tells networks with a patient from those without.

Scores that were fitted on the other networks are not comparable between targets of one sample: the target of
one comparison is a reference of the other, which makes null AUCs fall below 0.5 and scatter beyond their
standard error (for LiRA online with 8 + 8 networks 0.42 on average, where 0.5 is the truth). Networks are
compared within a fold alone, all of whose targets have the same references. A single signal, standardised,
is not fitted at all: all networks are then one fold, which is the sharpest.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from seg_mia.errors import InputError
from seg_mia.membership.fleet.arrays import Folds, Inside, Values, check_fleet, mates
from seg_mia.membership.intervals import Interval

NETWORKS_PER_SIDE = 16
"""So many networks with and without a patient tell an AUC within 0.1 (standard error); fewer tell a rank."""
GRID = np.round(np.arange(0.0, 1.0001, 0.05), 2)


@dataclass(frozen=True)
class Survival:
    """The share of patients whose AUC is at least so high.

    Attributes:
        at: the AUCs, (points,).
        share: of patients, (points,).
        low: lower end of the band that holds 95 % of such shares where nothing leaks, at each point.
        high: upper end.
    """

    at: Values
    share: Values
    low: Values
    high: Values


@dataclass(frozen=True)
class PatientRisk:
    """What a fleet shows of each patient.

    Attributes:
        auc: the chance that a network with the patient scores above one without, (patients,).
        error: its standard error (Hanley and McNeil 1982), (patients,).
        rank: 1 for the highest AUC, ties share the mean, (patients,).
        numbered: whether the patient has 16 networks or more on either side, so that the AUC may be told,
            bool (patients,); others have a rank alone.
        p_value: one-sided, of no leak, (patients,).
        significant: after Benjamini and Hochberg at 5 %, bool (patients,).
        survival: shares of patients against their null band.
        worst_decile: the mean AUC of the tenth of patients of highest AUC, at least one.
    """

    auc: Values
    error: Values
    rank: Values
    numbered: Inside
    p_value: Values
    significant: Inside
    survival: Survival
    worst_decile: float


@dataclass(frozen=True)
class Stability:
    """Whether two halves of a fleet find the same patients.

    Attributes:
        spearman: the rank correlation of the AUCs; None where one half's are all equal.
        jaccard: shared patients among the most exposed of either half, in [0, 1].
    """

    spearman: float | None
    jaccard: float


def patient_risk(
    scores: Values,
    inside: Inside,
    folds: Folds | None = None,
    *,
    permutations: int = 200,
    level: float = 0.05,
    seed: int = 0,
) -> PatientRisk:
    """Return each patient's risk.

    Args:
        scores: (networks, patients): a standardised signal, or out-of-sample scores of `attacked` with the
            same folds (few and large ones, as only networks of one fold are compared).
        inside: bool (networks, patients).
        folds: (networks,); all networks one fold if not given, which is for signals.
        permutations: how often members are dealt out anew for the null band.
        level: the false discovery rate, in (0, 1).
        seed: of the permutations.

    Raises:
        InputError: shapes that do not fit, a patient without two networks to compare.
    """
    area, error = patient_auc(scores, inside, folds)
    chances = patient_p_values(area, inside, folds)
    sides = np.minimum(inside.sum(axis=0), (~inside).sum(axis=0))
    return PatientRisk(
        auc=area,
        error=error,
        rank=np.asarray(stats.rankdata(-area), dtype=np.float64),
        numbered=sides >= NETWORKS_PER_SIDE,
        p_value=chances,
        significant=benjamini_hochberg(chances, level),
        survival=survival(scores, inside, folds, permutations=permutations, seed=seed),
        worst_decile=worst_decile(area),
    )


def patient_auc(scores: Values, inside: Inside, folds: Folds | None = None) -> tuple[Values, Values]:
    """Return each patient's AUC over networks and its standard error, both (patients,).

    The Mann-Whitney statistic within folds, weighted by the number of pairs; errors of Hanley and McNeil 1982
    (Radiology 143:29): SE^2 = [A (1 - A) + (n_in - 1)(q0 - A^2) + (n_out - 1)(q1 - A^2)] / (n_in n_out) with
    q0 = A / (2 - A) and q1 = 2 A^2 / (1 + A), combined over folds as independent.

    Args:
        scores: (networks, patients).
        inside: bool (networks, patients).
        folds: (networks,); one for all if not given.

    Raises:
        InputError: what `patient_risk` refuses.
    """
    values = check_fleet(scores, inside)
    if values.ndim != 2:
        raise InputError(f"scores must be (networks, patients), got {values.shape}; score vectors first")
    parts = [rows for rows in _folds(inside, folds) if len(rows) > 1]
    pairs = _pairs(inside, folds)
    ranks = [stats.rankdata(values[rows], axis=0) for rows in parts]
    return _areas(ranks, [inside[rows] for rows in parts], pairs)


def patient_p_values(area: Values, inside: Inside, folds: Folds | None = None) -> Values:
    """Return the one-sided chance of so high an AUC where nothing leaks, (patients,).

    By the normal approximation of the Mann-Whitney statistic, whose tails are thinner: chances are too large
    rather than too small, most with few networks.

    Args:
        area: AUCs of `patient_auc`, (patients,).
        inside: bool (networks, patients).
        folds: as for `patient_auc`.
    """
    pairs, variance = _pairs(inside, folds), np.zeros(inside.shape[1])
    for rows in _folds(inside, folds):
        members = inside[rows].sum(axis=0)
        variance += members * (len(rows) - members) * (len(rows) + 1) / 12
    return np.asarray(stats.norm.sf((area - 0.5) * pairs / np.sqrt(variance)), dtype=np.float64)


def benjamini_hochberg(chances: Values, level: float = 0.05) -> Inside:
    """Return which hypotheses are rejected with a false discovery rate of `level`, bool (n,).

    Benjamini and Hochberg 1995, Journal of the Royal Statistical Society B 57:289.

    Args:
        chances: p-values in [0, 1], (n,).
        level: in (0, 1).

    Raises:
        InputError: values out of range.
    """
    if not 0 < level < 1 or not ((chances >= 0) & (chances <= 1)).all():
        raise InputError(f"p-values must lie in [0, 1] and level in (0, 1), got level {level}")
    ordered = np.sort(chances)
    passing = np.flatnonzero(ordered <= level * np.arange(1, len(ordered) + 1) / max(1, len(ordered)))
    return np.asarray(chances <= (ordered[passing[-1]] if len(passing) else -1.0), dtype=np.bool_)


def survival(
    scores: Values,
    inside: Inside,
    folds: Folds | None = None,
    *,
    at: Values = GRID,
    permutations: int = 200,
    seed: int = 0,
) -> Survival:
    """Return the shares of patients of at least an AUC, and their band where nothing leaks.

    The band: memberships are permuted among the networks of a fold, for each patient apart.

    Args:
        scores: (networks, patients).
        inside: bool (networks, patients).
        folds: as for `patient_auc`.
        at: AUCs, (points,).
        permutations: 1 or more.
        seed: of the permutations.

    Raises:
        InputError: what `patient_auc` refuses.
    """
    area, _ = patient_auc(scores, inside, folds)
    parts, pairs = [rows for rows in _folds(inside, folds) if len(rows) > 1], _pairs(inside, folds)
    ranks = [stats.rankdata(scores[rows], axis=0) for rows in parts]
    generator = np.random.default_rng(seed)
    null = np.stack(
        [
            _share(_areas(ranks, [generator.permuted(inside[rows], axis=0) for rows in parts], pairs)[0], at)
            for _ in range(permutations)
        ]
    )
    low, high = np.quantile(null, (0.025, 0.975), axis=0)
    return Survival(at, _share(area, at), low, high)


def worst_decile(area: Values) -> float:
    """Return the mean of the highest tenth of AUCs (patients,), of one at least."""
    return float(np.sort(area)[-max(1, len(area) // 10) :].mean())


def network_halves(inside: Inside) -> tuple[Folds, Folds]:
    """Return the numbers of two disjoint halves of a fleet; complementary networks stay together.

    Args:
        inside: bool (networks, n).

    Raises:
        InputError: fewer than two pairs or networks without complement.
    """
    other = mates(inside)
    first = np.array([min(number, mate) if mate >= 0 else number for number, mate in enumerate(other)])
    units = np.unique(first)
    if len(units) < 2:
        raise InputError(
            f"halves need 2 pairs of networks or 2 without complement, got {len(units)}; train more networks"
        )
    half = np.isin(first, units[::2])
    return np.flatnonzero(half), np.flatnonzero(~half)


def stability(first: Values, second: Values, *, top: float = 0.05) -> Stability:
    """Return how alike two halves' AUCs of the same patients are.

    Args:
        first: (patients,).
        second: (patients,).
        top: the share of patients that are the most exposed, in (0, 1]; at least one patient.

    Raises:
        InputError: shapes that differ, fewer than two patients.
    """
    if first.shape != second.shape or first.ndim != 1 or len(first) < 2:
        raise InputError(
            f"both halves must have the same 2 patients or more, got {first.shape}, {second.shape}"
        )
    count = max(1, round(top * len(first)))
    flagged = [set(np.argsort(-area, kind="stable")[:count].tolist()) for area in (first, second)]
    flat = np.ptp(first) == 0 or np.ptp(second) == 0
    return Stability(
        spearman=None if flat else float(stats.spearmanr(first, second).statistic),
        jaccard=len(flagged[0] & flagged[1]) / len(flagged[0] | flagged[1]),
    )


def subgroups(
    area: Values, labels: Sequence[str] | NDArray[np.str_], *, resamples: int = 2000, seed: int = 0
) -> dict[str, Interval]:
    """Return for each subgroup its mean AUC less that of all other patients, with a bootstrap of patients.

    Args:
        area: (patients,).
        labels: the subgroup of each patient, such as its site, (patients,).
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        by name, sorted; subgroups of fewer than two patients, or of all but one, are left out.

    Raises:
        InputError: as many labels as patients are needed.
    """
    names = np.asarray(labels)
    if names.shape != area.shape:
        raise InputError(f"labels must name the subgroup of each patient, got {names.shape} for {area.shape}")
    generator, result = np.random.default_rng(seed), dict[str, Interval]()
    for name in np.unique(names):
        sides = [area[names == name], area[names != name]]
        if min(map(len, sides)) < 2:
            continue
        means = [
            side[generator.integers(len(side), size=(resamples, len(side)))].mean(axis=1) for side in sides
        ]
        low, high = np.quantile(means[0] - means[1], (0.025, 0.975))
        result[str(name)] = Interval(float(sides[0].mean() - sides[1].mean()), float(low), float(high))
    return result


def _areas(ranks: Sequence[Values], inside: Sequence[Inside], pairs: Values) -> tuple[Values, Values]:
    """Return AUCs and their standard errors from ranks within folds."""
    total, variance = np.zeros(len(pairs)), np.zeros(len(pairs))
    for rank, members in zip(ranks, inside, strict=True):
        n_in = members.sum(axis=0)
        n_out = len(members) - n_in
        count = n_in * n_out
        wins = np.where(members, rank, 0.0).sum(axis=0) - n_in * (n_in + 1) / 2
        total += np.where(count > 0, wins, 0)
        a = np.where(count > 0, wins / np.maximum(count, 1), 0.5)
        spread = a * (1 - a) + (n_in - 1) * (a / (2 - a) - a**2) + (n_out - 1) * (2 * a**2 / (1 + a) - a**2)
        variance += np.where(count > 0, count * np.maximum(spread, 0), 0)
    return total / pairs, np.sqrt(variance) / pairs


def _share(area: Values, at: Values) -> Values:
    return np.asarray((area >= at[:, None] - 1e-12).mean(axis=1), dtype=np.float64)


def _folds(inside: Inside, folds: Folds | None) -> list[Folds]:
    """Return the numbers of each fold's networks."""
    fold = np.zeros(len(inside), np.int64) if folds is None else folds
    if fold.shape != inside.shape[:1]:
        raise InputError(f"folds must be (networks,) = ({len(inside)},), got {fold.shape}; take pair_folds")
    return [np.flatnonzero(fold == number) for number in np.unique(fold)]


def _pairs(inside: Inside, folds: Folds | None) -> Values:
    """Return how many pairs of networks each patient has, (patients,); InputError where it has none."""
    pairs = np.zeros(inside.shape[1])
    for rows in _folds(inside, folds):
        members = inside[rows].sum(axis=0)
        pairs += members * (len(rows) - members)
    none = int((pairs == 0).sum())
    if none:
        raise InputError(
            f"each patient needs a network with and one without it in a fold, {none} of {len(pairs)} have "
            "none; take fewer folds or train more networks"
        )
    return pairs
