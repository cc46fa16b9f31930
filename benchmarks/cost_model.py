"""Time and memory over a decade of images, pixels, classes, steps and networks, and what a large audit takes.

python benchmarks/cost_model.py
python benchmarks/cost_model.py --quick --picture costs.png
python benchmarks/cost_model.py --only trained

Each point is measured several times, each time in a process of its own, forked after the imports (Linux). The
network is built, and shown one small image, before the measurement begins: time is the processor's from then
on, which other work on the machine adds little to, and memory what is held at most beyond that. Exponents are
the slopes of least squares on logarithms, of the medians, and of each repetition for their spread: 1 is
proportional, 0 constant.
"""

import argparse
import io
import json
import logging
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator
from numpy.typing import NDArray

import seg_mia.experiment.lightning_cli  # so that a fleet's process begins with everything imported
from seg_mia.attacks.asma import asma
from seg_mia.audit import stage_key
from seg_mia.audit.fleet import fleet_requests, train_fleet
from seg_mia.audit.stage_cache import StageCache
from seg_mia.commands.fleet import read_settings
from seg_mia.executors.local import PresentProcess
from seg_mia.experiment.request import RunRequest
from seg_mia.losses import dice_cross_entropy_loss
from seg_mia.membership.fleet.gaussian import lira_online
from seg_mia.membership.signals import ImageLoss
from seg_mia.models.smp import Smp

SLICES, NETWORKS, EPOCHS = 1_000_000, 256, 30
"""The large audit: networks of a recipe, each trained on half of the slices."""
SAMPLES = 100_000
"""Of which the scores are compared: with fewer, constants outweigh 16 networks."""
TINY = (
    "--data.patients=64 --data.slices=1 --data.size=32 --data.members=16 --data.nonmembers=16 "
    "--data.reference=0 --model.network.depth=3 --model.network.decoder_channels=[8,8,8] "
    "--trainer.max_epochs=2 --trainer.check_val_every_n_epoch=2 --trainer.accelerator=cpu "
    "--trainer.enable_progress_bar=false"
)
"""Options of a fleet whose networks take seconds."""
Run = Callable[[], None]
Work = Callable[[int], Run]
"""Prepares what is measured, of an amount."""
assert seg_mia.experiment.lightning_cli


@dataclass(frozen=True)
class Axis:
    """An amount that grows by a decade.

    Attributes:
        name: of the amount.
        what: the measured work, in a few words.
        amounts: values, ascending.
        work: prepares the work of an amount.
    """

    name: str
    what: str
    amounts: Sequence[int]
    work: Work


@dataclass(frozen=True)
class Point:
    """Cost of an amount in each repetition: processor seconds, and MiB held beyond what is prepared."""

    amount: int
    seconds: list[float]
    megabytes: list[float]


def network(classes: int = 1) -> torch.nn.Module:
    """Return the network of all points, with random weights, after a pass that prepares kernels."""
    torch.manual_seed(0)
    model = Smp(encoder="resnet18", channels=1, classes=classes).eval()
    with torch.no_grad():
        model(torch.rand(1, 1, 32, 32))
    return model


def attack(count: int = 4, side: int = 64, classes: int = 1, steps: int = 4) -> Run:
    """Run ASMA on a batch."""
    target = torch.ones(count, side, side, dtype=torch.int64)
    return partial(_attack, network(classes), torch.rand(count, 1, side, side), target, steps)


def _attack(model: torch.nn.Module, images: torch.Tensor, target: torch.Tensor, steps: int) -> None:
    asma(model, images, target, steps=steps)


def query(images: int, side: int = 128, batch: int = 8) -> Run:
    """Query a network on images, a batch at a time, and keep the loss of each."""
    return partial(_query, network(), images, side, batch)


@torch.no_grad()
def _query(model: torch.nn.Module, images: int, side: int, batch: int) -> None:
    signal, losses = ImageLoss(), []
    for start in range(0, images, batch):
        x = torch.rand(min(batch, images - start), 1, side, side)
        losses.append(signal(model(x), x, torch.zeros(len(x), side, side, dtype=torch.int64)))
    torch.cat(losses)


def compare(networks: int, samples: int = SAMPLES) -> Run:
    """Score one network's samples by the others of its fleet."""
    draw = np.random.default_rng(0)
    inside = (np.arange(networks)[:, None] + np.arange(samples)) % 2 == 0
    signals = draw.normal(size=samples), draw.normal(size=(networks, samples))
    lira_online(signals[0][:64], signals[1][:, :64], inside[:, :64])  # imports what it needs
    return lambda: _compare(*signals, inside)


def _compare(target: NDArray[np.float64], others: NDArray[np.float64], inside: NDArray[np.bool_]) -> None:
    lira_online(target, others, inside)


def fleet(networks: int) -> Run:
    """Train a fleet of tiny networks, one after another in this process, with all that is kept of each."""
    settings = read_settings(["--config=phantom_victim.yaml", f"--count={networks}", *TINY.split()])
    return partial(_train_fleet, fleet_requests(settings.recipe, settings.count, settings.pool))


def _train_fleet(requests: Sequence[RunRequest]) -> None:
    silent = redirect_stdout(io.StringIO())
    with tempfile.TemporaryDirectory() as folder, silent, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of few batches
        os.chdir(folder)
        os.environ["SEG_MIA_CACHE"] = folder
        cache = StageCache(Path("runs"), say=lambda _: None, fresh=False, device="cpu")
        train_fleet(requests, "tiny", cache, PresentProcess(1), lambda _: None)


def train(images: int, side: int = 128, batch: int = 8) -> Run:
    """Train a network for one epoch."""
    return partial(_train, network().train(), images, side, batch)


def _train(model: torch.nn.Module, images: int, side: int, batch: int) -> None:
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
        Axis("networks compared", f"LiRA, {SAMPLES} samples", (16, 32, 64, 160), compare),
        Axis("networks trained", "fleet, 16 slices, 32x32", (2, 4, 8, 20), fleet),
    ]
    return [Axis(axis.name, axis.what, axis.amounts[:2], axis.work) for axis in chosen] if quick else chosen


def _of_pixels(pixels: int) -> Run:
    return attack(side=round(pixels**0.5))


def measured(work: Work, amount: int, repeats: int = 1) -> Point:
    """Return the cost of an amount, each time in a new process."""
    costs = [_in_process(work, amount) for _ in range(repeats)]
    return Point(amount, [seconds for seconds, _ in costs], [megabytes for _, megabytes in costs])


def _in_process(work: Work, amount: int) -> tuple[float, float]:
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
    return seconds, megabytes


def _measure(work: Work, amount: int, sender: Connection) -> None:
    run = work(amount)
    status = Path("/proc/self/status")
    Path("/proc/self/clear_refs").write_text("5")  # forget the greatest size so far
    before = int(status.read_text().split("VmRSS:")[1].split()[0])
    begun = time.process_time()
    run()
    seconds = time.process_time() - begun
    after = int(status.read_text().split("VmHWM:")[1].split()[0])
    sender.send((seconds, (after - before) / 1024))


@dataclass(frozen=True)
class Exponent:
    """Slope of a log cost over the log amount: of the medians, and the range of the repetitions'."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


def exponent(amounts: Sequence[int], costs: Sequence[Sequence[float]]) -> Exponent:
    """Return the exponent of costs, (amounts, repetitions)."""
    slopes = [_slope(amounts, values) for values in zip(*costs, strict=True)]
    return Exponent(
        _slope(amounts, [statistics.median(values) for values in costs]), min(slopes), max(slopes)
    )


def _slope(amounts: Sequence[int], costs: Sequence[float]) -> float:
    return float(np.polyfit(np.log(amounts), np.log(np.maximum(costs, 1e-3)), 1)[0])


def in_words(values: Sequence[float]) -> str:
    """Return the median, and the range if there are several."""
    spread = f" ({_short(min(values))} to {_short(max(values))})" if len(values) > 1 else ""
    return _short(statistics.median(values)) + spread


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def drawn(costs: dict[str, list[Point]], chosen: Sequence[Axis]) -> Figure:
    """Return a figure: time above, memory below, one column for each axis; bars from lowest to highest."""
    figure = Figure(figsize=(2.2 * len(chosen), 4), layout="constrained")
    panels = figure.subplots(2, len(chosen), sharex="col", squeeze=False)
    for column, axis in enumerate(chosen):
        points = costs[axis.name]
        amounts = [point.amount for point in points]
        for row, values in enumerate(([p.seconds for p in points], [p.megabytes for p in points])):
            panel = panels[row][column]
            middle = np.array([statistics.median(repeated) for repeated in values])
            low, high = np.array([(min(repeated), max(repeated)) for repeated in values]).T
            panel.errorbar(
                amounts, middle, [middle - low, high - middle], marker="o", ms=3, capsize=2, color="tab:blue"
            )
            panel.set_xscale("log")
            panel.set_yscale("log")
            panel.set_title(f"exponent {exponent(amounts, values).value:.2f}", fontsize=8)
            panel.set_xticks(amounts, map(str, amounts), rotation=45)
            lowest = max(min(low), 1e-3) / 1.5
            panel.set_ylim(lowest, max(10 * lowest, 1.5 * max(high)))  # a decade at least: noise looks flat
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
    query_cost = _per_image(query, count)
    train_cost = _per_image(train, count)
    score_cost = measured(compare, 64).seconds[0] / (64 * SAMPLES)
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


def _per_image(work: Work, count: int) -> float:
    """Return seconds for one more image, of which what is done once is no part."""
    few, many = measured(work, count), measured(work, 2 * count)
    return (many.seconds[0] - few.seconds[0]) / count


def arguments() -> argparse.Namespace:
    """Return the command line's options."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--quick", action="store_true", help="two points of each amount")
    parser.add_argument("--only", nargs="+", choices=list(map(word_of, axes(quick=True))), help="amounts")
    parser.add_argument("--repeats", type=int, default=3, help="measurements of each point")
    parser.add_argument("--picture", type=Path, default=Path("docs/images/costs.png"))
    parser.add_argument("--json", type=Path, help="file for the points")
    given = parser.parse_args()
    if given.repeats < 1:
        parser.error(f"--repeats must be at least 1, got {given.repeats}; 3 are usual")
    return given


def word_of(axis: Axis) -> str:
    """Return the last word of an amount's name, by which `--only` knows it."""
    return axis.name.split()[-1]


def main() -> None:
    """Measure, print and draw."""
    given = arguments()
    chosen, costs = axes(quick=given.quick), dict[str, list[Point]]()
    if given.only:
        chosen = [axis for axis in chosen if word_of(axis) in given.only]
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    stage_key._tool()  # the digest of the code, which each fleet would compute for itself
    print("| amount | work | processor seconds | MiB | exponent of time | of memory |")
    print("| --- | --- | --- | --- | --- | --- |")
    for axis in chosen:
        costs[axis.name] = points = [measured(axis.work, amount, given.repeats) for amount in axis.amounts]
        both = [p.seconds for p in points], [p.megabytes for p in points]
        cells = ["; ".join(map(in_words, values)) for values in both]
        slopes = [str(exponent(axis.amounts, values)) for values in both]
        named = f"{axis.name}, {', '.join(map(str, axis.amounts))}"
        print(f"| {' | '.join([named, axis.what, *cells, *slopes])} |", flush=True)
    drawn(costs, chosen).savefig(given.picture, dpi=100)
    for line in [] if given.only else large_audit(quick=given.quick):
        print(line)
    if given.json is not None:
        content = {name: [asdict(point) for point in points] for name, points in costs.items()}
        given.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
