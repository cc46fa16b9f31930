"""Speed of attacks, data, training and the command line, each paired with a baseline in the same run.

python benchmarks/run.py
python benchmarks/run.py --only "ASMA, float32" texture --repeats 9
python benchmarks/run.py --size 256 --images 16 --json speed.json

Both ways of a pair do the same work, which is checked, and are timed in turn, so that a machine whose speed
drifts does not decide. A ratio is the baseline's time by ours; its median, lowest and highest over the
repetitions are printed. The exit code is 1 if a result differs from its baseline's; a target that is missed
is printed.
"""

import argparse
import json
import logging
import os
import platform
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks.suite import attacks, command_line, data, membership, training
from benchmarks.suite.pairs import Measured, Pair, measure

GROUPS: dict[str, Callable[[int, int], Iterator[Pair]]] = {
    "attacks": attacks.pairs,
    "membership": membership.pairs,
    "data": data.pairs,
    "training": training.pairs,
}
"""Pairs by group, from the side of an image and the number of images."""
PACKAGES = ("seg_mia", "torch", "torchvision", "lightning", "segmentation_models_pytorch", "numpy")


def machine() -> dict[str, Any]:
    """Return hardware and versions."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
    }


def _processor() -> str:
    """Return the processor's name, the architecture where it is not known."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if information.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def line(measured: Measured) -> str:
    """Return the row of a table."""
    outcome = "met" if measured.met else "**missed**" if measured.equal else "**results differ**"
    spread = f"{measured.lowest:.2f} to {measured.highest:.2f}"
    return (
        f"| {measured.name} | {measured.what} | {measured.baseline_seconds:.3g} | {measured.seconds:.3g} | "
        f"{measured.ratio:.2f} ({spread}) | {measured.target:g}, {outcome} | "
        f"{measured.difference:.1e} (at most {measured.allowed:g}) |"
    )


def arguments() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--groups", nargs="+", choices=[*GROUPS, "command-line"], help="all by default")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="pairs by name, all of a group by default")
    parser.add_argument("--size", type=int, default=128, help="side of an image in pixels")
    parser.add_argument("--images", type=int, default=8, help="images of an attack")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="file for the results with hardware and versions")
    return parser.parse_args()


def main() -> int:
    """Measure and print."""
    given = arguments()
    logging.getLogger("lightning").setLevel(logging.WARNING)
    warnings.simplefilter("ignore")  # Lightning's and torch's, which say nothing of time
    groups = given.groups or [*GROUPS, "command-line"]
    content = machine()
    print(", ".join(f"{name} {value}" for name, value in content.items() if name != "versions"))
    print(f"{given.images} images of {given.size}x{given.size}, {given.repeats} repetitions")
    print("| | baseline | baseline, s | ours, s | times as fast | target | difference of results |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    rows: list[Measured] = []
    for pair in (
        pair for group in groups if group in GROUPS for pair in GROUPS[group](given.size, given.images)
    ):
        if given.only and pair.name not in given.only:
            continue
        rows.append(measure(pair, given.repeats))
        print(line(rows[-1]), flush=True)
    content["pairs"] = [row.plain() for row in rows]
    if "command-line" in groups and not given.only:
        content["commands"] = command_line.measured(given.repeats)
    if given.json is not None:
        given.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return 0 if all(row.equal for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
