"""Speed of attacks, data, training and the command line, each paired with a baseline in the same run.

python benchmarks/run.py
python benchmarks/run.py --only "ASMA, float32" texture --repeats 9
python benchmarks/run.py --quick --json speed.json
python benchmarks/run.py --groups memory fleet
python benchmarks/run.py --groups device

Both ways of a pair do the same work, which is checked, and are timed in turn, so that a machine whose speed
drifts does not decide. A ratio is the baseline's time by ours; its median, lowest and highest over the
repetitions are printed. The exit code is 1 if a result differs from its baseline's; a target that is missed
is printed. Memory, fleets and commands have limits instead of baselines. What cannot be measured here is left
out with its reason: attacks on a device without one, bfloat16 on processors that lack it, other libraries.
`--quick` takes sizes of seconds and no repetitions, which show that results agree and say nothing of speed.
"""

import argparse
import gc
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

from benchmarks.suite import (
    asma_pairs,
    attacks,
    command_line,
    data,
    device,
    fleet,
    membership,
    memory,
    peers,
    training,
)
from benchmarks.suite.pairs import Figure, Measured, Pair, measure
from benchmarks.suite.sizes import QUICK, Sizes

GROUPS: dict[str, Callable[[Sizes], Iterator[Pair]]] = {
    "attacks": attacks.pairs,
    "membership": membership.pairs,
    "data": data.pairs,
    "training": training.pairs,
    "peers": peers.pairs,
    "device": device.pairs,
}
"""Pairs by group."""
FIGURES: dict[str, Callable[[Sizes, int], Iterator[Figure]]] = {
    "device": device.figures,
    "memory": memory.figures,
    "fleet": fleet.figures,
    "command-line": command_line.figures,
}
"""Values with a limit by group, of sizes and a number of repetitions."""
SKIPPED: dict[str, Callable[[Sizes], list[str]]] = {
    "attacks": lambda _: asma_pairs.skipped(),
    "peers": lambda _: peers.skipped(),
    "device": lambda sizes: device.skipped(sizes.device),
}
"""Reasons for what is left out, by group."""
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
    times = [measured.seconds, measured.baseline_seconds]
    rates = [f" ({measured.images / time:.3g} images/s)" if measured.images else "" for time in times]
    once = "" if measured.once is None else f" and {measured.once:.3g} once"
    return (
        f"| {measured.name} | {times[0]:.3g}{rates[0]}{once} | {times[1]:.3g}{rates[1]} | "
        f"{measured.ratio:.2f} ({spread}) | {measured.target:g}, {outcome} | "
        f"{measured.difference:.1e} (at most {measured.allowed:g}) |"
    )


def figure_line(figure: Figure) -> str:
    """Return the row of a value that has a limit, or none, instead of a baseline."""
    low, high, unit = min(figure.values), max(figure.values), f" {figure.unit}" if figure.unit else ""
    outcome = "met" if figure.met else "**missed**"
    limit = "" if figure.limit is None else f"at most {figure.limit:g}{unit}, {outcome}"
    spread = f" ({low:.3g} to {high:.3g}, {len(figure.values)})" if len(figure.values) > 1 else ""
    return f"| {figure.name} | {figure.median:.3g}{unit}{spread} | | | {limit} | |"


def groups_of() -> list[str]:
    """Return the names of all groups, in the order of the table."""
    return list(dict.fromkeys([*GROUPS, *FIGURES]))


def arguments() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--groups", nargs="+", choices=groups_of(), help="all by default")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="pairs by name, all of a group by default")
    parser.add_argument("--quick", action="store_true", help="smallest sizes, no repetitions")
    parser.add_argument("--size", type=int, help=f"side of an image in pixels, {Sizes().side} by default")
    parser.add_argument("--images", type=int, help=f"images of an attack, {Sizes().images} by default")
    parser.add_argument("--device", help=f"of the group device, {Sizes().device} by default")
    parser.add_argument("--repeats", type=int, help="5 by default; 3 where they take long")
    parser.add_argument("--json", type=Path, help="file for the results with hardware and versions")
    return parser.parse_args()


def sizes_of(given: argparse.Namespace) -> Sizes:
    """Return the sizes of the command line."""
    chosen = {"side": given.size, "images": given.images, "device": given.device}
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


def measured_figures(groups: list[str], sizes: Sizes, repeats: int) -> Iterator[Figure]:
    """Measure the values with limits of some groups."""
    for group in groups:
        if group in FIGURES:
            yield from FIGURES[group](sizes, repeats)


def main() -> int:
    """Measure and print."""
    given = arguments()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.simplefilter("ignore")  # Lightning's and torch's, which say nothing of time
    groups, sizes = given.groups or groups_of(), sizes_of(given)
    repeats = given.repeats or (0 if given.quick else 5)
    content = machine() | {"sizes": vars(sizes)}
    print(
        ", ".join(f"{name} {value}" for name, value in content.items() if name not in {"versions", "sizes"})
    )
    for reason in (reason for group in groups if group in SKIPPED for reason in SKIPPED[group](sizes)):
        print(f"left out: {reason}")
    print(HEAD)
    rows: list[Measured] = []
    for row in measured_pairs(groups, sizes, given.only, repeats):
        rows.append(row)
        print(line(row), flush=True)
    content["pairs"] = [row.plain() for row in rows]
    content["figures"] = []
    for figure in measured_figures([] if given.only else groups, sizes, max(1, repeats)):
        content["figures"].append(figure.plain())
        print(figure_line(figure), flush=True)
    print("\nbaselines: " + "; ".join(f"{row.name}: {row.what}" for row in rows))
    if given.json is not None:
        given.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return 0 if all(row.equal for row in rows) else 1


if __name__ == "__main__":
    gc.freeze()  # what is imported is no garbage of any run
    sys.exit(main())
