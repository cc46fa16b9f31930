"""Strength of an attack over the number of reference networks, from one fleet."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from seg_mia.errors import InputError
from seg_mia.membership.fleet.arrays import Folds, Inside, Numbers, Values, pair_folds, prepared
from seg_mia.membership.fleet.decisions import Rate, rate
from seg_mia.membership.fleet.recipe import by_patient, pooled_auc, pooled_rates
from seg_mia.membership.fleet.scoring import FleetAttack, scored
from seg_mia.membership.intervals import Interval

COUNTS = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class CurvePoint:
    """An attack on a recipe with a given number of references per target; means over the draws.

    Attributes:
        references: number of reference networks of each target.
        draws: number of random choices of references; 1 if there is only one choice.
        decisions: mean number of decisions, over all targets.
        auc: over all decisions, with the mean bounds of `pooled_auc`.
        rate: at one threshold per draw, with the mean bounds of `pooled_rates`.
    """

    references: int
    draws: int
    decisions: float
    auc: Interval
    rate: Rate


def network_curve(
    signals: Numbers,
    inside: Inside,
    groups: Sequence[str] | NDArray[np.str_],
    attack: FleetAttack,
    counts: Sequence[int] = COUNTS,
    *,
    least_in: int = 0,
    least_out: int = 1,
    standardise: bool = True,
    fpr: float = 0.01,
    draws: int = 5,
    resamples: int = 200,
    seed: int = 0,
) -> list[CurvePoint]:
    """Return AUC and TPR of an attack with fewer references than the fleet has, by rising number.

    Each network in turn is the target. Its references are drawn at random from the other networks without its
    complement, whole complementary pairs first, so that an even number gives each sample as many references
    on both sides, and their number never reveals the target's members. With an odd number, one pair is
    represented by one network, drawn independently of the target.

    Args:
        signals: higher for members, (networks, n) or (networks, n, signals).
        inside: bool (networks, n).
        groups: patient of each sample, (n,); whole patients are evaluated, as in `recipe_audit`.
        attack: function from a target, references and their members to scores, such as `lira_online`.
        counts: numbers of references, 1 or more. The largest available is always added; larger ones, and
            those that leave an attack without decisions on a side, have no point.
        least_in: references trained on a sample that a decision needs.
        least_out: references not trained on it that a decision needs.
        standardise: as in `recipe_audit`.
        fpr: nominal false positive rate, in [0, 1].
        draws: random choices of references at each point, 1 or more.
        resamples: number of bootstrap resamples of each draw, for the bounds of the rate.
        seed: seed of draws and bootstrap.

    Raises:
        InputError: incompatible shapes, values that are not finite, a patient partly inside a network,
            options out of range, errors of the attack.
    """
    if not counts or min(counts) < 1 or draws < 1:
        raise InputError(f"counts and draws must be 1 or more, got {list(counts)} and {draws}; try 4 and 5")
    units, members, _ = by_patient(prepared(signals, inside, standardise=standardise), inside, groups)
    fold = pair_folds(members)
    largest = len(members) - int(np.bincount(fold).max())
    points = list[CurvePoint]()
    for count in sorted({number for number in counts if number < largest} | {largest}):
        rounds = draws if count < largest else 1
        tables = [
            _decisions(
                units, members, attack, _drawn(fold, count, [seed, count, number]), (least_in, least_out)
            )
            for number in range(rounds)
        ]
        if all(_both(inner) for _, inner, _ in tables):
            points.append(_point(count, tables, fpr, resamples, seed))
    return points


def _drawn(fold: Folds, count: int, seed: Sequence[int]) -> list[NDArray[np.int64]]:
    """Return the references of each network, indices (count,), whole folds first."""
    generator = np.random.default_rng(seed)
    chosen = list[NDArray[np.int64]]()
    for target in range(len(fold)):
        candidates = generator.permutation(np.flatnonzero(fold != fold[target]))
        order = generator.permutation(int(fold.max()) + 1)
        chosen.append(candidates[np.argsort(order[fold[candidates]], kind="stable")][:count])
    return chosen


def _decisions(
    units: Values,
    members: Inside,
    attack: FleetAttack,
    chosen: list[NDArray[np.int64]],
    least: tuple[int, int],
) -> tuple[Values, Inside, Folds]:
    """Return score, membership and patient of each decision, all (decisions,)."""
    scores, known, patients = list[Values](), list[Inside](), list[Folds]()
    for target, references in enumerate(chosen):
        seen = members[references]
        usable = (seen.sum(axis=0) >= least[0]) & ((~seen).sum(axis=0) >= least[1])
        if usable.any():
            rows = units[target, usable], units[references][:, usable], seen[:, usable]
            scores.append(scored(attack, *rows))
            known.append(members[target, usable])
            patients.append(np.flatnonzero(usable))
    if not scores:
        return np.zeros(0), np.zeros(0, dtype=np.bool_), np.zeros(0, dtype=np.int64)
    return np.concatenate(scores), np.concatenate(known), np.concatenate(patients)


def _both(members: Inside) -> bool:
    """Return whether two decisions or more on each side allow an AUC."""
    return min(int(members.sum()), int((~members).sum())) >= 2


def _point(
    count: int, tables: list[tuple[Values, Inside, Folds]], fpr: float, resamples: int, seed: int
) -> CurvePoint:
    areas, rates = list[Interval](), list[Rate]()
    for scores, members, patients in tables:
        rows = scores[None], members[None], np.char.zfill(patients.astype(str), 9)
        areas.append(pooled_auc(*rows))
        rates += pooled_rates(*rows, fprs=(fpr,), resamples=resamples, seed=seed)
    nonmembers = _mean([int((~members).sum()) for _, members, _ in tables])
    tpr, achieved = _mean([point.tpr for point in rates]), _mean([point.achieved_fpr for point in rates])
    lows = [point.low for point in rates if point.low is not None]
    highs = [point.high for point in rates if point.high is not None]
    bounded = len(lows) == len(rates)
    return CurvePoint(
        references=count,
        draws=len(tables),
        decisions=_mean([len(scores) for scores, _, _ in tables]),
        auc=Interval(
            _mean([area.value for area in areas]),
            _mean([area.low for area in areas]),
            _mean([area.high for area in areas]),
        ),
        rate=replace(
            rate(fpr, tpr, achieved, round(nonmembers)),
            low=_mean(lows) if bounded else None,
            high=_mean(highs) if bounded else None,
        ),
    )


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
