"""Likelihood ratios between target and references: RMIA, its pooled form, and BASE.

Here a signal is log p of a sample under a network, such as minus the image's mean cross-entropy.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from seg_mia.errors import InputError
from seg_mia.membership.fleet.arrays import (
    Inside,
    Numbers,
    Values,
    check_counts,
    check_target,
    mates,
    one_signal,
)
from seg_mia.membership.roc import auc

GRID = tuple(step / 10 for step in range(11))


@dataclass(frozen=True)
class Population:
    """Comparison samples of RMIA, not scored, from patients disjoint from the scored ones.

    Attributes:
        target: log p under the target, (z,).
        references: log p under each reference, (networks, z).
        inside: training sets of the references over these samples, bool (networks, z).
    """

    target: Numbers
    references: Numbers
    inside: Inside


def rmia(
    target: Numbers,
    references: Numbers,
    inside: Inside,
    population: Population,
    *,
    gamma: float = 1.0,
    offline_a: float | None = None,
) -> Values:
    """Return the fraction of a population whose ratio a sample's exceeds `gamma` times, (n,), in [0, 1].

    mean over z of 1[(p(x|theta) / p(x)) / (p(z|theta) / p(z)) > gamma] (Zarifzadeh, Liu and Shokri 2024,
    "Low-cost high-power membership inference attacks", equations 2 to 4). Scores are multiples of 1 / z: a
    false positive rate of f needs a population of 10 / f; `base` gives the same order without one.

    Args:
        target: log p under the target, at most 0, (n,).
        references: (networks, n).
        inside: bool (networks, n).
        population: the samples z.
        gamma: 1 or more; 2 in the paper.
        offline_a: None is online, p(x) = (mean_in p + mean_out p) / 2. A value in [0, 1] is offline, with
            only the networks without the sample: p(x) = ((1 + a) mean_out p + 1 - a) / 2; see
            `tuned_offline_a`.

    Raises:
        InputError: incompatible shapes, values that are not finite or above 0, options out of range, a sample
            without a network on a required side, an empty population.
    """
    if not gamma >= 1 or not (offline_a is None or 0 <= offline_a <= 1):
        raise InputError(f"gamma must be at least 1 and offline_a in [0, 1], got {gamma} and {offline_a}")
    if not population.target.size:
        raise InputError("RMIA needs a population, got none; keep non-members out of training, or use base")
    ratio = log_ratio(target, references, inside, offline_a=offline_a)
    ratios = np.sort(
        log_ratio(population.target, population.references, population.inside, offline_a=offline_a)
    )
    below = np.searchsorted(ratios, ratio - np.log(gamma), side="left")
    return np.asarray(below / len(ratios), dtype=np.float64)


def log_ratio(
    target: Numbers, references: Numbers, inside: Inside, *, offline_a: float | None = None
) -> Values:
    """Return log p(x|theta) - log p(x) of `rmia`, (n,), with its arguments and errors."""
    target, references = check_target(one_signal(target), references, inside)
    _check_log(target, references)
    check_counts(inside, least_in=1 if offline_a is None else 0, least_out=1)
    log_out = log_mean(references, ~inside)
    if offline_a is None:
        doubled = np.logaddexp(log_out, log_mean(references, inside))
        return np.asarray(target - (doubled - np.log(2)), dtype=np.float64)
    return _offline_ratio(target, log_out, offline_a)


def _offline_ratio(target: Values, log_out: Values, offline_a: float) -> Values:
    """Return `log_ratio` offline, (n,), from the log of the mean likelihood without each sample, (n,)."""
    log_rest = np.log1p(-offline_a) if offline_a < 1 else -np.inf
    doubled = np.logaddexp(log_out + np.log1p(offline_a), log_rest)
    return np.asarray(target - (doubled - np.log(2)), dtype=np.float64)


def tuned_offline_a(references: Numbers, inside: Inside, grid: Sequence[float] = GRID) -> float:
    """Return the `offline_a` of highest mean AUC over the references, each attacked by the others.

    The target is not used, and neither is a reference's complement. Ties go to the lowest value.

    Args:
        references: log p, at most 0, (networks, n).
        inside: bool (networks, n).
        grid: candidate values, in [0, 1].

    Raises:
        InputError: errors of `log_ratio`; no reference that others without its samples can attack.
    """
    areas = np.zeros(len(grid))
    attacked, complement = 0, mates(inside)
    for number in range(len(references)):
        # The complement's presence would tell the target's members by the number of references.
        remaining = ~np.isin(np.arange(len(references)), (number, complement[number]))
        usable = (~inside[remaining]).any(axis=0)
        members = inside[number, usable]
        if min(int(members.sum()), int((~members).sum())) < 2:
            continue
        attacked += 1
        target, others = check_target(
            one_signal(references[number, usable]),
            references[remaining][:, usable],
            inside[remaining][:, usable],
        )
        _check_log(target, others)
        log_out = log_mean(others, ~inside[remaining][:, usable])  # the same for all values
        areas += [auc(_offline_ratio(target, log_out, value), members) for value in grid]
    if not attacked:
        raise InputError(
            f"offline_a is chosen by attacks of references on each other, which {len(references)} references "
            "do not allow; train more, or set offline_a, 0.3 is usual"
        )
    return float(grid[int(np.argmax(areas))])


def base(target: Numbers, references: Numbers, inside: Inside, *, online: bool = True) -> Values:
    """Return log p(x|theta) - log mean_k p(x|k), (n,).

    Lassila et al. 2025 (BASE); it has the order of RMIA with an infinite population.

    Args:
        target: log p under the target up to a factor, (n,).
        references: (networks, n).
        inside: bool (networks, n).
        online: whether the mean is over all networks; otherwise over those without the sample.

    Raises:
        InputError: incompatible shapes, values that are not finite, a sample without such a network.
    """
    target, references = check_target(one_signal(target), references, inside)
    side = np.ones_like(inside) if online else ~inside
    check_counts(~side, least_out=1)
    return target - log_mean(references, side)


def less_population(scores: Values, population: Values) -> Values:
    """Return a target's log ratios minus their population mean, for pooling of targets, (n,).

    The population term of InfoRMIA, - mean_z log(p(z|theta) / p(z)), is one number per target: it leaves the
    order within a target unchanged and removes level differences between targets.

    Args:
        scores: log ratios of a target's samples, (n,).
        population: log ratios of its population, (z,).

    Raises:
        InputError: an empty population.
    """
    if not population.size:
        raise InputError(
            "the population must have at least one sample, got none; keep non-members out of training"
        )
    return scores - float(population.mean())


def log_mean(references: Values, side: Inside) -> Values:
    """Return the log of each sample's mean of exp over the networks of a side, (n,)."""
    hidden = np.where(side, references, -np.inf)
    return np.asarray(special.logsumexp(hidden, axis=0) - np.log(side.sum(axis=0)), dtype=np.float64)


def _check_log(*parts: Values) -> None:
    highest = max(float(part.max()) for part in parts)
    if highest > 0:
        raise InputError(
            f"log probabilities must be at most 0, got {highest:.3g}; pass the negative mean cross-entropy "
            "without standardisation"
        )
