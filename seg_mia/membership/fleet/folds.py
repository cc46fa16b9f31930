"""Membership from the networks of a cross-validation: each sample was left out by exactly one of them.

The folds' networks are references without further training. Both tests are defined here, without precedent.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from seg_mia.errors import InputError
from seg_mia.membership.fleet.arrays import Folds, Inside, Numbers, Values, check_fleet


@dataclass(frozen=True)
class FoldRanks:
    """Rank of each sample's signal under the network that left it out, among all networks.

    Attributes:
        lowest: number of samples whose signal is lowest there; ties count in equal parts, rounded down.
        samples: number of samples.
        chance: expected fraction without a leak, 1 / networks.
        p_value: probability of as many or more by the binomial distribution, exact without a leak.
    """

    lowest: int
    samples: int
    chance: float
    p_value: float


def fold_ranks(signals: Numbers, inside: Inside) -> FoldRanks:
    """Return a test of "no network differs on the samples that it left out".

    Without a leak, each network of a sample is equally often the one of lowest signal, whatever their
    dependence, if folds were drawn at random. Units of `signals` must be independent: average the samples of
    a patient (`by_patient`).

    Args:
        signals: higher for members, each network's level removed, (networks, n).
        inside: bool (networks, n), False exactly once for each sample.

    Raises:
        InputError: incompatible shapes, values that are not finite, a sample not left out by exactly one
            network, fewer than three networks.
    """
    values, left_out = _checked(signals, inside)
    held_out = values[left_out, np.arange(values.shape[1])]
    minimum = values.min(axis=0)
    ties = (values == minimum).sum(axis=0)
    lowest = int(np.floor(((held_out == minimum) / ties).sum() + 1e-9))
    chance = 1 / len(values)
    test = stats.binomtest(lowest, values.shape[1], chance, alternative="greater")
    return FoldRanks(lowest, values.shape[1], chance, float(test.pvalue))


def left_out_ranks(signals: Numbers, inside: Inside) -> Values:
    """Return how many samples have each rank under the network that left them out, (networks,).

    The first rank is the lowest signal. Ties are shared in equal parts. Without a leak the numbers are equal,
    up to chance.

    Args:
        signals: as in `fold_ranks`.
        inside: as in `fold_ranks`.

    Raises:
        InputError: errors of `fold_ranks`.
    """
    values, left_out = _checked(signals, inside)
    held_out = values[left_out, np.arange(values.shape[1])]
    below, tied = (values < held_out).sum(axis=0), (values == held_out).sum(axis=0)
    ranks = np.arange(len(values))[:, None]
    shares = (ranks >= below) & (ranks < below + tied)
    return np.asarray((shares / tied).sum(axis=1), dtype=np.float64)


def fold_differences(signals: Numbers, inside: Inside) -> tuple[Values, Inside]:
    """Return scores of members and non-members with the same references, (2 (networks - 1), n), and members.

    For each of the networks trained on a sample in turn: its signal, and that of the network that left the
    sample out, both minus the mean under the remaining networks. With common references, the comparison has
    no bias by their number. Evaluate with `pooled_auc` and `pooled_rates`: rows alternate between members
    and non-members, and intervals are clustered by sample.

    Args:
        signals: as in `fold_ranks`.
        inside: as in `fold_ranks`.

    Raises:
        InputError: errors of `fold_ranks`.
    """
    values, left_out = _checked(signals, inside)
    columns = np.arange(values.shape[1])
    held_out = values[left_out, columns]
    # Networks trained on each sample, (networks - 1, n), in their order.
    trained = values.T[inside.T].reshape(values.shape[1], -1).T
    total = trained.sum(axis=0)
    rows = list[Values]()
    for member in trained:
        reference = (total - member) / (len(trained) - 1)
        rows += [member - reference, held_out - reference]
    scores = np.stack(rows)
    return scores, np.broadcast_to(np.arange(len(rows))[:, None] % 2 == 0, scores.shape).copy()


def _checked(signals: Numbers, inside: Inside) -> tuple[Values, Folds]:
    """Return signals as float64, and the network that left out each sample, (n,)."""
    values = check_fleet(signals, inside)
    wrong = int(((~inside).sum(axis=0) != 1).sum())
    if values.ndim != 2 or len(values) < 3 or wrong:
        raise InputError(
            f"each sample must be left out by exactly one of 3 or more networks, {wrong} of "
            f"{inside.shape[1]} are not and there are {len(values)}; name the networks of one split"
        )
    return values, np.argmin(inside, axis=0).astype(np.int64)
