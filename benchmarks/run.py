"""Speed of attacks, data, training and the command line, each paired with a baseline in the same run.

python benchmarks/run.py
python benchmarks/run.py --only "ASMA, float32" texture --repeats 9
python benchmarks/run.py --quick --json speed.json

Both ways of a pair do the same work, which is checked, and are timed in turn, so that a machine whose speed
drifts does not decide. A ratio is the baseline's time by ours; its median, lowest and highest over the
repetitions are printed. The exit code is 1 if a result differs from its baseline's; a target that is missed
is printed. `--quick` takes sizes of seconds, which show that results agree and say nothing of speed.
"""

import argparse
import json
import logging
import os
import platform
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks.suite import attacks, command_line, data, membership, peers, training
from benchmarks.suite.command_line import Command
from benchmarks.suite.pairs import Measured, Pair, measure
from benchmarks.suite.sizes import QUICK, Sizes

GROUPS: dict[str, Callable[[Sizes], Iterator[Pair]]] = {
    "attacks": attacks.pairs,
    "membership": membership.pairs,
    "data": data.pairs,
    "training": training.pairs,
    "peers": peers.pairs,
}
"""Pairs by group."""
COMMANDS = "command-line"
PACKAGES = ("seg_mia", "torch", "torchvision", "lightning", "segmentation_models_pytorch", "numpy")
HEAD = """| pair | ours, s | baseline, s | ratio, median (spread) | target | difference of results |
| --- | --- | --- | --- | --- | --- |"""


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
    spread = f"{measured.lowest:.2f} to {measured.highest:.2f}, {measured.repetitions}"
    return (
        f"| {measured.name} | {measured.seconds:.3g} | {measured.baseline_seconds:.3g} | "
        f"{measured.ratio:.2f} ({spread}) | {measured.target:g}, {outcome} | "
        f"{measured.difference:.1e} (at most {measured.allowed:g}) |"
    )


def command_row(command: Command) -> str:
    """Return the row of a command, which has a limit and no baseline."""
    return (
        f"| {command.command} | {command.median:.2f} ({command.lowest:.2f} to {command.highest:.2f}) | | | "
        f"at most {command.limit:g} s, {'met' if command.met else '**missed**'} | |"
    )


def arguments() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--groups", nargs="+", choices=[*GROUPS, COMMANDS], help="all by default")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="pairs by name, all of a group by default")
    parser.add_argument("--quick", action="store_true", help="smallest sizes, one repetition")
    parser.add_argument("--size", type=int, help=f"side of an image in pixels, {Sizes().side} by default")
    parser.add_argument("--images", type=int, help=f"images of an attack, {Sizes().images} by default")
    parser.add_argument("--repeats", type=int, help="5 by default; 3 where they take long")
    parser.add_argument("--json", type=Path, help="file for the results with hardware and versions")
    return parser.parse_args()


def sizes_of(given: argparse.Namespace) -> Sizes:
    """Return the sizes of the command line."""
    chosen = {"side": given.size, "images": given.images}
    return replace(
        QUICK if given.quick else Sizes(), **{name: value for name, value in chosen.items() if value}
    )


def measured_pairs(
    groups: list[str], sizes: Sizes, only: list[str] | None, repeats: int
) -> Iterator[Measured]:
    """Measure the pairs of some groups, the named ones if any are."""
    for group in groups:
        if group in GROUPS:
            for pair in GROUPS[group](sizes):
                if not only or pair.name in only:
                    yield measure(pair, repeats)


def main() -> int:
    """Measure and print."""
    given = arguments()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.simplefilter("ignore")  # Lightning's and torch's, which say nothing of time
    groups, sizes = given.groups or [*GROUPS, COMMANDS], sizes_of(given)
    repeats = given.repeats or (1 if given.quick else 5)
    content = machine() | {"sizes": vars(sizes)}
    print(
        ", ".join(f"{name} {value}" for name, value in content.items() if name not in {"versions", "sizes"})
    )
    if "peers" in groups:
        print("".join(f"left out: {reason}\n" for reason in peers.skipped()), end="")
    print(HEAD)
    rows: list[Measured] = []
    for row in measured_pairs(groups, sizes, given.only, repeats):
        rows.append(row)
        print(line(row), flush=True)
    content["pairs"] = [row.plain() for row in rows]
    if COMMANDS in groups and not given.only:
        content["commands"] = []
        for command in command_line.commands(sizes, repeats):
            content["commands"].append(command.plain())
            print(command_row(command), flush=True)
    print("\nbaselines: " + "; ".join(f"{row.name}: {row.what}" for row in rows))
    if given.json is not None:
        given.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return 0 if all(row.equal for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
