"""Paired measurement of two ways to the same result."""

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

SHORTEST = 0.2
"""Seconds that a measurement of either way takes at least."""
LONG, FEWEST = 60.0, 3
"""Seconds of a pair after which no repetition begins, and the repetitions made in any case."""


@dataclass(frozen=True)
class Pair:
    """Two ways to the same result.

    Attributes:
        name: short, for tables and `--only`.
        ours: our way; returns what `difference` compares.
        baseline: the other way.
        what: what the baseline does, in a sentence.
        target: how many times as fast as the baseline ours is to be.
        difference: distance of the two results, 0 if equal.
        allowed: greatest distance.
        images: that either way treats, for the images a second; 0 where there are none.
        brief: shorter runs of both ways; what is timed is by how much longer the others take.
        share: length of the brief runs as a share of that difference.
    """

    name: str
    ours: Callable[[], Any]
    baseline: Callable[[], Any]
    what: str
    target: float
    difference: Callable[[Any, Any], float]
    allowed: float
    images: int = 0
    brief: tuple[Callable[[], Any], ...] = ()
    share: float = 0.0


@dataclass(frozen=True)
class Measured:
    """Outcome of a pair.

    Attributes:
        name: of the pair.
        what: what the baseline does.
        seconds: median of our way.
        baseline_seconds: median of the baseline.
        ratio: median over repetitions of baseline time by our time.
        lowest: lowest ratio.
        highest: highest ratio.
        repetitions: number of ratios.
        target: ratio to be reached.
        difference: distance of the two results.
        allowed: greatest distance.
        images: that either way treats.
        once: seconds that ours takes more than the baseline whatever the length, where there are brief runs.
    """

    name: str
    what: str
    seconds: float
    baseline_seconds: float
    ratio: float
    lowest: float
    highest: float
    repetitions: int
    target: float
    difference: float
    allowed: float
    images: int = 0
    once: float | None = None

    @property
    def equal(self) -> bool:
        """Whether both ways gave the same result."""
        return self.difference <= self.allowed

    @property
    def met(self) -> bool:
        """Whether the target is reached with the same result."""
        return self.equal and self.ratio >= self.target

    def plain(self) -> dict[str, Any]:
        """Return the fields, and whether the target is met."""
        return asdict(self) | {"equal": self.equal, "met": self.met}


@dataclass(frozen=True)
class Figure:
    """A value that has a limit, or none, instead of a baseline.

    Attributes:
        name: short.
        unit: of the values, empty for a ratio.
        values: of the repetitions, at least one.
        limit: greatest median that is asked for, if any.
    """

    name: str
    unit: str
    values: Sequence[float]
    limit: float | None = None

    @property
    def median(self) -> float:
        """Median of the values."""
        return statistics.median(self.values)

    @property
    def met(self) -> bool:
        """Whether the median is within the limit."""
        return self.limit is None or self.median <= self.limit

    def plain(self) -> dict[str, Any]:
        """Return the fields, the median, and whether the limit is kept."""
        return asdict(self) | {"median": self.median, "met": self.met}


def measure(pair: Pair, repeats: int) -> Measured:
    """Run both ways in turn, after one run of each that is not counted but compared.

    Repetitions end, after three, where they take long. Without any the times are those of the compared runs.
    """
    ways = (pair.ours, pair.baseline, *pair.brief)
    first = [_timed(way) for way in ways]
    difference = pair.difference(first[0][1], first[1][1])
    durations = [duration for duration, _ in first]
    times = _in_turn(ways, durations, repeats) if repeats else [[duration] for duration in durations]
    once = None
    if pair.brief:
        times, once = _longer(times, pair.share)
    # Brief runs as long as the whole ones, by noise, are no measurement: a ratio of 0 meets no target.
    ratios = [slow / fast if min(fast, slow) > 0 else 0.0 for fast, slow in zip(*times, strict=True)]
    return Measured(
        name=pair.name,
        what=pair.what,
        seconds=statistics.median(times[0]),
        baseline_seconds=statistics.median(times[1]),
        ratio=statistics.median(ratios),
        lowest=min(ratios),
        highest=max(ratios),
        repetitions=len(ratios),
        target=pair.target,
        difference=difference,
        allowed=pair.allowed,
        images=pair.images,
        once=once,
    )


def _longer(times: Sequence[Sequence[float]], share: float) -> tuple[list[list[float]], float]:
    """Return by how much both ways take longer than their brief runs, and what ours takes more at any length.

    Args:
        times: of ours, the baseline and the brief runs of both.
        share: length of the brief runs as a share of the difference.
    """
    brief = times[2:]
    longer = [
        [whole - part for whole, part in zip(wholes, parts, strict=True)]
        for wholes, parts in zip(times[:2], brief, strict=True)
    ]
    fixed = [
        statistics.median(part - share * more for part, more in zip(parts, mores, strict=True))
        for parts, mores in zip(brief, longer, strict=True)
    ]
    return longer, fixed[0] - fixed[1]


def _in_turn(
    ways: Sequence[Callable[[], Any]], durations: Sequence[float], repeats: int
) -> list[list[float]]:
    """Return the times of each way in each repetition, each of so many runs in a row.

    Args:
        ways: to be timed.
        durations: seconds of one run of each.
        repeats: repetitions, at least 1.
    """
    inner = [max(1, round(SHORTEST / max(duration, 1e-4))) for duration in durations]
    times: list[list[float]] = [[] for _ in ways]
    begun = time.perf_counter()
    for repeat in range(repeats):
        if repeat >= FEWEST and time.perf_counter() - begun > LONG:
            break
        order = list(range(len(ways)))
        for number in order if repeat % 2 == 0 else order[::-1]:  # none is always the first
            times[number].append(seconds(ways[number], inner[number]))
    return times


def _timed(way: Callable[[], Any]) -> tuple[float, Any]:
    """Return the time of one run, and its result."""
    results: list[Any] = []
    duration = seconds(lambda: results.append(way()))
    return duration, results[0]


def seconds(way: Callable[[], Any], times: int = 1) -> float:
    """Return the time of one run, the accelerator's queue included, as the mean of several in a row."""
    gc.collect()
    _wait()
    begun = time.perf_counter()
    for _ in range(times):
        way()
    _wait()
    return (time.perf_counter() - begun) / times


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
