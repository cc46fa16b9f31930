"""Time of commands of a few seconds, which have no baseline but a limit."""

import statistics
import subprocess
import sys
import time
from typing import TypedDict

LIMITS: dict[tuple[str, ...], float] = {
    ("--help",): 0.3,
    ("fit", "--config", "phantom_victim.yaml", "--help"): 4.0,
}
"""Seconds that a command may take."""


class Command(TypedDict):
    """Measured time of a command, in seconds."""

    command: str
    median: float
    lowest: float
    highest: float
    limit: float
    met: bool


def measured(repeats: int) -> list[Command]:
    """Print and return the time of each command, in processes of their own."""
    print("\n| command | seconds | limit |\n| --- | --- | --- |")
    rows = []
    for words, limit in LIMITS.items():
        times = [_seconds(words) for _ in range(repeats + 1)][1:]  # the first one reads files from the disk
        row = Command(
            command=" ".join(words),
            median=statistics.median(times),
            lowest=min(times),
            highest=max(times),
            limit=limit,
            met=statistics.median(times) <= limit,
        )
        rows.append(row)
        outcome = "met" if row["met"] else "**missed**"
        print(
            f"| {row['command']} | {row['median']:.2f} ({row['lowest']:.2f} to {row['highest']:.2f}) | "
            f"{limit:g}, {outcome} |",
            flush=True,
        )
    return rows


def _seconds(words: tuple[str, ...]) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-m", "seg_mia", *words], check=True, capture_output=True)
    return time.perf_counter() - begun
