"""Audit of a recipe: each network of a fleet in turn is the target, with others as references.

The number of decisions is networks times samples, so that low false positive rates are resolved on small
sets; decisions on one patient are not independent, and intervals are clustered by patient.

The number of references of a sample must not reveal the target's members. Networks are therefore attacked in
folds that keep complementary networks together (`seg_mia.membership.fleet.arrays.pair_folds`), by networks of
other folds.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from seg_mia.errors import InputError
from seg_mia.membership.fleet.arrays import Folds, Inside, Numbers, Values, check_fleet, pair_folds
from seg_mia.membership.fleet.decisions import FPRS, Rate, decided_rate, rate, threshold_at_fpr
from seg_mia.membership.fleet.posterior import fitted_prior, predictive
from seg_mia.membership.fleet.scoring import FleetAttack, scored
from seg_mia.membership.intervals import Interval
from seg_mia.membership.roc import Roc, auc, roc

CHUNK = 2**19
"""Decisions that are resampled at once: a few tens of megabytes."""


def attacked(signals: Numbers, inside: Inside, attack: FleetAttack, folds: Folds | None = None) -> Values:
    """Return scores of each network as target, with references from other folds, (networks, n).

    Args:
        signals: (networks, n) or (networks, n, signals), standardised if the attack compares levels.
        inside: bool (networks, n).
        attack: function from a target, references and their members to scores.
        folds: fold of each network, (networks,); `pair_folds` if not given.

    Raises:
        InputError: errors of `check_fleet`, `pair_folds` and the attack.
    """
    values = check_fleet(signals, inside)
    fold = _checked_folds(inside, folds)
    scores = np.empty(inside.shape)
    for number in range(len(values)):
        attackers = fold != fold[number]
        scores[number] = scored(attack, values[number], values[attackers], inside[attackers])
    return scores


def by_patient(
    values: Numbers, inside: Inside, groups: Sequence[str] | NDArray[np.str_]
) -> tuple[Values, Inside, list[str]]:
    """Return means over each patient's samples, (networks, patients, ...), members and names, sorted.

    Args:
        values: signals or scores, (networks, n) or (networks, n, signals).
        inside: bool (networks, n).
        groups: patient of each sample, (n,).

    Raises:
        InputError: incompatible shapes, a patient partly inside a network.
    """
    numbers = check_fleet(values, inside)
    if len(groups) != inside.shape[1]:
        raise InputError(f"groups must name one patient per sample, got {len(groups)} for {inside.shape[1]}")
    names, unit, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    order = np.argsort(unit, kind="stable")
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    counts = np.add.reduceat(inside[:, order], starts, axis=1, dtype=np.int64)
    torn = ((counts > 0) & (counts < sizes)).any(axis=0)
    if torn.any():
        raise InputError(
            f"a patient must be entirely inside or outside a network, {int(torn.sum())} of {len(names)} are "
            "split; draw members by patient"
        )
    sums = np.add.reduceat(numbers[:, order], starts, axis=1)
    shape = (len(sizes),) + (1,) * (numbers.ndim - 2)
    return sums / sizes.reshape(shape), counts > 0, names.tolist()


def pooled_auc(
    scores: Values,
    inside: Inside,
    groups: Sequence[str] | NDArray[np.str_] | None = None,
    *,
    level: float = 0.95,
    judged: Inside | None = None,
) -> Interval:
    """Return the AUC over all targets' decisions and its interval, clustered by patient.

    The variance is Obuchowski's for clustered data (1997, Biometrics 53:567), whose clusters contain members
    and non-members, on the logit scale, with Student's t on one degree of freedom fewer than patients. It is
    valid for this fleet's networks, not for others of the recipe.

    Args:
        scores: (networks, n).
        inside: bool (networks, n).
        groups: patient of each sample, (n,); if not given, each sample is its own.
        level: coverage of the interval, in (0, 1).
        judged: decisions that count, bool (networks, n); all if not given.

    Raises:
        InputError: incompatible shapes, fewer than two decisions on a side or two patients.
    """
    check_fleet(scores, inside)
    counted: slice | Inside = slice(None) if judged is None else judged.ravel()
    unit = np.tile(_units(inside, groups), len(inside))[counted]
    members, flat = inside.ravel()[counted], scores.ravel()[counted]
    area = auc(flat, members)
    sides = [np.sort(flat[side]) for side in (members, ~members)]
    influence = np.empty(len(flat))
    for side, sign, opposite in ((members, 1, sides[1]), (~members, -1, sides[0])):
        reached = np.searchsorted(opposite, flat[side], "left") + np.searchsorted(
            opposite, flat[side], "right"
        )
        share = reached / (2 * len(opposite))
        influence[side] = ((share if sign > 0 else 1 - share) - area) / side.sum()
    sums = np.bincount(np.unique(unit, return_inverse=True)[1], weights=influence)
    patients, tail = len(sums), (1 - level) / 2
    variance = float((sums**2).sum()) * patients / (patients - 1)
    if variance < 1e-24:
        slack = float(1 - tail ** (1 / patients))
        return Interval(area, area * (1 - slack), area + (1 - area) * slack)
    width = float(stats.t.isf(tail, patients - 1)) * np.sqrt(variance) / (area * (1 - area))
    middle = np.log(area / (1 - area))
    low, high = (float(1 / (1 + np.exp(-(middle + step)))) for step in (-width, width))
    return Interval(area, low, high)


def pooled_rates(
    scores: Values,
    inside: Inside,
    groups: Sequence[str] | NDArray[np.str_] | None = None,
    *,
    fprs: Sequence[float] = FPRS,
    resamples: int = 1000,
    seed: int = 0,
) -> list[Rate]:
    """Return the TPR over all targets' decisions, at one threshold chosen on the same decisions.

    Comparable with the literature. Bounds are percentiles of a bootstrap over patients, with new thresholds
    in each resample, given only where five false positives or more are expected. In simulated fleets of 8 and
    16 networks they contain the rate of infinitely many patients in 0.92 to 0.96 of cases there, and in as
    few as 0.31 below.

    Args:
        scores: (networks, n).
        inside: bool (networks, n).
        groups: patient of each sample, (n,); if not given, each sample is its own.
        fprs: in [0, 1].
        resamples: number of bootstrap resamples.
        seed: seed of the bootstrap.

    Raises:
        InputError: incompatible shapes, no decision on a side, fewer than two patients.
    """
    check_fleet(scores, inside)
    unit = _units(inside, groups)
    order = np.argsort(-scores.ravel(), kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores.ravel()[order])), len(order) - 1)
    members, column = inside.ravel()[order], np.tile(unit, len(scores))[order]
    patients = int(unit.max()) + 1
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(patients, np.full(patients, 1 / patients), size=resamples)
    once = _rates_at(np.ones((1, patients)), column, members, ends, fprs)
    chunks = np.array_split(drawn, max(1, -(-resamples * len(order) // CHUNK)))
    again = np.concatenate([_rates_at(chunk, column, members, ends, fprs) for chunk in chunks])
    low, high = np.nanquantile(again[:, :, 0], (0.025, 0.975), axis=0)
    nonmembers = int((~members).sum())
    rates = [rate(fpr, once[0, row, 0], once[0, row, 1], nonmembers) for row, fpr in enumerate(fprs)]
    return [
        point
        if point.flagged
        else replace(point, low=min(float(below), point.tpr), high=max(float(above), point.tpr))
        for point, below, above in zip(rates, low, high, strict=True)
    ]


def p_values(target: Values, references: Values, inside: Inside) -> Values:
    """Return the probability of at least this score under a network without the sample, (n,).

    Estimated from the sample's own scores under such networks, by the predictive Student t of
    `seg_mia.membership.fleet.posterior`: with the decision rule p <= f, every sample has the false positive
    rate f.

    Args:
        target: scores of the target, (n,).
        references: scores of other networks as targets, (networks, n).
        inside: bool (networks, n), of these.

    Raises:
        InputError: incompatible shapes, no sample with two such networks.
    """
    check_fleet(references, inside)
    return predictive(references, ~inside, fitted_prior(references, ~inside)).upper(target)


def calibrated_rates(
    scores: Values, inside: Inside, folds: Folds | None = None, *, fprs: Sequence[float] = FPRS
) -> list[Rate]:
    """Return the TPR at a threshold for each sample (`p_values`); arguments and errors as in `attacked`.

    Scores are replaced by the normal scores of their ranks within each target, so that any increasing
    function of an attack's scores gives the same rates: log tail probabilities, as of `lira_offline`, are far
    from normal. Bounds as in `transferred_rates`.
    """
    fold = _checked_folds(inside, folds)
    chances = attacked(normal_scores(scores), inside, p_values, fold)
    return [decided_rate(fpr, chances <= fpr, inside) for fpr in fprs]


def normal_scores(scores: Values) -> Values:
    """Return Phi^-1((rank - 1/2) / n) of each target's scores, (networks, n); ties share the mean rank."""
    ranks = stats.rankdata(scores, axis=1)
    return np.asarray(stats.norm.ppf((ranks - 0.5) / scores.shape[1]), dtype=np.float64)


def transferred_rates(
    scores: Values, inside: Inside, folds: Folds | None = None, *, fprs: Sequence[float] = FPRS
) -> list[Rate]:
    """Return TPR and achieved FPR at thresholds from networks of other folds; as in `attacked`.

    The rates of a real attacker: the threshold is never chosen on the evaluated scores. Bounds are exact for
    the effective number of decisions, clustered by column (`seg_mia.membership.rates.ClusteredSample`), and
    take the thresholds as given.
    """
    check_fleet(scores, inside)
    fold = _checked_folds(inside, folds)
    result = list[Rate]()
    nonmembers = (~inside).sum(axis=1)
    fewest = min(int(nonmembers[fold != number].sum()) for number in np.unique(fold))
    for fpr in fprs:
        decisions = np.empty(inside.shape, dtype=np.bool_)
        for number in np.unique(fold):
            attackers = fold != number
            decisions[~attackers] = scores[~attackers] >= threshold_at_fpr(
                scores[attackers], inside[attackers], fpr
            )
        result.append(replace(decided_rate(fpr, decisions, inside), chosen_on=fewest))
    return result


def pooled_roc(scores: Values, inside: Inside, *, points: int = 200) -> Roc:
    """Return points of the ROC over all targets' decisions, its ends included; none is interpolated.

    Args:
        scores: (networks, n).
        inside: bool (networks, n).
        points: maximum number of points, 2 or more, spread evenly over the logarithm of the FPR.

    Raises:
        InputError: incompatible shapes, fewer than two decisions on a side.
    """
    check_fleet(scores, inside)
    curve = roc(scores.ravel(), inside.ravel())
    grid = np.geomspace(1 / (~inside).sum(), 1, max(1, points - 1))
    last = np.searchsorted(curve.fpr, [0.0, *(grid * (1 + 1e-12))], side="right") - 1
    chosen = np.unique(last)
    return Roc(curve.fpr[chosen], curve.tpr[chosen], curve.thresholds[chosen])


def _rates_at(
    weights: NDArray[np.number], column: Folds, members: Inside, ends: Folds, fprs: Sequence[float]
) -> Values:
    """Return TPR and FPR of weighted decisions by falling score, (rows, fprs, 2); NaN for an empty side."""
    counts = weights[:, column].astype(np.float64)
    true, false = (
        np.pad(np.cumsum(counts * side, axis=1)[:, ends], ((0, 0), (1, 0))) for side in (members, ~members)
    )
    with np.errstate(invalid="ignore"):
        rates = np.stack([true / true[:, -1:], false / false[:, -1:]], axis=2)
    last = [(false <= np.floor(false[:, -1:] * fpr + 1e-9)).sum(axis=1) - 1 for fpr in fprs]
    return np.stack([rates[np.arange(len(rates)), position] for position in last], axis=1)


def _units(inside: Inside, groups: Sequence[str] | NDArray[np.str_] | None) -> Folds:
    """Return the index of each sample's patient, (n,)."""
    names = np.arange(inside.shape[1]) if groups is None else np.asarray(groups)
    unit = np.unique(names, return_inverse=True)[1].astype(np.int64)
    if unit.shape != inside.shape[1:] or int(unit.max()) < 1:
        raise InputError(f"groups must name 2 or more patients, got {len(names)} for {inside.shape[1]}")
    return unit


def _checked_folds(inside: Inside, folds: Folds | None) -> Folds:
    fold = pair_folds(inside) if folds is None else folds
    if fold.shape != inside.shape[:1] or len(np.unique(fold)) < 2:
        raise InputError(
            f"folds must be (networks,) = ({len(inside)},) with at least 2 distinct values, got "
            f"{fold.shape}; use pair_folds"
        )
    return fold
