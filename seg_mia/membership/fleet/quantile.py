"""Membership inference without reference networks: signals relative to the sample's difficulty.

The target's signal is regressed on features of known non-members (Bertran et al.
2023, "Scalable membership inference attacks via quantile regression"), with the normal head: mean and log
variance. Here both are ridge regressions on few features, for which hundreds of non-members suffice.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from seg_mia.errors import InputError
from seg_mia.membership.fleet.arrays import Numbers, Values, finite

LEAST_NONMEMBERS = 200
LOG_CHI2 = -1.2703628454614782
"""Mean of log chi-square with one degree of freedom: the bias of log squared residuals."""


@dataclass(frozen=True)
class Coverage:
    """False positive rate on held-out non-members.

    Attributes:
        nominal: false positive rate that the quantile is meant to give.
        achieved: fraction of held-out non-members above it.
        nonmembers: number of held-out non-members.
    """

    nominal: float
    achieved: float
    nonmembers: int

    @property
    def covers(self) -> bool:
        """Whether the achieved rate is one that the nominal rate gives in 99 % of cases, by the binomial."""
        count = round(self.achieved * self.nonmembers)
        return bool(stats.binomtest(count, self.nonmembers, self.nominal).pvalue >= 0.01)


@dataclass(frozen=True)
class QuantileScores:
    """Result of the regression for a target's signals.

    Attributes:
        scores: (signal - mean) / standard deviation for the sample's features, (n,), higher for members.
        coverage: coverage at each nominal false positive rate.
        explained: fraction of the signal's variance over held-out non-members explained by the features.
    """

    scores: Values
    coverage: Sequence[Coverage]
    explained: float


def quantile_scores(
    target: Numbers,
    features: Numbers,
    public: Numbers,
    public_features: Numbers,
    *,
    ridge: float = 1.0,
    folds: int = 5,
    fprs: Sequence[float] = (0.1, 0.01),
    seed: int = 0,
) -> QuantileScores:
    """Return scores of a target's samples, from its signals for known non-members only.

    Args:
        target: signals of the evaluation samples, (n,), higher for members.
        features: features of these samples, such as statistics of image and mask, (n, features).
        public: the target's signals for non-members, 200 or more, (m,).
        public_features: (m, features).
        ridge: penalty on the weights of features scaled to variance 1, above 0.
        folds: parts of the non-members; each is held out once, for the variance and for the coverage.
        fprs: nominal rates of the coverage check, in (0, 1).
        seed: seed of the folds.

    Raises:
        InputError: too few non-members, incompatible shapes, values that are not finite, options out of
            range.
    """
    _check(target, features, public, public_features)
    if not ridge > 0 or not 2 <= folds <= len(public) or not all(0 < fpr < 1 for fpr in fprs):
        raise InputError(
            "ridge must be above 0, folds 2 or more and fprs in (0, 1), got "
            f"{ridge}, {folds} and {list(fprs)}; try 1, 5 and 0.1"
        )
    known, judged = public.astype(np.float64), target.astype(np.float64)
    known_features, judged_features = _scaled(public_features, features)
    fold = np.random.default_rng(seed).permutation(np.arange(len(known)) % folds)
    held_mean = np.empty(len(known))
    for number in range(folds):
        out = fold == number
        held_mean[out] = _fitted(known_features[~out], known[~out], known_features[out], ridge)
    squared = np.log(np.maximum((known - held_mean) ** 2, 1e-12 * known.var() + 1e-300)) - LOG_CHI2
    held_log = np.empty(len(known))
    for number in range(folds):
        out = fold == number
        held_log[out] = _fitted(known_features[~out], squared[~out], known_features[out], ridge)
    held = (known - held_mean) / np.exp(held_log / 2)
    mean = _fitted(known_features, known, judged_features, ridge)
    log_variance = _fitted(known_features, squared, judged_features, ridge)
    return QuantileScores(
        scores=(judged - mean) / np.exp(log_variance / 2),
        coverage=[Coverage(fpr, float(np.mean(held > stats.norm.isf(fpr))), len(known)) for fpr in fprs],
        explained=float(1 - np.mean((known - held_mean) ** 2) / known.var()),
    )


def _fitted(features: Values, values: Values, asked: Values, ridge: float) -> Values:
    """Return the ridge regression's values at other features; the mean is not penalised."""
    middle, level = features.mean(axis=0), float(values.mean())
    centred = features - middle
    gram = centred.T @ centred + ridge * np.eye(features.shape[1])
    weights = np.linalg.solve(gram, centred.T @ (values - level))
    return np.asarray(level + (asked - middle) @ weights, dtype=np.float64)


def _scaled(public: Numbers, judged: Numbers) -> tuple[Values, Values]:
    """Return features minus the mean of the public ones, over their deviation; constant ones are 0."""
    known, targets = public.astype(np.float64), judged.astype(np.float64)
    middle, deviation = known.mean(axis=0), known.std(axis=0)
    safe = np.where(deviation > 0, deviation, np.inf)
    return (known - middle) / safe, (targets - middle) / safe


def _check(target: Numbers, features: Numbers, public: Numbers, public_features: Numbers) -> None:
    for name, signal, table in (("target", target, features), ("public", public, public_features)):
        if signal.ndim != 1 or table.ndim != 2 or len(table) != len(signal):
            raise InputError(
                f"{name} signals must be (n,) and features (n, features), got {signal.shape} and "
                f"{table.shape}; give a row of features for each sample"
            )
        finite(signal, f"{name} signals")
        finite(table, f"{name} features")
    if features.shape[1] != public_features.shape[1]:
        raise InputError(
            f"target and public samples must have the same number of features, got {features.shape[1]} and "
            f"{public_features.shape[1]}"
        )
    if len(public) < LEAST_NONMEMBERS:
        raise InputError(
            f"quantile regression needs at least {LEAST_NONMEMBERS} known non-members, got {len(public)}; "
            "keep more samples out of training"
        )
