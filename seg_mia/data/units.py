"""Indivisible units of a split, in seeded order."""

from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from seg_mia.errors import InputError

T = TypeVar("T")


def units_of(
    ids: Sequence[str], groups: Sequence[str], duplicates: Iterable[Sequence[str]]
) -> list[list[int]]:
    """Return the sample indices of each indivisible unit, in an order determined by ids."""
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
    for same in duplicates:
        for name in same:
            if name not in position:
                raise InputError(f"duplicates must name ids of this data set, got {name!r}; correct it")
            parent[root(position[name])] = root(position[same[0]])
    units = dict[int, list[int]]()
    for i in sorted(range(len(ids)), key=ids.__getitem__):
        units.setdefault(root(i), []).append(i)
    return list(units.values())


def _positions(ids: Sequence[str], groups: Sequence[str]) -> dict[str, int]:
    """Return the index of each id; raise InputError for repeated ids, or groups of another number."""
    if len(ids) != len(groups):
        raise InputError(f"each id must have a group, got {len(ids)} and {len(groups)}; give one each")
    position = dict[str, int]()
    for i, name in enumerate(ids):
        if position.setdefault(name, i) != i:
            raise InputError(f"ids must be unique, got {name!r} twice; rename or remove one of the two")
    return position


def stream(seed: int, *numbers: int) -> np.random.PCG64:
    """Return the generator of one decision; NumPy guarantees this stream."""
    if seed < 0:
        raise InputError(f"the seed must be 0 or more, got {seed}; choose another")
    return np.random.PCG64([seed, *numbers])


def shuffled(items: Sequence[T], bits: np.random.PCG64) -> list[T]:
    """Shuffle by raw 64-bit numbers; unlike `Generator.shuffle`, stable over releases of NumPy."""
    return [items[i] for i in np.argsort(bits.random_raw(len(items)), kind="stable")]


def shuffled_units(
    units: list[list[int]], bits: np.random.PCG64, strata: Sequence[int] | None
) -> list[list[int]]:
    """Shuffle the units, and the samples within each, so that a truncated unit keeps random ones."""
    order = shuffled(units, bits)
    mixed = [shuffled(unit, bits) for unit in order]
    return mixed if strata is None else _interleaved(mixed, strata, bits)


def _interleaved(units: Sequence[list[int]], strata: Sequence[int], bits: np.random.PCG64) -> list[list[int]]:
    """Return shuffled units with nearly the same proportions of strata in every run.

    This is systematic sampling: the units of a stratum keep their order and lie, as wide as they have
    samples, from 0 to 1; each counts at one point of its width, drawn once for the stratum. A unit is in the
    stratum that is nearest to the mean of its samples'.
    """
    members = dict[int, list[int]]()
    for position, unit in enumerate(units):
        members.setdefault(round(fmean(strata[i] for i in unit)), []).append(position)
    keys = np.empty(len(units))
    points = bits.random_raw(len(members)) / 2.0**64
    for stratum, point in zip(sorted(members), points.tolist(), strict=True):
        widths = np.array([len(units[position]) for position in members[stratum]])
        keys[members[stratum]] = (np.cumsum(widths) - widths + point * widths) / widths.sum()
    return [units[position] for position in np.argsort(keys, kind="stable")]


def check_strata(strata: Sequence[int] | None, ids: Sequence[str]) -> None:
    """Raise InputError unless each id has a stratum."""
    if strata is not None and len(strata) != len(ids):
        raise InputError(f"each id must have a stratum, got {len(ids)} and {len(strata)}; give one each")


def reachable(sizes: Sequence[int], aim: int, *, limit: int) -> NDArray[np.int64]:
    """Return for each total up to `limit` the least number of leading sizes with a subset of that sum, or -1.

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


def take(units: Sequence[list[int]], reach: NDArray[np.int64], total: int) -> list[int]:
    """Return positions of units with the sum `total`; each step needs fewer leading units than the last."""
    positions = list[int]()
    while total > 0:
        position = int(reach[total]) - 1
        positions.append(position)
        total -= len(units[position])
    return positions
