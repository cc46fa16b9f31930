"""Who is a member: the only place where it is decided."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import fmean
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from seg_mia.data.source import PARTS
from seg_mia.errors import InputError

T = TypeVar("T")
_HALVES, _DIVIDE, _HOLD_OUT = 0, 1, 2  # each decision draws from its own random stream
_SHUFFLES = 32  # how many orders `divide` tries before it says that the groups do not fit


@dataclass(frozen=True)
class Half:
    """One side's samples by role, as sorted indices into a source's ids.

    Attributes:
        members: what the side's network trains on.
        nonmembers: what stands for the unseen data when membership is guessed.
        reference: what the side may use for anything else (a teacher, a poison, a threshold).
    """

    members: tuple[int, ...]
    nonmembers: tuple[int, ...] = ()
    reference: tuple[int, ...] = ()

    def __iter__(self) -> Iterator[int]:
        return chain(self.members, self.nonmembers, self.reference)


@dataclass(frozen=True)
class Splits:
    """Both sides of an audit; no sample plays two parts, which is checked when it is made."""

    victim: Half
    shadow: Half
    seed: int

    def __post_init__(self) -> None:
        seen = set[int]()
        for index in chain(self.victim, self.shadow):
            if index in seen:
                raise InputError(
                    f"a sample must play one part only, index {index} plays two; "
                    "make the split with seg_mia.data.splits"
                )
            seen.add(index)


def halves(
    ids: Sequence[str],
    groups: Sequence[str],
    *,
    seed: int,
    shadow_share: float = 0.5,
    together: Iterable[Sequence[str]] = (),
    strata: Sequence[int] | None = None,
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Share the samples out between victim and shadow, as sorted indices into `ids`.

    A unit, which is never cut here, is a group merged with every other that `together` ties it to. Units
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
        together: ids of samples that show the same thing, one sequence for each such set.
        strata: a number per sample; both sides get its values in nearly the same proportions, see `divide`.

    Raises:
        InputError: if ids repeat, a tied id is unknown, or a number is out of range.
    """
    if not 0 <= shadow_share < 1:
        raise InputError(f"shadow_share must be at least 0 and below 1, got {shadow_share}; 0.5 is fair")
    _check_strata(strata, ids)
    units = _shuffled_units(units_of(ids, groups, together), _bits(seed, _HALVES), strata)
    wanted = round(len(ids) * (1 - shadow_share))
    reach = _reach([len(unit) for unit in units], wanted, limit=len(ids))
    count = min(np.flatnonzero(reach >= 0).tolist(), key=lambda total: (abs(total - wanted), -total))
    chosen = _take(units, reach, count)
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
    together: Iterable[Sequence[str]] = (),
    strata: Sequence[int] | None = None,
) -> Half:
    """Divide one side's samples into members, non-members and reference, exactly as many as asked.

    Units (see `halves`) are shuffled with PCG64([seed, 1]). Members come first, then non-members, then
    reference, each from the shortest run of the units left that can make the count. Where no whole units
    make it, the smallest count above is made and the surplus of one unit is dropped from everything, so that
    no unit plays two parts. Should a later part then find too little, up to 32 shuffles are tried.

    With `strata`, shuffled units are put in an order of which every run holds the strata in proportion
    (see `_interleaved`): of independent samples, a part of m out of n gets m * n_s / n of a stratum of n_s,
    by less than 1 + S * n_s / n more or fewer where there are S strata.

    Args:
        indices: one side's samples, from `halves`.
        ids: the names of all samples, as given to `halves`.
        groups: the groups of all samples, as given to `halves`.
        seed: 0 or more.
        members: at least 1.
        nonmembers: at least 0.
        reference: at least 0; None takes all that is left.
        together: as given to `halves`.
        strata: as given to `halves`.

    Raises:
        InputError: if a number is out of range or there are too few samples or groups.
    """
    if members < 1 or nonmembers < 0 or (reference or 0) < 0:
        raise InputError(
            "members must be at least 1, nonmembers and reference at least 0, "
            f"got {members}, {nonmembers} and {reference}; change these numbers"
        )
    _check_strata(strata, ids)
    mine, every = set(indices), units_of(ids, groups, together)
    units = [unit for unit in every if mine.issuperset(unit)]
    if sum(map(len, units)) != len(mine):
        raise InputError("indices must hold whole groups, got part of one; take them from halves()")
    bits = _bits(seed, _DIVIDE)
    needs = (members, nonmembers, reference or 0)
    for _ in range(_SHUFFLES):
        left = _shuffled_units(units, bits, strata)
        parts = _parts(left, needs)
        if parts is not None:
            rest = sorted(chain.from_iterable(left)) if reference is None else parts[2]
            return Half(tuple(parts[0]), tuple(parts[1]), tuple(rest))
    raise InputError(_too_few(needs, units, every))


def stated(
    parts: Sequence[str],
    ids: Sequence[str],
    groups: Sequence[str],
    *,
    members: int,
    nonmembers: int,
    together: Iterable[Sequence[str]] = (),
) -> tuple[Half, tuple[int, ...]]:
    """Return the victim's half as the data itself states it, and the samples left to the shadow.

    Args:
        parts: one of `seg_mia.data.source.PARTS` for each sample.
        ids: one name per sample, unique.
        groups: what must stay on one side, one name per sample.
        members: how many samples say `train`: to be sure that nobody takes them for drawn.
        nonmembers: how many say `test`.
        together: as given to `halves`.

    Raises:
        InputError: other numbers, or a group or duplicates of which the parts differ.
    """
    for unit in units_of(ids, groups, together):
        other = next((i for i in unit if parts[i] != parts[unit[0]]), None)
        if other is not None:
            first = unit[0]
            raise InputError(
                f"{ids[first]} is stated to be {parts[first]} and {ids[other]} {parts[other]}, but they show "
                "the same patient or the same image, so nobody can tell whether it was trained on; state one "
                "part for both, or leave one out"
            )
    found = {name: tuple(i for i, part in enumerate(parts) if part == name) for name in PARTS}
    if (len(found["train"]), len(found["test"])) != (members, nonmembers):
        raise InputError(
            f"{len(found['train'])} samples are stated to be train and {len(found['test'])} test, members "
            f"and nonmembers are {members} and {nonmembers}; set them to the stated numbers"
        )
    return Half(found["train"], found["test"], found["reference"]), found["shadow"]


def hold_out(
    members: NDArray[np.bool_], groups: Sequence[str], *, part: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return positions to train a membership classifier on, and positions kept out, both ascending.

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
    bits = _bits(seed, _HOLD_OUT)
    kept = list[int]()
    for kind in (True, False):
        positions = np.flatnonzero(members == kind).tolist()
        units = dict[str, list[int]]()
        for position in sorted(positions, key=lambda place: groups[place]):
            units.setdefault(groups[position], []).append(position)
        wanted, own = max(2, round(part * len(positions))), list[int]()
        for unit in _shuffled(list(units.values()), bits)[:-1]:
            own += unit
            if len(own) >= wanted:
                break
        if len(own) < 2:
            raise InputError(
                f"a classifier needs {('non-members', 'members')[kind]} of the shadow's half to train on and "
                f"2 in other groups to keep out, got {len(positions)} in {len(units)} groups; train a larger "
                "shadow"
            )
        kept += own
    out = np.zeros(len(members), dtype=bool)
    out[kept] = True
    return np.flatnonzero(~out), np.flatnonzero(out)


def units_of(ids: Sequence[str], groups: Sequence[str], together: Iterable[Sequence[str]]) -> list[list[int]]:
    """Return the indices of each set of samples that must not be parted, in an order that ids decide."""
    position = _positions(ids, groups)
    parent = list(range(len(ids)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first = dict[str, int]()
    for i, group in enumerate(groups):
        parent[i] = root(first.setdefault(group, i))
    for same in together:
        for name in same:
            if name not in position:
                raise InputError(f"together must name ids of this data set, got {name!r}; correct it")
            parent[root(position[name])] = root(position[same[0]])
    units = dict[int, list[int]]()
    for i in sorted(range(len(ids)), key=ids.__getitem__):
        units.setdefault(root(i), []).append(i)
    return list(units.values())


def _positions(ids: Sequence[str], groups: Sequence[str]) -> dict[str, int]:
    """Return the index of each id, after checking that there is one of each, and one group for it."""
    if len(ids) != len(groups):
        raise InputError(f"each id must have a group, got {len(ids)} and {len(groups)}; give one each")
    position = dict[str, int]()
    for i, name in enumerate(ids):
        if position.setdefault(name, i) != i:
            raise InputError(f"ids must be unique, got {name!r} twice; rename or remove one of the two")
    return position


def _bits(seed: int, stream: int) -> np.random.PCG64:
    if seed < 0:
        raise InputError(f"the seed must be 0 or more, got {seed}; choose another")
    return np.random.PCG64([seed, stream])


def _shuffled(items: Sequence[T], bits: np.random.PCG64) -> list[T]:
    """Sort by raw 64-bit numbers: unlike `Generator.shuffle`, the same in every release of NumPy."""
    return [items[i] for i in np.argsort(bits.random_raw(len(items)), kind="stable")]


def _shuffled_units(
    units: list[list[int]], bits: np.random.PCG64, strata: Sequence[int] | None
) -> list[list[int]]:
    """Shuffle the units and, so that a unit that is cut keeps no particular samples, each of them."""
    order = _shuffled(units, bits)
    shuffled = [_shuffled(unit, bits) for unit in order]
    return shuffled if strata is None else _interleaved(shuffled, strata, bits)


def _interleaved(units: Sequence[list[int]], strata: Sequence[int], bits: np.random.PCG64) -> list[list[int]]:
    """Return shuffled units in an order of which every run holds the strata in nearly the same proportions.

    This is systematic sampling: the units of a stratum keep their order and lie, as wide as they have
    samples, from 0 to 1; each counts at one point of its width, drawn once for the stratum. A unit is in the
    stratum that is nearest to the mean of its samples'.
    """
    members = dict[int, list[int]]()
    for place, unit in enumerate(units):
        members.setdefault(round(fmean(strata[i] for i in unit)), []).append(place)
    keys = np.empty(len(units))
    points = bits.random_raw(len(members)) / 2.0**64
    for stratum, point in zip(sorted(members), points.tolist(), strict=True):
        widths = np.array([len(units[place]) for place in members[stratum]])
        keys[members[stratum]] = (np.cumsum(widths) - widths + point * widths) / widths.sum()
    return [units[place] for place in np.argsort(keys, kind="stable")]


def _check_strata(strata: Sequence[int] | None, ids: Sequence[str]) -> None:
    if strata is not None and len(strata) != len(ids):
        raise InputError(f"each id must have a stratum, got {len(ids)} and {len(strata)}; give one each")


def _reach(sizes: Sequence[int], aim: int, *, limit: int) -> NDArray[np.int64]:
    """For each total up to `limit`, return how many leading sizes it takes to make it of some of them, or -1.

    Once `aim` is made, totals that would need more sizes are left at -1.
    """
    reach = np.full(limit + 1, -1, dtype=np.int64)
    reach[0] = 0
    ends = np.cumsum(sizes, dtype=np.int64)
    if aim in ends:  # all of a leading run, and no shorter one holds as much
        run = ends[ends <= aim]
        reach[run] = np.arange(1, len(run) + 1)
        return reach
    for count, size in enumerate(sizes, start=1):
        if reach[aim] >= 0:
            break
        reach[size:][(reach[size:] < 0) & (reach[: limit + 1 - size] >= 0)] = count
    return reach


def _take(units: Sequence[list[int]], reach: NDArray[np.int64], total: int) -> list[int]:
    """Return the places of the units that make `total`; each step needs fewer leading units than the last."""
    places = list[int]()
    while total > 0:
        place = int(reach[total]) - 1
        places.append(place)
        total -= len(units[place])
    return places


def _parts(left: list[list[int]], needs: Sequence[int]) -> list[list[int]] | None:
    """Take each need's samples, and the units they cut, out of `left`; None where they do not suffice."""
    parts = list[list[int]]()
    for need in needs:
        sizes = [len(unit) for unit in left]
        reach = _reach(sizes, need, limit=need + max(sizes, default=0))
        totals = np.flatnonzero(reach[need:] >= 0)
        if totals.size == 0:
            return None
        places = _take(left, reach, need + int(totals[0]))
        parts.append(sorted([i for place in places for i in left[place]][:need]))
        for place in sorted(places, reverse=True):
            del left[place]
    return parts


def _too_few(needs: Sequence[int], units: Sequence[Sequence[int]], every: Sequence[Sequence[int]]) -> str:
    """Say what is needed and what is there, in samples and in groups."""
    have, need = sum(len(unit) for unit in units), sum(needs)
    largest = max(map(len, every), default=1)
    missing = max(1, -(-(need - have) // largest))  # more of them, or what is there would have done
    least = max(sum(-(-each // largest) for each in needs), len(units) + missing)
    why = "" if have < need else ", and a group cannot be on two sides"
    return (
        f"members + nonmembers + reference must fit into one side, {' + '.join(map(str, needs))} = {need} "
        f"samples are needed, {have} in {len(units)} groups are there (the other side has "
        f"{len(every) - len(units)}){why}; at least {least} groups are needed, none larger than the largest "
        f"({largest}): add data, lower the numbers or change shadow_share"
    )
