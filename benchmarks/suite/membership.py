"""Membership classifiers on stored outputs, against those that query the network in each epoch."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.suite.pairs import Pair
from seg_mia.data.predictions import SignalBatch, SignalSamples, predictions
from seg_mia.data.samples import EpochSampler
from seg_mia.data.sets.phantom import Phantom
from seg_mia.membership.scorers import Classifier
from seg_mia.membership.signals import LossMap, Posterior, PosteriorAndMask, Signal
from seg_mia.models.smp import Smp
from seg_mia.tasks.membership import MembershipTask

SIGNALS: dict[str, tuple[Signal, int]] = {
    "posterior": (Posterior(), 1),
    "posterior and mask": (PosteriorAndMask(), 2),
    "loss map": (LossMap(), 1),
    "posterior and entropy": (Posterior(entropy=True), 2),
}
"""Signals that are maps, with their channels."""
SAMPLES = 8
"""Times the number of images of an attack."""


def pairs(size: int, count: int) -> Iterator[Pair]:
    """Yield the pair of one epoch of four classifiers."""
    torch.manual_seed(0)
    half = SAMPLES * count // 2
    data = Phantom(size=size, patients=8 * half, slices=1, members=half, nonmembers=half)
    data.setup()
    indices = data.indices("all")[: 2 * half]
    network = Smp(encoder="resnet34", channels=1, classes=1).eval()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "weights"
        file.touch()
        stored = predictions(
            network,
            data,
            indices,
            built=None,
            checkpoint=file,
            folder=Path(folder),
            device=torch.device("cpu"),
        )
        samples = SignalSamples(data, indices, np.arange(len(indices)) % 2 == 0, np.array(stored))
    what = "the network is queried again for each batch, one classifier after the other"
    yield Pair(
        "membership, four signals",
        lambda: [_epoch(samples, *signal, lambda batch: batch.logits) for signal in SIGNALS.values()],
        lambda: [
            _epoch(samples, *signal, lambda batch: _asked(network, batch)) for signal in SIGNALS.values()
        ],
        what,
        3.0,
        lambda ours, theirs: max(abs(a - b) for a, b in zip(ours, theirs, strict=True)),
        1e-3,
    )


def _epoch(
    samples: SignalSamples, signal: Signal, channels: int, answer: Callable[[SignalBatch], Tensor]
) -> float:
    """Train a classifier for an epoch; return its last loss."""
    torch.manual_seed(0)
    settings = Classifier(architecture="resnet18", batch_size=16)
    zeros, ones = torch.zeros(channels), torch.ones(channels)
    task = MembershipTask(signal, settings, mean=zeros, std=ones, members=0.5).train()
    optimizer = torch.optim.NAdam(task.network.parameters(), lr=1e-4)
    sampler = EpochSampler(len(samples), shuffle=True, seed=0)
    loss = torch.zeros(())
    for batch in DataLoader(samples, batch_size=settings.batch_size, sampler=sampler):
        loss = task.training_step(batch._replace(logits=answer(batch)), 0)["loss"]
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
    return float(loss.detach())


@torch.no_grad()
def _asked(network: nn.Module, batch: SignalBatch) -> Tensor:
    logits: Tensor = network(batch.image)
    return logits
