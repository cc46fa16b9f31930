"""Paired measurement of two ways to the same result."""

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

SHORTEST = 0.2
"""Seconds that a measurement of either way takes at least."""


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
    """

    name: str
    ours: Callable[[], Any]
    baseline: Callable[[], Any]
    what: str
    target: float
    difference: Callable[[Any, Any], float]
    allowed: float


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
        target: ratio to be reached.
        difference: distance of the two results.
        allowed: greatest distance.
    """

    name: str
    what: str
    seconds: float
    baseline_seconds: float
    ratio: float
    lowest: float
    highest: float
    target: float
    difference: float
    allowed: float

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


def measure(pair: Pair, repeats: int) -> Measured:
    """Run both ways in turn, after one run of each that is not counted but compared."""
    difference = pair.difference(pair.ours(), pair.baseline())
    inner = [max(1, round(SHORTEST / max(seconds(way), 1e-4))) for way in (pair.ours, pair.baseline)]
    times: list[list[float]] = [[], []]
    for repeat in range(repeats):
        order = (0, 1) if repeat % 2 == 0 else (1, 0)  # neither is always the one that comes first
        for number in order:
            way = (pair.ours, pair.baseline)[number]
            times[number].append(seconds(way, inner[number]))
    ratios = [slow / fast for fast, slow in zip(*times, strict=True)]
    return Measured(
        name=pair.name,
        what=pair.what,
        seconds=statistics.median(times[0]),
        baseline_seconds=statistics.median(times[1]),
        ratio=statistics.median(ratios),
        lowest=min(ratios),
        highest=max(ratios),
        target=pair.target,
        difference=difference,
        allowed=pair.allowed,
    )


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
