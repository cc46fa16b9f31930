"""Individual risk of each patient: separation of a fleet's networks with and without the patient.

Scores fitted on the other networks are not comparable between targets of one sample: the target of
one comparison is a reference of the other. Null AUCs then fall below 0.5 and scatter beyond their
standard error (for LiRA online with 8 + 8 networks 0.42 on average, where 0.5 is correct). Networks are
therefore compared only within a fold, whose targets all have the same references. A standardised signal
needs no fit to other networks, and several are weighed by the other patients
(`seg_mia.membership.fleet.discriminant`): all networks then form one fold, the most sensitive analysis in
simulated fleets (benchmarks/patient_risk.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from seg_mia.errors import InputError
from seg_mia.membership.fleet.arrays import Folds, Inside, Values, check_fleet
from seg_mia.membership.fleet.exact import tail
from seg_mia.membership.intervals import Interval

NETWORKS_PER_SIDE = 16
"""Networks with and without a patient for an AUC within 0.1 (standard error); with fewer, only a rank."""
GRID = np.round(np.arange(0.0, 1.0001, 0.05), 2)


@dataclass(frozen=True)
class Survival:
    """Fraction of patients with at least a given AUC.

    Attributes:
        at: the AUCs, (points,).
        share: fraction of patients, (points,).
        low: lower end of the pointwise 95 % band of this fraction without leakage.
        high: upper end.
    """

    at: Values
    share: Values
    low: Values
    high: Values


@dataclass(frozen=True)
class PatientRisk:
    """Risk of each patient in a fleet.

    Attributes:
        auc: probability that a network with the patient scores above one without, (patients,).
        error: its standard error (Hanley and McNeil 1982), (patients,).
        rank: 1 for the highest AUC; ties share the mean, (patients,).
        numbered: whether the patient has at least 16 networks on either side, so that the AUC may be
            reported, bool (patients,); other patients have only a rank.
        p_value: one-sided, of no leakage, (patients,).
        significant: after Benjamini and Hochberg at 5 %, bool (patients,).
        survival: fractions of patients with their null band.
        worst_decile: mean AUC of the tenth of patients with the highest AUC, at least one.
        worst_decile_null: the same without leakage: mean over the permutations and its 95 % range. The
            highest of many AUCs lie above 0.5 by chance.
        leak_p_value: of no patient leaking at all: twice the smaller of Simes' test of the patients' p-values
            (1986, Biometrika 73:751), which finds few exposed patients, and the test of their mean AUC
            (`mean_p_value`), which finds a little leakage of many.
    """

    auc: Values
    error: Values
    rank: Values
    numbered: Inside
    p_value: Values
    significant: Inside
    survival: Survival
    worst_decile: float
    worst_decile_null: Interval
    leak_p_value: float


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
        permutations: number of permutations of members for the null band.
        level: false discovery rate, in (0, 1).
        seed: seed of the permutations.

    Raises:
        InputError: incompatible shapes, a patient without two networks to compare.
    """
    area, error = patient_auc(scores, inside, folds)
    chances = patient_p_values(area, inside, folds)
    sides = np.minimum(inside.sum(axis=0), (~inside).sum(axis=0))
    null = null_areas(scores, inside, folds, permutations=permutations, seed=seed)
    worst = np.array([worst_decile(row) for row in null])
    low, high = np.quantile(worst, (0.025, 0.975))
    return PatientRisk(
        auc=area,
        error=error,
        rank=np.asarray(stats.rankdata(-area), dtype=np.float64),
        numbered=sides >= NETWORKS_PER_SIDE,
        p_value=chances,
        significant=benjamini_hochberg(chances, level),
        survival=survival(area, null),
        worst_decile=worst_decile(area),
        worst_decile_null=Interval(float(worst.mean()), float(low), float(high)),
        leak_p_value=min(1.0, 2 * min(simes(chances), mean_p_value(area, inside, folds))),
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
        InputError: errors of `patient_risk`.
    """
    values = check_fleet(scores, inside)
    if values.ndim != 2:
        raise InputError(f"scores must be (networks, patients), got {values.shape}; score vectors first")
    parts = [rows for rows in _folds(inside, folds) if len(rows) > 1]
    pairs = _pairs(inside, folds)
    ranks = [stats.rankdata(values[rows], axis=0) for rows in parts]
    return _areas(ranks, [inside[rows] for rows in parts], pairs)


def patient_p_values(area: Values, inside: Inside, folds: Folds | None = None) -> Values:
    """Return the one-sided p-value of each AUC without leakage, (patients,).

    Exact (`seg_mia.membership.fleet.exact`): the normal approximation errs with few networks, to either side.

    Args:
        area: AUCs of `patient_auc`, (patients,).
        inside: bool (networks, patients).
        folds: as in `patient_auc`.
    """
    wins = area * _pairs(inside, folds)
    counts = np.stack(
        [(inside[rows].sum(axis=0), (~inside[rows]).sum(axis=0)) for rows in _folds(inside, folds)], axis=1
    )
    return np.array(
        [
            tail(float(won), [(int(m), int(n)) for m, n in zip(*sides, strict=True) if m * n])
            for won, sides in zip(wins, np.moveaxis(counts, 2, 0), strict=True)
        ]
    )


def benjamini_hochberg(chances: Values, level: float = 0.05) -> Inside:
    """Return the hypotheses rejected at a false discovery rate of `level`, bool (n,).

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


def mean_p_value(area: Values, inside: Inside, folds: Folds | None = None) -> float:
    """Return the one-sided p-value of a mean AUC of 0.5 or less over patients.

    By the normal distribution, with the variance of each patient's Mann-Whitney statistic without leakage.

    Args:
        area: AUCs of `patient_auc`, (patients,).
        inside: bool (networks, patients).
        folds: as in `patient_auc`.
    """
    pairs, variance = _pairs(inside, folds), np.zeros(inside.shape[1])
    for rows in _folds(inside, folds):
        members = inside[rows].sum(axis=0)
        variance += members * (len(rows) - members) * (len(rows) + 1) / 12
    return float(stats.norm.sf((area - 0.5).sum() / np.sqrt((variance / pairs**2).sum())))


def simes(chances: Values) -> float:
    """Return the p-value that all hypotheses hold, min n p_(k) / k over the sorted p-values (n,)."""
    return float(min(1.0, (len(chances) * np.sort(chances) / np.arange(1, len(chances) + 1)).min()))


def null_areas(
    scores: Values, inside: Inside, folds: Folds | None = None, *, permutations: int = 200, seed: int = 0
) -> Values:
    """Return AUCs without leakage, (permutations, patients).

    Memberships are permuted among the networks of a fold, separately for each patient.

    Args:
        scores: (networks, patients).
        inside: bool (networks, patients).
        folds: as in `patient_auc`.
        permutations: 1 or more.
        seed: seed of the permutations.

    Raises:
        InputError: errors of `patient_auc`.
    """
    parts, pairs = [rows for rows in _folds(inside, folds) if len(rows) > 1], _pairs(inside, folds)
    ranks = [stats.rankdata(scores[rows], axis=0) for rows in parts]
    generator = np.random.default_rng(seed)
    return np.stack(
        [
            _areas(ranks, [generator.permuted(inside[rows], axis=0) for rows in parts], pairs)[0]
            for _ in range(permutations)
        ]
    )


def survival(area: Values, null: Values, *, at: Values = GRID) -> Survival:
    """Return the fraction of patients above each AUC, and its pointwise null band.

    Args:
        area: AUCs of `patient_auc`, (patients,).
        null: AUCs of `null_areas`, (permutations, patients).
        at: AUCs, (points,).
    """
    shares = np.stack([_share(row, at) for row in null])
    low, high = np.quantile(shares, (0.025, 0.975), axis=0)
    return Survival(at, _share(area, at), low, high)


def worst_decile(area: Values) -> float:
    """Return the mean of the highest tenth of AUCs (patients,), at least one."""
    return float(np.sort(area)[-max(1, len(area) // 10) :].mean())


@dataclass(frozen=True)
class Subgroup:
    """Risk of the patients with one value of a column, such as a site.

    Attributes:
        value: the value.
        patients: number of patients.
        auc: mean AUC.
        difference: mean AUC minus that of all other patients.
    """

    value: str
    patients: int
    auc: float
    difference: Interval


def subgroups(
    area: Values, labels: Sequence[str] | NDArray[np.str_], *, resamples: int = 2000, seed: int = 0
) -> list[Subgroup]:
    """Return each subgroup's mean AUC and its difference from all others, with a bootstrap over patients.

    Args:
        area: (patients,).
        labels: subgroup of each patient, such as the site, (patients,).
        resamples: number of bootstrap resamples.
        seed: seed of the bootstrap.

    Returns:
        the subgroups by name; those of fewer than two patients, or of all but one, are omitted.

    Raises:
        InputError: a number of labels other than the number of patients.
    """
    names = np.asarray(labels)
    if names.shape != area.shape:
        raise InputError(f"labels must name the subgroup of each patient, got {names.shape} for {area.shape}")
    generator, result = np.random.default_rng(seed), list[Subgroup]()
    for name in np.unique(names):
        sides = [area[names == name], area[names != name]]
        if min(map(len, sides)) < 2:
            continue
        means = [
            side[generator.integers(len(side), size=(resamples, len(side)))].mean(axis=1) for side in sides
        ]
        low, high = np.quantile(means[0] - means[1], (0.025, 0.975))
        inner, outer = float(sides[0].mean()), float(sides[1].mean())
        difference = Interval(inner - outer, float(low), float(high))
        result.append(Subgroup(str(name), len(sides[0]), inner, difference))
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
    """Return the indices of each fold's networks."""
    fold = np.zeros(len(inside), np.int64) if folds is None else folds
    if fold.shape != inside.shape[:1]:
        raise InputError(f"folds must be (networks,) = ({len(inside)},), got {fold.shape}; use pair_folds")
    return [np.flatnonzero(fold == number) for number in np.unique(fold)]


def _pairs(inside: Inside, folds: Folds | None) -> Values:
    """Return the number of network pairs of each patient, (patients,); InputError if there are none."""
    pairs = np.zeros(inside.shape[1])
    for rows in _folds(inside, folds):
        members = inside[rows].sum(axis=0)
        pairs += members * (len(rows) - members)
    none = int((pairs == 0).sum())
    if none:
        raise InputError(
            f"each patient needs a fold with a network inside and one outside, {none} of {len(pairs)} have "
            "none; use fewer folds or train more networks"
        )
    return pairs
