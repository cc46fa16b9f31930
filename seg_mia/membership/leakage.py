"""A joint test for leakage over many membership attacks.

The maximum of many statistics exceeds chance by luck far more often than each of them. Here the labels
"member" and "non-member" are permuted among whole groups (patients), for all attacks and seeds jointly,
and each statistic is compared with the best of the same attacks under permuted labels (Westfall and Young
1993, "Resampling-based multiple testing", the single-step minP method). If groups are exchangeable, so that
nothing distinguishes members, the probability of any false claim of leakage is at most alpha, whatever the
number of attacks and seeds, their dependence, and the number of samples per patient.

A split that keeps patients intact and has a fixed number of images per side assigns large patients to the
side filled first more often than to the other, and scores may depend on the size of a patient.
Labels are therefore permuted only among groups of similar size, which are exchangeable however a random
split treats sizes.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from seg_mia.errors import InputError
from seg_mia.membership.arrays import Values
from seg_mia.membership.compare import Scored
from seg_mia.membership.intervals import auc_bounds
from seg_mia.membership.rates import tpr_bounds
from seg_mia.membership.roc import (
    allowed_false_positives,
    check_group_counts,
    group_counts,
    pooled,
    resolvable,
)

Labels = NDArray[np.bool_]
Kind = Literal["auc", "tpr_at_fpr_0.01", "groups.auc", "groups.tpr_at_fpr_0.01"]
KINDS: tuple[Kind, ...] = get_args(Kind)

LOW_FPR = 0.01
"""Additional false positive rate at which attacks are tested: a few members may be nearly certain while the
AUC stays near chance (Carlini et al. 2022).
"""
POWER = 0.8
"""Power at the `detectable` AUC."""
WORLDS = 1000
"""Number of simulated score sets for the power."""
ALIKE = 1.25
"""Maximum ratio of group sizes in one class, within which labels are permuted."""


@dataclass(frozen=True)
class Tested:
    """One statistic of one attack.

    Attributes:
        attack: position of the attack among those tested.
        kind: the AUC or the TPR at 1 % FPR, over images or over groups.
        value: value of the statistic.
        low: its lower bound, simultaneous for all tested statistics at the test's confidence.
        high: its upper bound, likewise.
        p_value: p-value of this statistic alone.
        adjusted: probability, without leakage, that any of the statistics is as extreme.
    """

    attack: int
    kind: Kind
    value: float
    low: float
    high: float
    p_value: float
    adjusted: float


class Ends(TypedDict):
    """Bounds of a statistic."""

    low: float
    high: float


@dataclass(frozen=True)
class LeakTest:
    """Joint result of all attacks on one victim.

    Attributes:
        tested: each statistic; a leak is shown if `adjusted` is at most 1 - confidence.
        confidence: least probability of no claim without leakage.
        members: number of member groups, or of samples if each is its own group.
        nonmembers: number of non-member groups.
        grouped: whether any group has several samples.
        permutations: number of label permutations.
        detectable: smallest group-level AUC that this test detects in a single attack with a power of 80 %;
            None if no AUC is detectable with so few groups.
    """

    tested: Sequence[Tested]
    confidence: float
    members: int
    nonmembers: int
    grouped: bool
    permutations: int
    detectable: float | None


def leak_test(
    attacks: Sequence[Scored], *, permutations: int = 9999, confidence: float = 0.95, seed: int = 0
) -> LeakTest:
    """Test all attacks on one victim, or on several victims of one recipe and split, jointly.

    Args:
        attacks: scores of each attack; a group is on one side throughout, samples may differ.
        permutations: number of label permutations; the smallest p-value is 1 / (permutations + 1).
            Significance of the best statistic needs many times the number of statistics over alpha.
        confidence: in (0, 1).
        seed: seed of the permutations.

    Raises:
        InputError: no attack, fewer than two groups on a side, a group on different sides in two attacks, or
            settings out of range.
    """
    if not attacks or permutations < 1 or not 0 < confidence < 1:
        raise InputError(
            "the test needs at least one attack, one permutation and a confidence in (0, 1), got "
            f"{len(attacks)}, {permutations} and {confidence}; 9999 permutations and 0.95 are usual"
        )
    names, is_member = _sides(attacks)
    sizes = _sizes(attacks, names)
    labels = _dealt(is_member, _size_classes(sizes), permutations, np.random.default_rng(seed))
    numbers = [
        (attack, kind, reached)
        for attack, scored in enumerate(attacks)
        for kind, reached in _numbers(scored, names, labels)
    ]
    if permutations + 1 < len(numbers) / (1 - confidence) - 1e-6:
        raise InputError(
            f"at least {math.ceil(len(numbers) / (1 - confidence) - 1e-6)} permutations are needed for "
            f"{len(numbers)} numbers, got {permutations}: fewer cannot reach significance"
        )
    p_values, smallest_p = _least_p(np.stack([reached for *_, reached in numbers], axis=1))
    tail = (1 - confidence) / len(numbers)
    tested = [
        Tested(
            attack=attack,
            kind=kind,
            value=float(reached[0]),
            **_ends(attacks[attack], kind, float(reached[0]), tail),
            p_value=float(p_value),
            adjusted=float(np.mean(smallest_p <= p_value)),
        )
        for (attack, kind, reached), p_value in zip(numbers, p_values, strict=True)
    ]
    sides = int(is_member.sum()), int((~is_member).sum())
    return LeakTest(
        tested=tested,
        confidence=confidence,
        members=sides[0],
        nonmembers=sides[1],
        grouped=any(len(np.unique(scored.groups)) < len(scored.groups) for scored in attacks),
        permutations=permutations,
        detectable=detectable_auc(labels, level=_critical(smallest_p, 1 - confidence), seed=seed),
    )


def detectable_auc(labels: Labels, *, level: float, power: float = POWER, seed: int = 0) -> float | None:
    """Return the smallest group-level AUC that the test at `level` detects with `power`, None if none.

    Simulated with the permutations of the test itself: group scores are normal with variance 1, and those
    of members are shifted to give that AUC. It is None if even perfectly separated scores are not detected,
    because too few distinct permutations exist.

    Args:
        labels: member labels of groups, first the true ones and then the permuted ones, bool (permutations +
            1, g).
        level: p-value up to which a statistic counts as a leak, in (0, 1).
        power: in (0, 1).
        seed: seed of the simulated scores.
    """
    is_member = labels[0]
    noise = np.random.default_rng(seed).normal(size=(WORLDS, len(is_member)))
    distinct, times = np.unique(labels, axis=0, return_counts=True)  # of few groups there are few
    dealt, times = distinct.astype(np.float32), times.astype(np.float32)

    def detection_rate(area: float) -> float:
        shift = math.inf if area == 1 else math.sqrt(2) * float(stats.norm.ppf(area))
        ranks = stats.rankdata(
            is_member * 1.0 + 0 * noise if area == 1 else noise + shift * is_member, axis=1
        )
        columns = ranks.T.astype(np.float32)
        # Rank sums are multiples of a half: a quarter keeps ties despite float32, which counts exactly.
        reached = dealt @ columns >= is_member.astype(np.float32) @ columns - 0.25
        p_values = (times @ reached.astype(np.float32)).astype(np.float64) / len(labels)
        return float(np.mean(p_values <= level + 1e-9))

    if detection_rate(1.0) < power:
        return None
    low, high = 0.5, 1.0
    while high - low > 0.001:
        middle = (low + high) / 2
        low, high = (low, middle) if detection_rate(middle) >= power else (middle, high)
    return high


def _sides(attacks: Sequence[Scored]) -> tuple[NDArray[np.str_], Labels]:
    """Return the names of all groups, sorted, and which are members."""
    pairs = {
        pair
        for scored in attacks
        for pair in zip(scored.groups.tolist(), scored.members.tolist(), strict=True)
    }
    ordered = sorted(pairs)
    names = np.array([name for name, _ in ordered])
    is_member = np.array([member for _, member in ordered], dtype=np.bool_)
    if len(np.unique(names)) < len(names):
        raise InputError(
            "a group must be either members or non-members for all attacks and seeds, got one that changes; "
            "test only attacks of one split together"
        )
    check_group_counts(is_member, names)
    return names, is_member


def _sizes(attacks: Sequence[Scored], names: NDArray[np.str_]) -> NDArray[np.int64]:
    """Return the number of samples of each group, the maximum over attacks; (groups,)."""
    counts = [np.bincount(np.searchsorted(names, scored.groups), minlength=len(names)) for scored in attacks]
    largest: NDArray[np.int64] = np.stack(counts).max(axis=0)
    return largest


def _size_classes(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return each group's size class, whose largest size is at most ALIKE times its smallest."""
    classes = np.zeros(len(sizes), np.int64)
    first, number = 0, -1
    for position in np.argsort(sizes, kind="stable"):
        if number < 0 or sizes[position] > ALIKE * first:
            first, number = int(sizes[position]), number + 1
        classes[position] = number
    return classes


def _dealt(
    is_member: Labels, classes: NDArray[np.int64], permutations: int, rng: np.random.Generator
) -> Labels:
    """Return the true labels followed by the permuted ones, within each size class."""
    labels = np.tile(is_member, (permutations + 1, 1))
    for number in range(int(classes.max()) + 1):
        columns = np.flatnonzero(classes == number)
        labels[:, columns] = rng.permuted(labels[:, columns], axis=1)
    labels[0] = is_member
    return labels


def _numbers(scored: Scored, names: NDArray[np.str_], labels: Labels) -> Iterator[tuple[Kind, Values]]:
    """Yield each statistic of an attack under each row of labels, (permutations + 1,)."""
    unit = np.searchsorted(names, scored.groups)
    yield "auc", _areas(scored.scores, unit, labels)
    if resolvable(int((~scored.members).sum()), LOW_FPR):
        yield "tpr_at_fpr_0.01", _rates(scored.scores, unit, labels)
    counts = group_counts(scored.members, scored.groups)
    if len(np.unique(unit)) == len(unit) or min(counts) < 2:
        return
    means, _, group_names = pooled(scored.scores, scored.members, scored.groups)
    unit = np.searchsorted(names, np.array(group_names))
    yield "groups.auc", _areas(means, unit, labels)
    if resolvable(counts[1], LOW_FPR):
        yield "groups.tpr_at_fpr_0.01", _rates(means, unit, labels)


def _areas(scores: Values, unit: NDArray[np.intp], labels: Labels) -> Values:
    """Return the AUC under each row of labels; 0.5 if all samples are on one side."""
    groups = labels.shape[1]
    ranks = np.bincount(unit, weights=stats.rankdata(scores), minlength=groups)
    dealt = labels.astype(np.float64)
    member_counts = dealt @ np.bincount(unit, minlength=groups).astype(np.float64)
    pairs = member_counts * (len(scores) - member_counts)
    above = dealt @ ranks - member_counts * (member_counts + 1) / 2
    return np.where(pairs > 0, above / np.maximum(pairs, 1), 0.5)


def _rates(scores: Values, unit: NDArray[np.intp], labels: Labels) -> Values:
    """Return the TPR at 1 % FPR under each row of labels, never interpolated; 0 without members."""
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    parts = []
    for rows in np.array_split(labels, max(1, labels.shape[0] * len(scores) // 2**22)):
        dealt = rows[:, unit[order]]
        true, false = (np.cumsum(side, axis=1, dtype=np.int32)[:, ends] for side in (dealt, ~dealt))
        allowed = allowed_false_positives(false[:, -1].astype(np.int64), LOW_FPR)
        last = (false <= allowed[:, None]).sum(axis=1)
        hits = np.take_along_axis(np.pad(true, ((0, 0), (1, 0))), last[:, None], axis=1)[:, 0]
        parts.append(hits / np.maximum(true[:, -1], 1))
    return np.concatenate(parts)


def _least_p(reached: Values) -> tuple[Values, Values]:
    """Return each statistic's own p-value, (numbers,), and the smallest of each row of labels, (rows,)."""
    rows = len(reached)
    p_values = np.empty_like(reached)
    for column, ordered in enumerate(np.sort(reached, axis=0).T):
        p_values[:, column] = (rows - np.searchsorted(ordered, reached[:, column])) / rows
    return p_values[0], p_values.min(axis=1)


def _critical(smallest_p: Values, alpha: float) -> float:
    """Return the p-value up to which a single statistic counts as a leak."""
    ordered = np.sort(smallest_p)
    fitting = np.flatnonzero(np.searchsorted(ordered, ordered, side="right") <= alpha * len(ordered) + 1e-9)
    return float(ordered[fitting[-1]]) if len(fitting) else 1 / len(ordered)


def _ends(scored: Scored, kind: Kind, value: float, tail: float) -> Ends:
    """Return both bounds of a statistic, each one-sided at `tail`."""
    if kind.startswith("groups."):
        scores, members, names = pooled(scored.scores, scored.members, scored.groups)
        groups = np.array(names)
    else:
        scores, members, groups = scored.scores, scored.members, scored.groups
    if kind.endswith("auc"):
        low, high = auc_bounds(scores, members, groups, tail=tail)
    else:  # Two bounds make one: of the threshold and of the rate there.
        low, high = tpr_bounds(scores, members, groups, fpr=LOW_FPR, tail=tail / 2)
    return {"low": min(low, value), "high": max(high, value)}
