"""Training of classifiers for membership attacks on maps, with a Lightning trainer."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from torch.utils.data import DataLoader

from seg_mia.callbacks.membership_curves import MembershipCurves
from seg_mia.callbacks.outputs import Scores
from seg_mia.data.predictions import SignalBatch, SignalMaps
from seg_mia.data.samples import EpochSampler, run_seed
from seg_mia.data.splits import hold_out
from seg_mia.errors import InputError
from seg_mia.membership.answers import Answers
from seg_mia.membership.roc import best_threshold
from seg_mia.membership.scorers import Classifier
from seg_mia.membership.signals import Signal, checked
from seg_mia.metrics.labels import padding
from seg_mia.metrics.shapes import axes
from seg_mia.tasks.membership import MembershipTask


@dataclass(frozen=True)
class ClassifierLearner:
    """Trains the classifier of each seed with a separate trainer.

    Attributes:
        signal: input of the classifier.
        trainer: returns the trainer of a seed, numbered from 0; its callbacks include a `MembershipCurves`.
        seed: seed of the first classifier.
    """

    signal: Signal
    trainer: Callable[[int], Trainer]
    seed: int

    def __call__(self, settings: Classifier, shadow: Answers, number: int) -> "TrainedClassifier":
        """Train on a shadow's signals; whole groups are held out, on which the threshold is chosen."""
        seed_everything(self.seed + number, verbose=False)
        trainer, samples = self.trainer(number), samples_of(shadow)
        train, held = hold_out(
            samples.members, samples.groups.tolist(), part=settings.validation, seed=run_seed()
        )
        training, validation = samples.part(train), samples.part(held)
        mean, std = _statistics(self.signal, training)
        members = float(training.members.mean())
        task = MembershipTask(self.signal, settings, mean=mean, std=std, members=members)
        loader = signal_loader(training, settings.batch_size, shuffle=True, trainer=trainer)
        task.check_one_sample(next(iter(signal_loader(validation, 2))))
        trainer.fit(task, loader, signal_loader(validation, settings.batch_size, trainer=trainer))
        if trainer.global_step != settings.epochs * len(loader):
            raise InputError(
                f"the membership classifier must train for {settings.epochs} epochs of {len(loader)} steps, "
                f"got {trainer.global_step} steps; leave out --trainer.max_steps, max_time, limit_ and "
                "fast_dev_run"
            )
        threshold = best_threshold(_scored(trainer, task, validation), validation.members)
        return TrainedClassifier(trainer, task, threshold)


@dataclass(frozen=True)
class TrainedClassifier:
    """A trained classifier.

    Attributes:
        trainer: trainer used for training and scoring.
        task: the classifier.
        threshold: lowest score called a member.
    """

    trainer: Trainer
    task: MembershipTask
    threshold: float

    def scores(self, answers: Answers) -> Scores:
        """Return each sample's score, (n,)."""
        return _scored(self.trainer, self.task, samples_of(answers))

    def last(self, answers: Answers) -> list[Scores]:
        """Return the scores after each of the last epochs; the final weights are those of the last."""
        scores = list[Scores]()
        for weights in _curves(self.trainer).weights:
            self.task.load_state_dict(weights)
            scores.append(self.scores(answers))
        return scores


def samples_of(answers: Answers) -> SignalMaps:
    """Return the samples behind signals that are maps."""
    assert isinstance(answers.signal, SignalMaps)
    return answers.signal


def signal_loader(
    samples: SignalMaps, size: int, *, shuffle: bool = False, trainer: Trainer | None = None
) -> DataLoader[SignalBatch]:
    """Return a loader of samples with their network's outputs, in order unless shuffled."""
    rank, ranks = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
    sampler = EpochSampler(len(samples), shuffle=shuffle, seed=run_seed(), rank=rank, ranks=ranks)
    return DataLoader(
        samples,
        batch_size=size,
        sampler=sampler,
        num_workers=samples.workers,
        # A last batch of one has no batch statistics.
        drop_last=shuffle and len(sampler) % size == 1 and len(sampler) > size,
    )


def _scored(trainer: Trainer, task: MembershipTask, samples: SignalMaps) -> Scores:
    """Return each sample's score, in order, for any number of ranks."""
    trainer.test(task, signal_loader(samples, task.settings.batch_size, trainer=trainer), verbose=False)
    table = _curves(trainer).table
    assert table is not None
    scores = dict(zip(table[0].tolist(), table[1].tolist(), strict=True))
    if len(scores) < len(samples):
        raise InputError(
            f"every sample must be scored, got {len(scores)} of {len(samples)}; leave out "
            "--trainer.limit_test_batches, and use --data.limit to attack fewer"
        )
    return np.array([scores[index] for index in samples.indices.tolist()])


def _curves(trainer: Trainer) -> MembershipCurves:
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set by a connector
    (curves,) = [callback for callback in callbacks if isinstance(callback, MembershipCurves)]
    return curves


def _statistics(signal: Signal, samples: SignalMaps) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and standard deviation of each channel, (C,), float64, without the padding of volumes."""
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for batch in signal_loader(samples, 32):
        maps = checked(signal(*batch[:3]), type(signal).__name__).double()
        padded = padding(batch.mask)
        count += int((~padded).sum())
        pixels = (0, *axes(maps, 2))
        maps = maps.masked_fill(padded.unsqueeze(1), 0)
        total, squares = total + maps.sum(pixels), squares + maps.square().sum(pixels)
    mean = total / count
    return mean, (squares / count - mean.square()).clamp(min=0).sqrt()
