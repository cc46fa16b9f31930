"""Time and memory over a decade of images, pixels, classes, steps and networks, and what a large audit takes.

python benchmarks/cost_model.py
python benchmarks/cost_model.py --quick --picture costs.png

Each point is a process of its own, forked after the imports, so that memory is what the point adds to them
(Linux). Time is the processor's, which other work on the machine adds little to. Exponents are the slopes of
least squares on logarithms: 1 is proportional, 0 constant.
"""

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from seg_mia.attacks.asma import asma
from seg_mia.losses import dice_cross_entropy_loss
from seg_mia.membership.fleet.gaussian import lira_online
from seg_mia.membership.signals import ImageLoss
from seg_mia.models.smp import Smp

SLICES, NETWORKS, EPOCHS = 1_000_000, 256, 30
"""The large audit: networks of a recipe, each trained on half of the slices."""
Work = Callable[[int], None]


@dataclass(frozen=True)
class Axis:
    """An amount that grows by a decade.

    Attributes:
        name: of the amount.
        what: the measured work, in a few words.
        amounts: values, ascending.
        work: does the work of an amount.
    """

    name: str
    what: str
    amounts: Sequence[int]
    work: Work


@dataclass(frozen=True)
class Point:
    """Cost of an amount: processor seconds, and MiB at most held beyond the imports."""

    amount: int
    seconds: float
    megabytes: float


def network(classes: int = 1) -> torch.nn.Module:
    """Return the network of all points, with random weights."""
    torch.manual_seed(0)
    return Smp(encoder="resnet18", channels=1, classes=classes).eval()


def attack(count: int = 4, side: int = 64, classes: int = 1, steps: int = 4) -> None:
    """Run ASMA on a batch."""
    target = torch.ones(count, side, side, dtype=torch.int64)
    asma(network(classes), torch.rand(count, 1, side, side), target, steps=steps)


@torch.no_grad()
def query(images: int, side: int = 128, batch: int = 8) -> None:
    """Query a network on images, a batch at a time, and keep the loss of each."""
    model, signal, losses = network(), ImageLoss(), []
    for start in range(0, images, batch):
        x = torch.rand(min(batch, images - start), 1, side, side)
        losses.append(signal(model(x), x, torch.zeros(len(x), side, side, dtype=torch.int64)))
    torch.cat(losses)


def compare(networks: int, samples: int = 4000) -> None:
    """Score one network's samples by the others of its fleet."""
    draw = np.random.default_rng(0)
    inside = (np.arange(networks)[:, None] + np.arange(samples)) % 2 == 0
    lira_online(draw.normal(size=samples), draw.normal(size=(networks, samples)), inside)


def train(images: int, side: int = 128, batch: int = 8) -> None:
    """Train a network for one epoch."""
    model = network().train()
    optimizer = torch.optim.NAdam(model.parameters())
    for _ in range(images // batch):
        x = torch.rand(batch, 1, side, side)
        optimizer.zero_grad()
        loss = dice_cross_entropy_loss(model(x), (x[:, 0] > 0.5).long()).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def axes(*, quick: bool) -> list[Axis]:
    """Return the axes; quick ones have two points."""
    chosen = [
        Axis("images", "queries, 128x128, 8 at a time", (32, 64, 128, 320), query),
        Axis("pixels", "ASMA, 4 images", tuple(side**2 for side in (64, 96, 128, 160, 224)), _of_pixels),
        Axis("classes", "ASMA, 4 images, 64x64", (2, 5, 10, 20), lambda count: attack(classes=count)),
        Axis("steps", "ASMA, 4 images, 64x64", (4, 8, 16, 40), lambda count: attack(steps=count)),
        Axis("networks", "LiRA, 4000 samples", (16, 32, 64, 160), compare),
    ]
    return [Axis(axis.name, axis.what, axis.amounts[:2], axis.work) for axis in chosen] if quick else chosen


def _of_pixels(pixels: int) -> None:
    attack(side=round(pixels**0.5))


def measured(work: Work, amount: int) -> Point:
    """Return the cost of an amount, in a new process."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(work, amount, sender))
    process.start()
    sender.close()
    try:
        seconds, megabytes = receiver.recv()
    except EOFError:
        process.join()
        raise RuntimeError(f"the process of amount {amount} ended with code {process.exitcode}") from None
    process.join()
    return Point(amount, seconds, megabytes)


def _measure(work: Work, amount: int, sender: Connection) -> None:
    status = Path("/proc/self/status")
    Path("/proc/self/clear_refs").write_text("5")  # forget the greatest size so far
    before = int(status.read_text().split("VmRSS:")[1].split()[0])
    begun = time.process_time()
    work(amount)
    seconds = time.process_time() - begun
    after = int(status.read_text().split("VmHWM:")[1].split()[0])
    sender.send((seconds, (after - before) / 1024))


def exponent(points: Sequence[Point], values: Sequence[float]) -> float:
    """Return the slope of log value over log amount."""
    amounts = np.log([point.amount for point in points])
    return float(np.polyfit(amounts, np.log(np.maximum(values, 1e-3)), 1)[0])


def drawn(costs: dict[str, list[Point]], chosen: Sequence[Axis]) -> Figure:
    """Return a figure: time above, memory below, one column for each axis."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    panels = figure.subplots(2, len(chosen), sharex="col")
    for column, axis in enumerate(chosen):
        points = costs[axis.name]
        for row, values in enumerate(([p.seconds for p in points], [p.megabytes for p in points])):
            panel = panels[row][column]
            panel.loglog([p.amount for p in points], values, marker="o", markersize=3, color="tab:blue")
            panel.set_title(f"exponent {exponent(points, values):.2f}", fontsize=8)
            amounts, low = [point.amount for point in points], min(values) / 1.5
            panel.set_xticks(amounts, map(str, amounts), rotation=45)
            panel.set_ylim(low, max(10 * low, 1.5 * max(values)))  # a decade at least: noise looks flat
            panel.xaxis.set_minor_locator(NullLocator())
            panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            panel.yaxis.set_minor_formatter(NullFormatter())
            panel.tick_params(labelsize=7, which="both")
        panels[1][column].set_xlabel(f"{axis.name}\n{axis.what}", fontsize=8)
    panels[0][0].set_ylabel("processor seconds", fontsize=8)
    panels[1][0].set_ylabel("MiB", fontsize=8)
    return figure


def large_audit(*, quick: bool) -> list[str]:
    """Return what an audit of one million slices with 256 networks takes, from costs of single slices."""
    count = 8 if quick else 64
    query_cost = _slope(query, count)
    train_cost = _slope(train, count)
    score_cost = measured(compare, 64).seconds / (64 * 4000)
    hours = {
        "training": NETWORKS * SLICES / 2 * EPOCHS * train_cost / 3600,
        "queries": NETWORKS * SLICES * query_cost / 3600,
        "scores of every network by the others": NETWORKS**2 * SLICES * score_cost / 3600,
    }
    numbers = NETWORKS * SLICES * 8 / 2**30
    return [
        f"a slice of 128x128: {1000 * query_cost:.1f} ms a query, {1000 * train_cost:.1f} ms a training step",
        f"{SLICES} slices, {NETWORKS} networks of {EPOCHS} epochs on half of them, processor hours: "
        + ", ".join(f"{name} {value:,.0f}" for name, value in hours.items()),
        f"{numbers:.1f} GiB for each signal of all networks on all slices",
    ]


def _slope(work: Work, count: int) -> float:
    """Return seconds for one more image, which building the network is no part of."""
    few, many = measured(work, count), measured(work, 2 * count)
    return (many.seconds - few.seconds) / count


def main() -> None:
    """Measure, print and draw."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--quick", action="store_true", help="two points of each amount")
    parser.add_argument("--picture", type=Path, default=Path("docs/images/costs.png"))
    parser.add_argument("--json", type=Path, help="file for the points")
    given = parser.parse_args()
    chosen, costs = axes(quick=given.quick), dict[str, list[Point]]()
    print("| amount | work | points: processor seconds, MiB | exponent of time | of memory |")
    print("| --- | --- | --- | --- | --- |")
    for axis in chosen:
        costs[axis.name] = points = [measured(axis.work, amount) for amount in axis.amounts]
        listed = "; ".join(f"{p.amount}: {p.seconds:.2f}, {p.megabytes:.0f}" for p in points)
        slopes = [
            exponent(points, values)
            for values in ([p.seconds for p in points], [p.megabytes for p in points])
        ]
        print(f"| {axis.name} | {axis.what} | {listed} | {slopes[0]:.2f} | {slopes[1]:.2f} |", flush=True)
    drawn(costs, chosen).savefig(given.picture, dpi=100)
    for line in large_audit(quick=given.quick):
        print(line)
    if given.json is not None:
        content = {name: [asdict(point) for point in points] for name, points in costs.items()}
        given.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
