"""Four attacks by membership classifiers, on outputs stored once, against the published order of work."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.suite.pairs import Pair
from benchmarks.suite.sizes import Sizes
from seg_mia.data.base import SegmentationData
from seg_mia.data.predictions import SignalBatch, SignalSamples, predictions
from seg_mia.data.samples import EpochSampler
from seg_mia.data.sets.phantom import Phantom
from seg_mia.executors.base import Executor
from seg_mia.executors.choice import executor_of
from seg_mia.membership.scorers import Classifier
from seg_mia.membership.signals import LossMap, Posterior, PosteriorAndMask, Signal
from seg_mia.models.smp import Smp
from seg_mia.tasks.membership import MembershipTask

SIGNALS: tuple[tuple[Signal, int], ...] = (
    (Posterior(), 1),
    (PosteriorAndMask(), 2),
    (LossMap(), 1),
    (Posterior(entropy=True), 2),
)
"""Signals that are maps, with their channels."""
BATCH = 8
Query = Callable[[SignalBatch], Tensor]


def pairs(sizes: Sizes) -> Iterator[Pair]:
    """Yield the pair of four attacks: training on a shadow's samples, scores of the victim's."""
    torch.manual_seed(0)
    victim, shadow = (Smp(encoder="resnet34", channels=1, classes=1).eval() for _ in range(2))
    half = sizes.samples // 2
    data = Phantom(size=sizes.side, patients=16 * half, slices=1, members=2 * half, nonmembers=2 * half)
    data.setup()
    known, judged = data.indices("members"), data.indices("nonmembers")

    def ours(executor: Executor) -> NDArray[np.float64]:
        with tempfile.TemporaryDirectory() as folder:
            stored = [
                _stored(network, data, part, Path(folder) / name)
                for name, network, part in (("shadow", shadow, known), ("victim", victim, judged))
            ]
            tasks = [partial(_attack, stored, signal, sizes) for signal in SIGNALS]
            logs = [Path(folder) / f"{number}.log" for number in range(len(tasks))]
            futures = [executor.submit(task, log.stem, log) for task, log in zip(tasks, logs, strict=True)]
            return np.concatenate([future.result() for future in futures])

    def baseline() -> NDArray[np.float64]:
        unasked = [_unasked(data, part) for part in (known, judged)]
        queries = [partial(_asked, network) for network in (shadow, victim)]
        return np.concatenate([_published_attack(unasked, queries, signal, sizes) for signal in SIGNALS])

    with executor_of("local", threads=1) as executor:  # a process for each core, as in an audit
        yield Pair(
            "membership, four signals",
            partial(ours, executor),
            baseline,
            "one classifier after the other with all cores, shadow and victim queried again in each epoch, "
            "the victim's samples evaluated after each, metrics by scikit-learn, channels first",
            3.0,
            lambda ours, theirs: float(np.abs(ours - theirs).max()),
            0.01,
        )


def _stored(
    network: nn.Module, data: SegmentationData, indices: NDArray[np.int64], folder: Path
) -> SignalSamples:
    """Return samples with the network's outputs, queried once and read back from a file."""
    folder.mkdir()
    weights = folder / "weights"
    weights.touch()
    device = torch.device("cpu")
    answers = predictions(
        network, data, indices, built=None, checkpoint=weights, folder=folder, device=device
    )
    return SignalSamples(data, indices, _members(indices), answers)


def _unasked(data: SegmentationData, indices: NDArray[np.int64]) -> SignalSamples:
    return SignalSamples(data, indices, _members(indices), np.zeros((len(indices), 1, 1, 1), np.float16))


def _members(indices: NDArray[np.int64]) -> NDArray[np.bool_]:
    members: NDArray[np.bool_] = np.arange(len(indices)) % 2 == 0
    return members


def _attack(stored: list[SignalSamples], signal: tuple[Signal, int], sizes: Sizes) -> NDArray[np.float64]:
    """Return the scores of a classifier trained on the first samples, of the second ones."""
    task, optimizer = _classifier(*signal, sizes.classifier)
    for epoch in range(sizes.classifier_epochs):
        for batch in _batches(stored[0], epoch):
            _step(task, optimizer, batch)
    scores = [_scored(task, batch)[0] for batch in _batches(stored[1])]
    return np.concatenate(scores)


def _published_attack(
    unasked: list[SignalSamples], queries: Sequence[Query], signal: tuple[Signal, int], sizes: Sizes
) -> NDArray[np.float64]:
    """Return the same by queries in each epoch, with the metrics that the published code computes."""
    task, optimizer = _classifier(*signal, sizes.classifier, kind=ChannelsFirst)
    scores: list[NDArray[np.float64]] = []
    for epoch in range(sizes.classifier_epochs):
        for batch in _batches(unasked[0], epoch):
            logits = _step(task, optimizer, batch._replace(logits=queries[0](batch)))
            _metrics(logits, batch.member.numpy())
        scores = []
        for batch in _batches(unasked[1]):
            logits, members = _scored(task, batch._replace(logits=queries[1](batch)))
            scores.append(logits)
            _metrics(logits, members)
    return np.concatenate(scores)


class ChannelsFirst(MembershipTask):
    """The classifier with weights and maps in torch's own order, as the published code has them."""

    def __init__(self, *words: Any, **options: Any) -> None:
        super().__init__(*words, **options)
        self.network.to(memory_format=torch.contiguous_format)

    def maps(self, batch: SignalBatch) -> Tensor:
        """Return the maps with their channels first."""
        return super().maps(batch).contiguous()


def _classifier(
    signal: Signal, channels: int, architecture: str, kind: type[MembershipTask] = MembershipTask
) -> tuple[MembershipTask, torch.optim.Optimizer]:
    torch.manual_seed(0)
    settings = Classifier(architecture=architecture, batch_size=BATCH)
    zeros, ones = torch.zeros(channels), torch.ones(channels)
    task = kind(signal, settings, mean=zeros, std=ones, members=0.5)
    return task, torch.optim.NAdam(task.network.parameters(), lr=1e-4)


def _batches(samples: SignalSamples, epoch: int | None = None) -> DataLoader[SignalBatch]:
    """Return the samples in the order of a training epoch, or in their own."""
    sampler = EpochSampler(len(samples), shuffle=epoch is not None, seed=0)
    sampler.set_epoch(epoch or 0)
    return DataLoader(samples, batch_size=BATCH, sampler=sampler)


def _step(task: MembershipTask, optimizer: torch.optim.Optimizer, batch: SignalBatch) -> NDArray[np.float64]:
    """Take a training step; return the logits."""
    output = task.train().training_step(batch, 0)
    optimizer.zero_grad()
    output["loss"].backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    optimizer.step()
    return output["scores"].double().numpy()


@torch.no_grad()
def _scored(task: MembershipTask, batch: SignalBatch) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    return task.eval().test_step(batch, 0)["scores"].double().numpy(), batch.member.numpy()


def _metrics(logits: NDArray[np.float64], members: NDArray[np.bool_]) -> tuple[float, float]:
    guessed = logits > 0
    return accuracy_score(members, guessed), f1_score(members, guessed, zero_division=0.0)


@torch.no_grad()
def _asked(network: nn.Module, batch: SignalBatch) -> Tensor:
    """Return a network's output, in half precision like a stored one, so that results can be compared."""
    logits: Tensor = network(batch.image)
    return logits.half()
