"""Signals of a fleet: many networks of one recipe, each trained on a random half of a pool.

In this package higher signals indicate members, for example a negative loss. Arrays are float64
(networks, n) or, for several signals, (networks, n, signals), and `inside` is bool (networks, n): the
training set of each network. The caller ensures that samples of one patient have equal entries.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_mia.errors import InputError

Values = NDArray[np.float64]
Numbers = NDArray[np.floating[Any]]
Inside = NDArray[np.bool_]
Folds = NDArray[np.int64]

NORMAL_MAD = 1.4826
"""Ratio of the standard deviation of a normal distribution to its median absolute deviation."""


def check_fleet(signals: Numbers, inside: Inside) -> Values:
    """Return a fleet's signals as float64.

    Args:
        signals: (networks, n) or (networks, n, signals).
        inside: bool (networks, n).

    Raises:
        InputError: incompatible shapes, signals that are not finite, no network.
    """
    if signals.ndim not in {2, 3} or inside.shape != signals.shape[:2] or inside.dtype != np.bool_:
        raise InputError(
            "signals must be (networks, n) or (networks, n, signals) and inside bool (networks, n), got "
            f"{signals.shape} and {inside.dtype} {inside.shape}; give a row for each network"
        )
    if not signals.size:
        raise InputError(
            f"signals must have at least one network and one sample, got {signals.shape}; name reference "
            "networks"
        )
    return finite(signals, "signals")


def check_target(target: Numbers, references: Numbers, inside: Inside) -> tuple[Values, Values]:
    """Return the signals of a target and of its references as float64.

    Args:
        target: (n,) or (n, signals).
        references: (networks, n) or (networks, n, signals).
        inside: bool (networks, n).

    Raises:
        InputError: errors of `check_fleet`, or a target of another shape.
    """
    references = check_fleet(references, inside)
    if target.shape != references.shape[1:]:
        raise InputError(
            f"target and references must have the same samples and signals, got {target.shape} and "
            f"{references.shape[1:]}; give the signals of the same samples"
        )
    return finite(target, "the target's signals"), references


def one_signal(target: Numbers) -> Numbers:
    """Return a target's signals, (n,); raise InputError for several signals."""
    if target.ndim != 1:
        raise InputError(
            f"this attack takes one signal, target (n,), got {target.shape}; for several use lira_vector"
        )
    return target


def finite(values: Numbers, name: str) -> Values:
    """Return values as float64; raise InputError if some are not finite."""
    broken = int(np.count_nonzero(~np.isfinite(values)))
    if broken:
        raise InputError(
            f"{name} must be finite, {broken} of {values.size} are not; leave out samples without a valid "
            "pixel and networks whose training diverged"
        )
    return np.asarray(values, dtype=np.float64)


def check_counts(inside: Inside, *, least_in: int = 0, least_out: int = 0) -> None:
    """Raise InputError unless each sample has enough reference networks trained and not trained on it.

    Args:
        inside: bool (networks, n).
        least_in: minimum number of networks trained on a sample.
        least_out: minimum number of networks not trained on it.
    """
    for condition, side, minimum in (("trained", inside, least_in), ("not trained", ~inside, least_out)):
        counts = side.sum(axis=0)
        short = int((counts < minimum).sum())
        if short:
            raise InputError(
                f"each sample needs at least {minimum} reference networks {condition} on it, {short} of "
                f"{len(counts)} have fewer among {len(inside)}; train more, or attack offline"
            )


def standardised(signals: Numbers, level: Inside | None = None) -> Values:
    """Return each network's signals minus their median over the pool, over 1.4826 MAD of the pool.

    The overall level differs between networks of one recipe, often by more than between members and
    non-members; without correction, densities over networks describe the networks. Median and median absolute
    deviation preserve the membership signal if half of the pool is inside each network. For a network with
    another fraction of members, estimate both from samples of one side with `level`.

    Args:
        signals: (networks, n) or (networks, n, signals); a single network as (1, n).
        level: samples that determine level and scale, bool (n,); all if not given.

    Returns:
        float64 of the same shape.

    Raises:
        InputError: incompatible shapes, values that are not finite, a network with a constant signal.
    """
    if signals.ndim not in {2, 3} or (level is not None and level.shape != signals.shape[1:2]):
        raise InputError(
            "signals must be (networks, n) or (networks, n, signals) and level bool (n,), got "
            f"{signals.shape} and {None if level is None else level.shape}; give a row for each network"
        )
    values = finite(signals, "signals")
    known = values if level is None else values[:, level]
    if not known.shape[1]:
        raise InputError("level must select a sample, got none; leave it out for the whole pool")
    middle = np.median(known, axis=1, keepdims=True)
    spread = NORMAL_MAD * np.median(np.abs(known - middle), axis=1, keepdims=True)
    if (spread == 0).any():
        row = int(np.flatnonzero((spread == 0).reshape(len(values), -1).any(axis=1))[0])
        raise InputError(
            "the signals of a network must differ between samples, got equal ones on half of the samples or "
            f"more for network {row}; leave the network out, or use signals without rounding"
        )
    return np.asarray((values - middle) / spread, dtype=np.float64)


def informative(signals: Numbers) -> Inside:
    """Return which signals differ between samples in every network, bool (signals,).

    A signal may be constant for one kind of released output: labels have no entropy.

    Args:
        signals: (networks, n, signals).

    Raises:
        InputError: no signal differs.
    """
    values = finite(signals, "signals")
    if not values.size:
        raise InputError(
            f"signals must have at least one network, sample and signal, got {signals.shape}; name networks"
        )
    spread = np.median(np.abs(values - np.median(values, axis=1, keepdims=True)), axis=1)
    varying = (spread > 0).all(axis=0)
    if not varying.any():
        raise InputError(
            f"one of the {values.shape[2]} signals must differ between samples in every network, got equal "
            "ones on half of the samples or more; use signals without rounding"
        )
    return np.asarray(varying, dtype=np.bool_)


def prepared(
    signals: Numbers, inside: Inside, *, standardise: bool = True, varying: Inside | None = None
) -> Values:
    """Return a fleet's signals as attacks compare them: those that vary, without each network's level.

    Args:
        signals: (networks, n) or (networks, n, signals).
        inside: bool (networks, n).
        standardise: whether to remove each network's level and scale (`standardised`).
        varying: which of several signals to take, bool (signals,); those of `informative` if not given.

    Raises:
        InputError: errors of `check_fleet`, `informative` and `standardised`.
    """
    values = check_fleet(signals, inside)
    if values.ndim == 3:
        values = values[:, :, informative(values) if varying is None else varying]
    return standardised(values) if standardise else values


def untrained_networks(quality: Numbers, *, distance: float = 6.0) -> Inside:
    """Return which networks of a fleet failed to train, bool (networks,).

    Criterion: quality below the fleet's median by more than `distance` times 1.4826 MAD, and by more than a
    tenth of the median. Membership is not used.

    Args:
        quality: quality of each network on its own members, such as the mean Dice, higher is better,
            (networks,).
        distance: in robust standard deviations.

    Raises:
        InputError: a quality that is not finite, or no network.
    """
    if quality.ndim != 1 or not quality.size:
        raise InputError(f"quality must be (networks,), got {quality.shape}; give one number per network")
    values = finite(quality, "quality")
    middle = float(np.median(values))
    spread = NORMAL_MAD * float(np.median(np.abs(values - middle)))
    return np.asarray(values < middle - max(distance * spread, 0.1 * abs(middle)), dtype=np.bool_)


def mates(inside: Inside) -> Folds:
    """Return for each network the index of its complement, trained on exactly the other samples; -1 for none.

    Args:
        inside: bool (networks, n), such as rows of `seg_mia.data.splits.drawn`, which form such pairs.

    Returns:
        int64 (networks,).
    """
    complement = np.full(len(inside), -1, np.int64)
    if not inside.shape[1]:  # without samples every network would be the complement of every other
        return complement
    rows: dict[bytes, list[int]] = {}
    for number, row in enumerate(inside):
        waiting = rows.get((~row).tobytes())
        if waiting:
            complement[number] = waiting.pop()
            complement[complement[number]] = number
        else:
            rows.setdefault(row.tobytes(), []).append(number)
    return complement


def pair_folds(inside: Inside, count: int | None = None) -> Folds:
    """Return the fold of each network; complementary networks share one.

    A target's complement reveals the target's members: with the complement among the references, a sample has
    one reference fewer on the target's side, which alone changes the scores.

    Args:
        inside: bool (networks, n).
        count: number of folds; by default one for each pair, or network without a complement.

    Returns:
        int64 (networks,), numbered from 0.

    Raises:
        InputError: fewer than two folds, or more than there are pairs.
    """
    complement = mates(inside)
    first = np.where(complement < 0, np.arange(len(inside)), np.minimum(np.arange(len(inside)), complement))
    unit = np.unique(first, return_inverse=True)[1].astype(np.int64)
    units = int(unit.max()) + 1 if unit.size else 0
    folds = units if count is None else count
    if not 2 <= folds <= units:
        raise InputError(
            f"folds must lie between 2 and the {units} pairs of networks, got {folds}; train more networks"
        )
    return unit % folds
