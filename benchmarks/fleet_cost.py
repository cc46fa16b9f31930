"""Time of a fleet in two processes against one after the other, and memory of a large fleet.

python benchmarks/fleet_cost.py speed --count 16
python benchmarks/fleet_cost.py memory --count 64

`speed` trains the same networks of the phantom twice: two at a time with a thread each, then one after
another with two threads. The share of the workers' time without a training is read from the records of the
trainings: it is spent on starting processes, on waiting for the last training, on the audit of the recipe.
`memory` trains a small fleet and a large one on 1000 samples, and prints the highest resident memory of the
main process and of its largest worker; it needs Linux.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

SPEED = (
    "--data.patients=512 --data.slices=1 --data.size=64 --data.members=128 --data.nonmembers=128 "
    "--data.reference=0 --trainer.max_epochs=4"
)
MEMORY = (
    "--data.patients=2000 --data.slices=1 --data.size=32 --data.members=500 --data.nonmembers=500 "
    "--data.reference=0 --trainer.max_epochs=1 --model.network.depth=3 "
    "--model.network.decoder_channels=[8,8,8]"
)
OFTEN = 0.1
"""Seconds between two looks at the memory."""
Peaks = dict[int, int]


def command(folder: Path, options: str, count: int, workers: int, threads: int) -> list[str]:
    """Return the command line of a fleet."""
    fleet = [sys.executable, "-m", "seg_mia", "fleet", "--config=phantom_victim.yaml", "--attacks=mia-lira"]
    shape = [f"--count={count}", f"--workers={workers}", f"--threads={threads}", f"--runs={folder}"]
    return [*fleet, *shape, *options.split()]


def finished(words: Sequence[str]) -> tuple[float, int, int]:
    """Run a command; return its seconds and the highest memory in bytes of it and of its largest child.

    Raises:
        SystemExit: it failed, with its last lines.
    """
    begun, peaks = time.perf_counter(), Peaks()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(words, stdout=said, stderr=said, text=True)
        while process.poll() is None:
            for pid in (process.pid, *descendants(process.pid)):
                peaks[pid] = max(peaks.get(pid, 0), highest(pid))
            time.sleep(OFTEN)
        if process.returncode:
            said.seek(0)
            raise SystemExit(f"a fleet failed: {said.read()[-600:]}")
    main = peaks.pop(process.pid, 0)
    return time.perf_counter() - begun, main, max(peaks.values(), default=0)


def descendants(pid: int) -> list[int]:
    """Return the processes that a process has begun, and theirs."""
    children = list[int]()
    try:
        for file in Path(f"/proc/{pid}/task").glob("*/children"):  # of each thread that has begun any
            children += [int(child) for child in file.read_text(encoding="ascii").split()]
    except OSError:  # a thread, or the process, has ended
        pass
    return [*children, *(later for child in children for later in descendants(child))]


def highest(pid: int) -> int:
    """Return the highest resident memory of a process so far, 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


class Fleet(NamedTuple):
    """Seconds that a fleet took, and the share of its workers' time in which they did not train."""

    seconds: float
    idle: float


def trained(folder: Path, options: str, count: int, *, workers: int, threads: int) -> Fleet:
    """Train a fleet in a new folder; raises SystemExit as `finished`."""
    seconds, _, _ = finished(command(folder, options, count, workers, threads))
    records = [json.loads(file.read_text(encoding="utf-8")) for file in folder.glob(".stages/*.json")]
    training = sum(record["seconds"] for record in records)
    return Fleet(seconds, 1 - training / (workers * seconds))


def speed(folder: Path, count: int) -> None:
    """Print the time of either way, and their ratio."""
    two = trained(folder / "two", SPEED, count, workers=2, threads=1)
    print(f"{count} networks, two at a time: {two.seconds:.0f} s, {two.idle:.0%} of it without training")
    one = trained(folder / "one", SPEED, count, workers=1, threads=2)
    print(f"one after another, two threads: {one.seconds:.0f} s, {one.idle:.0%} of it without training")
    print(f"ratio {two.seconds / one.seconds:.2f}")


def memory(folder: Path, count: int) -> None:
    """Print the highest memory of a fleet of six and of the one asked for."""
    for number in (6, count):
        seconds, main, worker = finished(command(folder / str(number), MEMORY, number, 2, 1))
        sizes = f"main process {main / 2**20:.0f} MiB, largest worker {worker / 2**20:.0f} MiB"
        print(f"{number} networks, 1000 samples: {sizes}, {seconds:.0f} s", flush=True)


def main() -> None:
    """Measure and print."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("what", choices=["speed", "memory"])
    parser.add_argument("--count", type=int, default=16, help="number of networks, even")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        (speed if given.what == "speed" else memory)(Path(folder), given.count)


if __name__ == "__main__":
    main()
