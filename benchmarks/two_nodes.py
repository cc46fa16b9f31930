"""A fleet on one machine and on a Ray cluster of two nodes, one of which dies: are the results the same?

    pip install 'seg_mia[ray]'
    python benchmarks/two_nodes.py --config phantom_victim --count 6 --workers 1 2 3 -- --trainer.max_epochs 2

Trains the same fleet by the local executor with each number of workers, then on two nodes of one core. When
the first network is trained, the second node is ended by SIGKILL, and a third one joins. Weights and results
of every run are compared with those of the first, to the last digit.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from seg_mia.runs import shadow_files

OF_A_RUN = {"folder", "id"}
"""Fields of a recipe's results that differ between runs: their place, and hashes with its salt."""
Content = tuple[list[dict[str, torch.Tensor]], object]
"""Weights of each network, and the results of the recipe's audit."""


def main() -> None:
    """Run the comparison; exit with 1 if a result differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True)
    parser.add_argument("--count", type=int, default=6)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--folder", type=Path, default=Path("two_nodes"))
    parser.add_argument("options", nargs="*", help="options of fit, after --")
    arguments = parser.parse_args()
    fleet = [
        "--config",
        arguments.config,
        "--count",
        str(arguments.count),
        "--threads",
        "1",
        *arguments.options,
    ]
    print(f"torch {torch.__version__}, Ray {version('ray')}, {os.cpu_count()} cores")
    first = None
    for workers in arguments.workers:
        place = arguments.folder / f"local_{workers}"
        seconds = trained(place, [*fleet, "--workers", str(workers)])
        first = compared(f"local, {workers} workers", seconds, place, first)
    place = arguments.folder / "ray"
    compared("Ray, a node killed", on_two_nodes(place, fleet), place, first)


def compared(name: str, seconds: float, place: Path, first: Content | None) -> Content:
    """Print whether a fleet's content is the first one's, and end with 1 if not; return the first."""
    content = content_of(place)
    same = first is None or equal(content, first)
    result = "equal" if same else "DIFFERENT"
    print(f"{name}: {seconds:.0f} s, {len(content[0])} networks, {result}", flush=True)
    if not same:
        raise SystemExit(1)
    return first or content


def trained(place: Path, words: list[str]) -> float:
    """Train a fleet below a folder; return the seconds it took."""
    begin = time.monotonic()
    subprocess.run(command(place, words), check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - begin


def command(place: Path, words: list[str]) -> list[str]:
    """Return the command that trains a fleet below a folder."""
    return [sys.executable, "-m", "seg_mia", "fleet", *words, "--runs", str(place)]


def on_two_nodes(place: Path, words: list[str]) -> float:
    """Train a fleet on two nodes, the second of which is killed; return the seconds it took."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    second = cluster.add_node(num_cpus=1)
    begin = time.monotonic()
    try:
        run = subprocess.Popen(
            command(place, [*words, "--executor", "ray", "--address", cluster.address]),
            stdout=subprocess.DEVNULL,
        )
        while run.poll() is None and not list(place.glob("*/*/checkpoints/last.ckpt")):
            time.sleep(0.2)
        cluster.remove_node(second, allow_graceful=False)
        print(f"node killed after {time.monotonic() - begin:.0f} s", flush=True)
        cluster.add_node(num_cpus=1)
        if run.wait():
            raise SystemExit("the fleet on Ray has failed")
    finally:
        cluster.shutdown()
    return time.monotonic() - begin


def content_of(place: Path) -> Content:
    """Return the weights of a fleet's networks and the results of its audit."""
    (folder,) = place.glob("*-fleet/version_0")
    networks = [torch.load(file, weights_only=True)["state_dict"] for file in shadow_files(folder)]
    return networks, placeless(json.loads((folder / "recipe.json").read_text()))


def placeless(content: Any) -> Any:
    """Return plain values without the fields of one run."""
    if isinstance(content, dict):
        return {name: placeless(value) for name, value in content.items() if name not in OF_A_RUN}
    return [placeless(value) for value in content] if isinstance(content, list) else content


def equal(one: Content, other: Content) -> bool:
    """Return whether weights and results are equal to the last digit."""
    networks = zip(one[0], other[0], strict=True)
    return one[1] == other[1] and all(
        first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
        for first, second in networks
    )


if __name__ == "__main__":
    main()
