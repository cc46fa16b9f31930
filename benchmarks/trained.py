"""Trainings of the command line, run one after another by a benchmark."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def train(words: Sequence[str]) -> None:
    """Run `fit` in a process of its own, so that no training sees the state of another.

    Raises:
        SystemExit: it failed, with the last line that it printed.
    """
    command = [sys.executable, "-m", "seg_mia", "fit", "--trainer.enable_progress_bar", "false", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(
            f"a training failed: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}"
        )


def last_metric(run: Path, name: str) -> float:
    """Return the last value of a metric of a run."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return float(next(line[name] for line in reversed(lines) if name in line))


def cpu_seconds() -> float:
    """Return the processor time of all trainings so far."""
    times = os.times()
    return times.children_user + times.children_system
