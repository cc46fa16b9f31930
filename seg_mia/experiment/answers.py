"""Signals of victim and shadows, as inputs of scorers."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from seg_mia.callbacks.outputs import Scores
from seg_mia.data.base import SegmentationData
from seg_mia.data.predictions import FOLDER, SignalSamples, predictions
from seg_mia.data.trained_model import TrainedModel
from seg_mia.errors import InputError
from seg_mia.experiment.classifier import signal_loader
from seg_mia.membership.answers import Answers
from seg_mia.membership.features import sample_statistics
from seg_mia.membership.signals import Signal, checked
from seg_mia.runs import run_of


def seen_by(side: TrainedModel) -> NDArray[np.bool_]:
    """Return samples a network may have been trained on, bool (n,) over the data set.

    Patients count as a whole, and samples possibly used by its defences are included.
    """
    data = side.data
    known = {*data.splits.members, *data.splits.reference} - set(side.unseen)
    groups = {data.source.groups[i] for i in known}
    return np.array([group in groups for group in data.source.groups], dtype=np.bool_)


def side_samples(
    side: TrainedModel, asked: TrainedModel, signal: Signal, device: torch.device, *, limited: bool = False
) -> SignalSamples:
    """Return a side's members and non-members with a network's outputs; no outputs for a blind signal."""
    data = side.data
    parts = [side.judged(part, limited=limited) for part in ("members", "nonmembers")]
    indices = np.concatenate(parts)
    members = np.arange(len(indices)) < len(parts[0])
    if not signal.queries_victim:
        unasked = np.zeros((len(indices), data.source.classes, 1, 1), np.float16)
        return SignalSamples(data, indices, members, unasked)
    return _asked(asked, data, indices, members, device)


def _asked(
    side: TrainedModel,
    data: SegmentationData,
    indices: NDArray[np.int64],
    members: NDArray[np.bool_],
    device: torch.device,
) -> SignalSamples:
    """Return samples with a network's outputs on them."""
    answers = predictions(
        side.network,
        data,
        indices,
        built=side.built,
        checkpoint=side.file,
        folder=run_of(side.file) / FOLDER,
        device=device,
    )
    return SignalSamples(data, indices, members, answers)


def nonmember_answers(
    signal: Signal, asked: TrainedModel, shadow: TrainedModel, device: torch.device
) -> Answers:
    """Return a network's signals and features on samples of the shadow's half that it was not trained on."""
    samples = side_samples(shadow, asked, signal, device)
    unseen = np.flatnonzero(~seen_by(asked)[samples.indices])
    answers = answers_of(signal, samples.part(unseen), device, whose="victim", features=True)
    return replace(answers, members=np.zeros(len(unseen), dtype=np.bool_))


def answers_of(
    signal: Signal, samples: SignalSamples, device: torch.device, *, whose: str, features: bool = False
) -> Answers:
    """Return the signal of some samples: numbers, or maps computed on access.

    Args:
        signal: the attacker's view.
        samples: samples with the network's outputs.
        device: device of the signal computation.
        whose: the network's role, for errors.
        features: whether to add statistics of images and masks.

    Raises:
        InputError: a network with other classes than the data, a signal that is not finite.
    """
    classes, source = max(2, samples.logits.shape[1]), samples.data.source
    if classes != source.classes:
        raise InputError(
            f"the {whose}'s network tells {classes} classes apart, the data has {source.classes}; name the "
            "data it was trained on"
        )
    return Answers(
        ids=np.array([source.ids[i] for i in samples.indices]),
        groups=samples.groups,
        members=samples.members,
        judged=np.ones(len(samples), dtype=np.bool_),
        signal=samples if signal.maps else _numbers(signal, samples, device),
        features=_features(samples) if features else None,
    )


def fleet_answers(
    signal: Signal,
    victim: TrainedModel,
    shadows: Sequence[TrainedModel],
    judged: NDArray[np.int64],
    device: torch.device,
) -> list[Answers]:
    """Return each shadow's signals on the evaluation samples, then on all shadow samples.

    Args:
        signal: a numeric signal.
        victim: the victim, whose data is read.
        shadows: networks to query.
        judged: data-set indices of the victim's samples, (n,).
        device: device of the queries and signals.
    """
    made_of = [np.concatenate([shadow.judged("members"), shadow.judged("nonmembers")]) for shadow in shadows]
    further = np.setdiff1d(np.concatenate(made_of), judged)
    fleet = list[Answers]()
    for shadow, own in zip(shadows, made_of, strict=True):
        seen = seen_by(shadow)
        parts = [  # separate queries, so that cached outputs of one fleet serve a larger one
            answers_of(signal, _asked(shadow, victim.data, part, seen[part], device), device, whose="shadow")
            for part in (judged, further)
            if len(part)
        ]
        fleet.append(
            Answers(
                ids=np.concatenate([part.ids for part in parts]),
                groups=np.concatenate([part.groups for part in parts]),
                members=np.concatenate([part.members for part in parts]),
                judged=np.isin(np.concatenate([judged, further]), own),
                signal=np.concatenate([part.numbers for part in parts]),
            )
        )
    return fleet


def _features(samples: SignalSamples) -> Scores:
    """Return statistics of each image and mask, in the samples' order, (n, features)."""
    classes = samples.data.source.classes
    return np.stack(
        [
            sample_statistics(image, mask, classes)
            for batch in signal_loader(samples, 32)
            for image, mask in zip(batch.image.numpy(), batch.mask.numpy(), strict=True)
        ]
    )


def _numbers(signal: Signal, samples: SignalSamples, device: torch.device) -> Scores:
    """Return a numeric signal per image, in the samples' order."""
    values = [signal(*(part.to(device) for part in batch[:3])).cpu() for batch in signal_loader(samples, 32)]
    return checked(torch.cat(values), type(signal).__name__).double().numpy()
