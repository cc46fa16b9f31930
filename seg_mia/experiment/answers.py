"""Asking networks: what victim and shadows answer, as signals in which scorers find members."""

from collections.abc import Sequence

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
from seg_mia.membership.signals import Signal, checked
from seg_mia.runs import run_of


def seen_by(side: TrainedModel) -> NDArray[np.bool_]:
    """Return which samples a network may know, bool (n,) over the data set: of whom its training saw any.

    Patients count as a whole, and so does what its defences may have used.
    """
    data = side.data
    known = {*data.splits.members, *data.splits.reference} - set(side.unseen)
    groups = {data.source.groups[i] for i in known}
    return np.array([group in groups for group in data.source.groups], dtype=np.bool_)


def side_samples(
    side: TrainedModel, asked: TrainedModel, signal: Signal, device: torch.device, *, limited: bool = False
) -> SignalSamples:
    """Return a side's members and non-members with a network's answers on them; none for a blind signal."""
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
    """Return samples with a network's answers on them."""
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


def answers_of(signal: Signal, samples: SignalSamples, device: torch.device, *, whose: str) -> Answers:
    """Return the signal of some samples: numbers, or maps, which are computed when they are read.

    Args:
        signal: what the attacker sees.
        samples: with the network's answers.
        device: where signals are computed.
        whose: the network's role, for errors.

    Raises:
        InputError: a network of other classes than the data's, a signal that is not finite.
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
    )


def fleet_answers(
    signal: Signal,
    victim: TrainedModel,
    shadows: Sequence[TrainedModel],
    judged: NDArray[np.int64],
    device: torch.device,
) -> list[Answers]:
    """Return what each shadow answers about the judged samples, then about all that shadows are made of.

    Args:
        signal: a number.
        victim: whose data is read.
        shadows: what is asked.
        judged: data-set indices of the victim's samples, (n,).
        device: where networks are asked and signals computed.
    """
    made_of = [np.concatenate([shadow.judged("members"), shadow.judged("nonmembers")]) for shadow in shadows]
    further = np.setdiff1d(np.concatenate(made_of), judged)
    fleet = list[Answers]()
    for shadow, own in zip(shadows, made_of, strict=True):
        seen = seen_by(shadow)
        parts = [  # asked apart, so that the answers of one fleet serve a larger one
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


def _numbers(signal: Signal, samples: SignalSamples, device: torch.device) -> Scores:
    """Return a signal that is one number per image, in the samples' order."""
    values = [signal(*(part.to(device) for part in batch[:3])).cpu() for batch in signal_loader(samples, 32)]
    return checked(torch.cat(values), type(signal).__name__).double().numpy()
