"""A fleet in two processes against one network after another."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.fleet_cost import trained
from benchmarks.suite.pairs import Figure
from benchmarks.suite.sizes import Sizes

EPOCHS = 2


def figures(sizes: Sizes, repeats: int, accelerator: str = "cpu") -> Iterator[Figure]:  # noqa: ARG001
    """Yield the ratio of both times, and the shares of the workers' time without a training.

    Both are measured once, whatever the number of repetitions: each takes minutes.

    Args:
        sizes: amount of work.
        repeats: not used.
        accelerator: Lightning's name of where networks are trained.
    """
    options = (
        f"--data.patients={4 * sizes.network_members} --data.slices=1 --data.size={sizes.network_side} "
        f"--data.members={sizes.network_members} --data.nonmembers={sizes.network_members} "
        f"--data.reference=0 --trainer.max_epochs={EPOCHS} --trainer.accelerator={accelerator}"
    )
    where = f"{sizes.networks} networks on {accelerator}"
    with tempfile.TemporaryDirectory() as folder:
        two = trained(Path(folder, "two"), options, sizes.networks, workers=2, threads=1)
        one = trained(Path(folder, "one"), options, sizes.networks, workers=1, threads=2)
    yield Figure(f"{where}, two at a time by one after another", "", [two.seconds / one.seconds], limit=0.55)
    yield Figure(f"{where}, two at a time, share of time without training", "", [two.idle])
    yield Figure(f"{where}, one after another, share of time without training", "", [one.idle])
