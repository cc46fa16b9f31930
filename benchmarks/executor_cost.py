"""Time that Ray costs over processes of this machine.

    pip install 'seg_mia[ray]'
    python benchmarks/executor_cost.py --count 8

Trains the same small fleet of the phantom by both executors, in turn, on two cores with a thread for each
training, and prints the seconds of the command and those of the processor, which other programs change less
(it needs Linux), with the share of Ray's own processes. Then it prints where the difference arises: seconds
until an executor is ready, of its first task, and of each of 100 further tasks, all empty.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch

from benchmarks.fleet_cost import descendants
from seg_mia.executors.base import Executor
from seg_mia.executors.choice import ExecutorName, executor_of

EXECUTORS: tuple[ExecutorName, ...] = ("local", "ray")
OPTIONS = (
    "--data.patients=240 --data.slices=1 --data.size=32 --data.members=48 --data.nonmembers=48 "
    "--trainer.max_epochs=4 --model.network.depth=3 --model.network.decoder_channels=[32,16,8]"
)
TASKS = 100
"""Empty tasks, one after the other."""
WORKERS = 2


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=8, help="networks of the fleet")
    parser.add_argument("--repeats", type=int, default=1, help="pairs of fleets")
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, Ray {version('ray')}, {os.cpu_count()} cores")
    print("| executor | command, s | processor, s | of which Ray's, s | first ended after, s |")
    print("| --- | --- | --- | --- | --- |")
    for _ in range(arguments.repeats):
        for name in EXECUTORS:
            figures = " | ".join(f"{value:.1f}" for value in fleet(name, arguments.count))
            print(f"| {name} | {figures} |", flush=True)
    print(f"\nimport of Ray: {seconds(partial(__import__, 'ray')):.1f} s")
    print(f"start of a cluster: {seconds(start):.1f} s\n")
    print("| executor | ready, s | first task, s | further task, ms |\n| --- | --- | --- | --- |")
    for name in EXECUTORS:
        ready, first, further = empty(name)
        print(f"| {name} | {ready:.1f} | {first:.2f} | {1000 * further:.1f} |")


def fleet(name: ExecutorName, count: int) -> tuple[float, ...]:
    """Train a fleet; return the seconds of the command, the processor, Ray's share, the first training."""
    words = ["--config=phantom_victim", f"--count={count}", "--attacks=mia-base", f"--executor={name}"]
    words += [*OPTIONS.split(), "--threads=1", *([f"--workers={WORKERS}"] if name == "local" else [])]
    with tempfile.TemporaryDirectory() as folder:
        begun, clock = time.perf_counter(), time.time()
        used, own = dict[int, float](), dict[int, float]()
        process = subprocess.Popen(
            [sys.executable, "-m", "seg_mia", "fleet", *words, f"--runs={folder}"],
            stdout=subprocess.DEVNULL,
            env=os.environ | {"OMP_NUM_THREADS": str(WORKERS)},
        )
        while process.poll() is None:
            for pid in (process.pid, *descendants(process.pid)):
                used[pid] = max(used.get(pid, 0.0), processor_seconds(pid))
                own[pid] = used[pid] * belongs_to_ray(pid) or own.get(pid, 0.0)
            time.sleep(0.2)
        whole = time.perf_counter() - begun
        if process.returncode:
            raise SystemExit(f"executor_cost.py: error: the fleet by --executor {name} failed")
        records = [json.loads(file.read_text()) for file in (Path(folder) / ".stages").glob("*.json")]
        first = min(record["ended"] for record in records if record.get("done")) - clock
        return whole, sum(used.values()), sum(own.values()), first


def processor_seconds(pid: int) -> float:
    """Return the seconds of the processor that a process has used, 0 if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def belongs_to_ray(pid: int) -> bool:
    """Return whether a process is Ray's, and runs no training."""
    try:
        line = Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return "ray" in line and not any(word in line for word in ("ray::_run", "ray::IDLE", "seg_mia"))


def empty(name: ExecutorName) -> tuple[float, float, float]:
    """Return the seconds until an executor is ready, of its first task, and of each further one."""
    begun = time.perf_counter()
    with executor_of(name, threads=1, workers=WORKERS if name == "local" else None) as executor:
        ready = time.perf_counter() - begun
        first = seconds(partial(run, executor, 1))
        return ready, first, seconds(partial(run, executor, TASKS)) / TASKS


def run(executor: Executor, count: int) -> None:
    """Run empty tasks one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(count):
            executor.submit(os.getpid, "nothing", Path(folder) / "log").result()


def start() -> None:
    """Start a Ray cluster on this machine, and end it."""
    import ray

    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ray.shutdown()


def seconds(function: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    begun = time.perf_counter()
    function()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
