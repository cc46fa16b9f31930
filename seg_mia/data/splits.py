"""Split into members and non-members of victim and shadow models."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from seg_mia.data.units import check_strata, reachable, shuffled, shuffled_units, stream, take, units_of
from seg_mia.errors import InputError

_HALVES, _DIVIDE, _HOLD_OUT, _FLEET = 0, 1, 2, 3  # each decision draws from its own random stream
_SHUFFLES = 32  # how many orders `divide` tries before it says that the groups do not fit


@dataclass(frozen=True)
class Split:
    """Samples of one half by role, as sorted indices into a source's ids.

    Attributes:
        members: training samples of the half's network.
        nonmembers: held-out samples, the non-members of membership inference.
        reference: samples for any other use (a teacher, a poison, a threshold).
    """

    members: tuple[int, ...]
    nonmembers: tuple[int, ...] = ()
    reference: tuple[int, ...] = ()

    def __iter__(self) -> Iterator[int]:
        return chain(self.members, self.nonmembers, self.reference)


def victim_shadow_split(
    ids: Sequence[str],
    groups: Sequence[str],
    *,
    seed: int,
    shadow_share: float = 0.5,
    duplicates: Iterable[Sequence[str]] = (),
    strata: Sequence[int] | None = None,
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Divide the samples between victim and shadow, as sorted indices into `ids`.

    A unit, never divided here, is a group merged with all groups joined to it by `duplicates`. Units
    are put in the order of their smallest id and then shuffled: the i-th gets the i-th raw 64-bit number
    of PCG64([seed, 0]), a stream that NumPy promises to keep, and units are sorted by their numbers. The
    victim gets round(n * (1 - shadow_share)) samples, or the nearest count that whole units allow (the
    larger of two), made from the shortest run of shuffled units that can make it. The order of `ids` and
    what either side is used for later do not matter.

    Args:
        ids: one name per sample, unique.
        groups: what must stay on one side, one name per sample.
        seed: 0 or more.
        shadow_share: the shadow's part of all samples, at least 0 and below 1.
        duplicates: ids of samples that show the same thing, one sequence for each such set.
        strata: a number per sample; both sides get its values in nearly the same proportions, see `divide`.

    Raises:
        InputError: if ids repeat, an id of a duplicate is unknown, or a number is out of range.
    """
    if not 0 <= shadow_share < 1:
        raise InputError(f"shadow_share must be at least 0 and below 1, got {shadow_share}; 0.5 is fair")
    check_strata(strata, ids)
    units = shuffled_units(units_of(ids, groups, duplicates), stream(seed, _HALVES), strata)
    victim_size = round(len(ids) * (1 - shadow_share))
    reach = reachable([len(unit) for unit in units], victim_size, limit=len(ids))
    count = min(np.flatnonzero(reach >= 0).tolist(), key=lambda total: (abs(total - victim_size), -total))
    chosen = take(units, reach, count)
    victim = set(chain.from_iterable(units[i] for i in chosen))
    return tuple(sorted(victim)), tuple(i for i in range(len(ids)) if i not in victim)


def divide(
    indices: Iterable[int],
    ids: Sequence[str],
    groups: Sequence[str],
    *,
    seed: int,
    members: int,
    nonmembers: int,
    reference: int | None = None,
    duplicates: Iterable[Sequence[str]] = (),
    strata: Sequence[int] | None = None,
) -> Split:
    """Divide one side's samples into members, non-members and reference, exactly as many as asked.

    Units (see `victim_shadow_split`) are shuffled with PCG64([seed, 1]). Members come first, then
    non-members, then reference, each from the shortest run of the units left that can make the count. Where
    no whole units make it, the smallest count above is made and the surplus of one unit is dropped from
    everything, so that no unit plays two parts. Should a later part then find too little, up to 32 shuffles
    are tried.

    With `strata`, shuffled units are put in an order of which every run holds the strata in proportion
    (see `_interleaved`): of independent samples, a part of m out of n gets m * n_s / n of a stratum of n_s,
    by less than 1 + S * n_s / n more or fewer where there are S strata.

    Args:
        indices: one side's samples, from `victim_shadow_split`.
        ids: the names of all samples, as given to `victim_shadow_split`.
        groups: the groups of all samples, as given to `victim_shadow_split`.
        seed: 0 or more.
        members: at least 1.
        nonmembers: at least 0.
        reference: at least 0; None takes all that is left.
        duplicates: as given to `victim_shadow_split`.
        strata: as given to `victim_shadow_split`.

    Raises:
        InputError: if a number is out of range or there are too few samples or groups.
    """
    if members < 1 or nonmembers < 0 or (reference or 0) < 0:
        raise InputError(
            "members must be at least 1, nonmembers and reference at least 0, "
            f"got {members}, {nonmembers} and {reference}; change these numbers"
        )
    check_strata(strata, ids)
    side, every = set(indices), units_of(ids, groups, duplicates)
    units = [unit for unit in every if side.issuperset(unit)]
    if sum(map(len, units)) != len(side):
        raise InputError(
            "indices must hold whole groups, got part of one; take them from victim_shadow_split()"
        )
    bits = stream(seed, _DIVIDE)
    needs = (members, nonmembers, reference or 0)
    for _ in range(_SHUFFLES):
        remaining = shuffled_units(units, bits, strata)
        parts = _parts(remaining, needs)
        if parts is not None:
            surplus = sorted(chain.from_iterable(remaining)) if reference is None else parts[2]
            return Split(tuple(parts[0]), tuple(parts[1]), tuple(surplus))
    raise InputError(_too_few(needs, units, every))


def stated_split(
    parts: Sequence[str], role: Literal["victim", "shadow"], *, members: int | None, nonmembers: int | None
) -> Split | None:
    """Return the stated half of a role; None for a shadow whose members are not stated.

    Args:
        parts: one of `seg_mia.data.source.PARTS` for each sample; no group is in two.
        role: victim, with the parts train, test and reference, or shadow, with shadow_train and shadow_test,
            and shadow as reference.
        members: expected number of training samples, a check against settings of a random split; None for
            any.
        nonmembers: expected number of held-out samples; None for any.

    Raises:
        InputError: numbers differ, or no sample is trained on.
    """
    names = ("train", "test", "reference") if role == "victim" else ("shadow_train", "shadow_test", "shadow")
    if role == "shadow" and not set(names[:2]) & set(parts):
        return None
    chosen = [tuple(i for i, part in enumerate(parts) if part == name) for name in names]
    counts = len(chosen[0]), len(chosen[1])
    for count, expected in zip(counts, (members, nonmembers), strict=True):
        if expected not in {None, count}:
            raise InputError(
                f"{counts[0]} samples are in the part {names[0]} and {counts[1]} in {names[1]}, but members "
                f"and nonmembers are {members} and {nonmembers}; set them to these numbers, or to null"
            )
    if not counts[0]:
        raise InputError(f"the part {names[0]} must have a sample, got none; correct --data.parts")
    return Split(*chosen)


def shadow_split(
    pool: Split,
    ids: Sequence[str],
    groups: Sequence[str],
    *,
    shadow: int,
    seed: int,
    duplicates: Iterable[Sequence[str]] = (),
    strata: Sequence[int] | None = None,
) -> Split:
    """Return the split of one of many shadow models: half of a pool as members, half as non-members.

    Shadows come in pairs: of 2j and 2j + 1 each sample is a member of exactly one. So each is in half of an
    even number of shadows, however many are drawn later. For pair j the pool's units are shuffled with
    PCG64([seed, 3, j]), so that every run of them has the pool's members, non-members and strata in
    proportion (see `divide`); shadow 2j gets the shortest run of which whole units make half of the pool, or
    the nearest count to it (the larger of two).

    Args:
        pool: whose members and non-members are shared out; its reference stays what it is.
        ids: the names of all samples, as given to `victim_shadow_split`.
        groups: the groups of all samples, as given to `victim_shadow_split`.
        shadow: the number of the shadow, from 0.
        seed: 0 or more.
        duplicates: as given to `victim_shadow_split`.
        strata: as given to `victim_shadow_split`.

    Raises:
        InputError: if a number is out of range, or the pool has fewer than two units.
    """
    if shadow < 0:
        raise InputError(f"shadows are numbered from 0, got {shadow}; choose --data.shadow 0 or more")
    check_strata(strata, ids)
    pool_members, shared = set(pool.members), {*pool.members, *pool.nonmembers}
    units = [part for unit in units_of(ids, groups, duplicates) if (part := [i for i in unit if i in shared])]
    if len(units) < 2:
        raise InputError(
            f"numbered shadows need at least 2 groups to draw from, got {len(units)}; raise --data.members "
            "or --data.nonmembers"
        )
    bands = strata or [0] * len(ids)
    kinds = [band + (max(bands) + 1) * (i in pool_members) for i, band in enumerate(bands)]
    units = shuffled_units(units, stream(seed, _FLEET, shadow // 2), kinds)
    reach = reachable([len(unit) for unit in units], round(len(shared) / 2), limit=len(shared))
    counts = [count for count in np.flatnonzero(reach >= 0).tolist() if 0 < count < len(shared)]
    count = min(counts, key=lambda total: (abs(total - len(shared) / 2), -total))
    first = {i for position in take(units, reach, count) for i in units[position]}
    second = shared - first
    members, nonmembers = (first, second) if shadow % 2 == 0 else (second, first)
    return Split(tuple(sorted(members)), tuple(sorted(nonmembers)), pool.reference)


def hold_out(
    members: NDArray[np.bool_], groups: Sequence[str], *, part: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return training and held-out positions for a membership classifier, both ascending.

    Whole groups are kept out, of members and of non-members the same part, at least two samples of each; the
    shuffles are PCG64([seed, 2])'s.

    Args:
        members: who is a member, (n,).
        groups: what must not be parted, one name per sample; no group has both kinds.
        part: to keep out, between 0 and 1.
        seed: 0 or more.

    Raises:
        InputError: if members or non-members are too few for that.
    """
    bits = stream(seed, _HOLD_OUT)
    held_out = list[int]()
    for kind in (True, False):
        positions = np.flatnonzero(members == kind).tolist()
        units = dict[str, list[int]]()
        for position in sorted(positions, key=lambda index: groups[index]):
            units.setdefault(groups[position], []).append(position)
        target, chosen = max(2, round(part * len(positions))), list[int]()
        for unit in shuffled(list(units.values()), bits)[:-1]:
            chosen += unit
            if len(chosen) >= target:
                break
        if len(chosen) < 2:
            raise InputError(
                f"a classifier needs {('non-members', 'members')[kind]} of the shadow's half for training "
                f"and 2 in other groups for validation, got {len(positions)} in {len(units)} groups; train a "
                "larger shadow"
            )
        held_out += chosen
    out = np.zeros(len(members), dtype=bool)
    out[held_out] = True
    return np.flatnonzero(~out), np.flatnonzero(out)


def _parts(units: list[list[int]], needs: Sequence[int]) -> list[list[int]] | None:
    """Take each need's samples, and the units they cut, out of `left`; None where they do not suffice."""
    parts = list[list[int]]()
    for need in needs:
        sizes = [len(unit) for unit in units]
        reach = reachable(sizes, need, limit=need + max(sizes, default=0))
        totals = np.flatnonzero(reach[need:] >= 0)
        if totals.size == 0:
            return None
        positions = take(units, reach, need + int(totals[0]))
        parts.append(sorted([i for position in positions for i in units[position]][:need]))
        for position in sorted(positions, reverse=True):
            del units[position]
    return parts


def _too_few(needs: Sequence[int], units: Sequence[Sequence[int]], every: Sequence[Sequence[int]]) -> str:
    """Return the error with required and available numbers of samples and groups."""
    have, need = sum(len(unit) for unit in units), sum(needs)
    largest = max(map(len, every), default=1)
    missing = max(1, -(-(need - have) // largest))  # more of them, or what is there would have done
    minimum = max(sum(-(-size // largest) for size in needs), len(units) + missing)
    why = "" if have < need else ", and a group cannot be divided"
    return (
        f"members + nonmembers + reference must fit into one half, {' + '.join(map(str, needs))} = {need} "
        f"samples are needed, {have} in {len(units)} groups are available (the other half has "
        f"{len(every) - len(units)}){why}; at least {minimum} groups are needed, none larger than the "
        f"largest ({largest}): add data, lower the numbers or change shadow_share"
    )
