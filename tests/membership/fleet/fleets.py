"""Random fleets with and without defects, for tests of what comes of them."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_mia.membership.answers import Answers
from seg_mia.membership.fleet.scorers import Base, ByReferences, Calibrated, Lira, Rmia
from seg_mia.membership.scorers import Scorer, Threshold

SCORERS: tuple[Callable[[], Scorer], ...] = (
    Lira,
    lambda: Lira(variance="per_sample"),
    lambda: Lira(variance="fixed", centre="median"),
    lambda: Lira(variance="robust"),
    lambda: Lira(density="joint"),
    lambda: Lira(density="pooled"),
    lambda: Lira(standardise=False),
    lambda: Lira(mode="offline"),
    lambda: Lira(mode="offline", variance="per_sample"),
    lambda: Lira(mode="offline", variance="robust"),
    lambda: Lira(mode="offline", guess=True),
    Base,
    lambda: Base(online=False),
    Rmia,
    lambda: Rmia(offline_a=None),
    Calibrated,
    lambda: Calibrated(standardise=False),
    Threshold,
    lambda: Threshold(rule="shadow_roc"),
)
"""Every attack on numbers that compares networks of a fleet, in every form."""


@dataclass(frozen=True)
class RandomFleet:
    """Signals of networks, higher for members; shapes and values may be wrong."""

    signals: NDArray[Any]
    inside: NDArray[Any]
    groups: NDArray[np.str_]
    initial: NDArray[np.float64] | None = None


def fleet(generator: np.random.Generator, *, several: bool) -> RandomFleet:
    """Return 1 to 20 networks on 1 to 24 patients, whose members may be few, many, none, or all."""
    networks, patients = int(generator.integers(1, 21)), int(generator.integers(1, 25))
    style = generator.choice(["pairs"] * 6 + ["coins"] * 3 + ["few", "many", "none", "all", "same"])
    inside = _inside(generator, str(style), networks, patients)
    sizes = generator.integers(1, 4, patients) if generator.random() < 0.5 else np.ones(patients, int)
    inside = np.repeat(inside, sizes, axis=1)
    shape = inside.shape
    easy, levels = generator.normal(0, 2, shape[1]), generator.normal(0, 1, (networks, 1))
    noise = generator.normal(0, 1, shape) * generator.choice([0, 1e-9, 1, 1, 1])
    signals = easy + levels + generator.choice([0, 1, 5]) * inside + noise
    signals = -np.abs(signals) if generator.random() < 0.6 else signals
    if several:
        count = int(generator.integers(1, 4))
        signals = np.stack([signals + generator.normal(size=shape) for _ in range(count)], axis=2)
    initial = generator.normal(size=signals.shape) if generator.random() < 0.5 else None
    return RandomFleet(signals, inside, np.repeat([f"p{i}" for i in range(patients)], sizes), initial)


def _inside(generator: np.random.Generator, style: str, networks: int, patients: int) -> NDArray[np.bool_]:
    match style:
        case "pairs":
            halves = [generator.permuted(np.arange(patients) < patients // 2) for _ in range(networks)]
            return np.stack([row for half in halves for row in (half, ~half)])[:networks]
        case "same":
            return np.tile(generator.random(patients) < 0.5, (networks, 1))
        case _:
            share = {"coins": 0.5, "few": 0.1, "many": 0.9, "none": 0.0, "all": 1.0}[style]
            return np.asarray(generator.random((networks, patients)) < share)


def spoilt(generator: np.random.Generator, whole: RandomFleet) -> RandomFleet:
    """Return a fleet with one defect, or as it is."""
    defect = DEFECTS[int(generator.integers(len(DEFECTS)))] if generator.random() < 0.7 else _whole
    signals, inside = whole.signals.copy(), whole.inside.copy()
    return defect(generator, replace(whole, signals=signals, inside=inside))


def _whole(_: np.random.Generator, it: RandomFleet) -> RandomFleet:
    return it


def _value(value: float) -> Callable[[np.random.Generator, RandomFleet], RandomFleet]:
    def change(generator: np.random.Generator, it: RandomFleet) -> RandomFleet:
        it.signals[generator.integers(len(it.signals)), generator.integers(it.signals.shape[1])] = value
        return it

    return change


def _times(factor: float) -> Callable[[np.random.Generator, RandomFleet], RandomFleet]:
    return lambda _, it: replace(it, signals=it.signals * factor)


def _network(_: np.random.Generator, it: RandomFleet) -> RandomFleet:
    it.signals[-1] = -0.5
    return it


def _sample(_: np.random.Generator, it: RandomFleet) -> RandomFleet:
    it.signals[:, -1] = -0.5
    return it


def _half(_: np.random.Generator, it: RandomFleet) -> RandomFleet:
    it.signals[0, : (it.signals.shape[1] + 1) // 2] = -0.25
    return it


def _failed(generator: np.random.Generator, it: RandomFleet) -> RandomFleet:
    it.signals[0] = -np.abs(generator.normal(50, 1e-3, it.signals.shape[1:]))
    return it


def _twice(_: np.random.Generator, it: RandomFleet) -> RandomFleet:
    it.signals[0], it.inside[0] = it.signals[-1], it.inside[-1]
    return it


def _torn(generator: np.random.Generator, it: RandomFleet) -> RandomFleet:
    it.inside[generator.integers(len(it.inside)), generator.integers(it.inside.shape[1])] ^= True
    return it


DEFECTS: tuple[Callable[[np.random.Generator, RandomFleet], RandomFleet], ...] = (
    _value(np.nan),
    _value(-np.inf),
    _value(-1e30),
    _times(0.0),
    _times(1e30),
    _times(1e-30),
    lambda _, it: replace(it, signals=np.round(it.signals)),
    lambda _, it: replace(it, signals=np.round(10 * it.signals).astype(np.int64)),
    lambda _, it: replace(it, signals=it.signals.astype(np.float32)),
    _network,
    _sample,
    _half,
    _failed,
    _twice,
    _torn,
    lambda _, it: replace(it, signals=it.signals[:, :-1]),
    lambda _, it: replace(it, signals=it.signals[:-1]),
    lambda _, it: replace(it, signals=it.signals[0]),
    lambda _, it: replace(it, inside=it.inside.astype(np.int64)),
    lambda _, it: replace(it, groups=it.groups[:-1]),
    lambda _, it: replace(it, signals=it.signals[:, :0], inside=it.inside[:, :0], groups=it.groups[:0]),
    lambda _, it: replace(it, signals=it.signals[:0], inside=it.inside[:0]),
    lambda _, it: replace(it, initial=np.zeros_like(it.signals, np.float64)),
    lambda _, it: replace(it, initial=np.full(it.signals.shape, np.nan)),
    lambda _, it: replace(it, initial=np.zeros((1, 2))),
)


def answers(it: RandomFleet, generator: np.random.Generator) -> list[Answers]:
    """Return each network's signals as attacks on a victim take them: lower for members; some spoilt."""
    ids = np.array([f"s{number}" for number in range(it.inside.shape[1])])
    if it.signals.ndim < 2:
        return []
    rows = [
        Answers(ids, it.groups, members, np.ones(len(ids), dtype=np.bool_), -values)
        for values, members in zip(it.signals, it.inside, strict=False)
    ]
    if not rows or generator.random() < 0.5:
        return rows
    number, row = int(generator.integers(len(rows))), rows[-1]
    kept = np.arange(len(ids)) < len(ids) - 1
    signal = np.asarray(row.signal)
    changes: list[dict[str, Any]] = [
        {"ids": ids[::-1]},
        {"ids": np.where(kept, ids, ids[:1])},
        {"ids": ids[kept], "groups": it.groups[: len(ids) - 1], "signal": signal[: len(ids) - 1]},
        {"judged": np.zeros(len(ids), dtype=np.bool_)},
        {"members": np.ones(len(ids), dtype=np.bool_)},
        {"signal": np.stack([signal, signal], axis=-1)},
    ]
    rows[number] = replace(rows[number], **changes[int(generator.integers(len(changes)))])
    return rows


def not_finite(value: object, path: str = "") -> Iterator[str]:
    """Yield the places of NaN and infinity in nested results."""
    if isinstance(value, np.ndarray) and value.dtype.kind == "f" and not np.isfinite(value).all():
        yield path
    if isinstance(value, float) and not math.isfinite(value):
        yield path
    for name, item in _parts(value):
        yield from not_finite(item, f"{path}.{name}")


def _parts(value: object) -> Iterator[tuple[str, object]]:
    if is_dataclass(value) and not isinstance(value, type):
        yield from ((field.name, getattr(value, field.name)) for field in fields(value))
    elif isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list | tuple):
        yield from ((str(number), item) for number, item in enumerate(value))


def takes_several(scorer: Scorer) -> bool:
    """Return whether an attack takes several signals of a sample."""
    return isinstance(scorer, Lira) and isinstance(scorer, ByReferences)
