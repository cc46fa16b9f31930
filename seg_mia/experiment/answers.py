"""Signals of victim and shadows, as inputs of scorers."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Literal, assert_never

import numpy as np
import torch
from numpy.typing import NDArray

from seg_mia.data.augment import Augmentation
from seg_mia.data.predictions import FOLDER, SignalSamples, asked, predictions
from seg_mia.data.samples import spread
from seg_mia.data.signal_values import signal_values
from seg_mia.data.trained_model import TrainedModel
from seg_mia.experiment.classifier import signal_loader
from seg_mia.membership.answers import Answers
from seg_mia.membership.features import sample_statistics
from seg_mia.membership.fleet.confidences import Confidences, CrossEntropy, LogCrossEntropy
from seg_mia.membership.label_signals import of_classes
from seg_mia.membership.signals import ImageEntropy, ImageLoss, Signal
from seg_mia.runs import run_of

log = logging.getLogger(__name__)

LEAST_POPULATION: Final = 20
MOST_POPULATION: Final = 1000
"""Samples of a population: ten times one over the lowest false positive rate that they resolve."""
COMMON: Final = (ImageLoss(), ImageEntropy(), LogCrossEntropy(), CrossEntropy(), Confidences())
"""Numeric signals of common attacks: whichever is needed first, the others are computed with it."""
Query = Literal["all", "shown", "none"]
"""Samples on which a network is asked for its whole output: all, each when a picture shows it, or none."""


def query_of(signal: Signal) -> Query:
    """Return on which samples an attack by a signal needs the whole output of the attacked network."""
    if not signal.queries_victim:
        return "none"
    return "all" if signal.maps else "shown"


def seen_by(side: TrainedModel) -> NDArray[np.bool_]:
    """Return samples a network may have been trained on, bool (n,) over the data set.

    Patients count as a whole, and samples possibly used by its defences are included.
    """
    data = side.data
    known = {*data.splits.members, *data.splits.reference} - set(side.unseen)
    groups = {data.source.groups[i] for i in known}
    return np.array([group in groups for group in data.source.groups], dtype=np.bool_)


def side_samples(
    side: TrainedModel, network: TrainedModel, device: torch.device, *, query: Query, limited: bool = False
) -> SignalSamples:
    """Return a side's members and non-members, with a network's outputs on them.

    Args:
        side: whose samples.
        network: the queried network.
        device: device of the queries.
        query: on which of them.
        limited: whether to heed the limit of the data.
    """
    data = side.data
    parts = [side.judged(part, limited=limited) for part in ("members", "nonmembers")]
    indices = np.concatenate(parts)
    members = np.arange(len(indices)) < len(parts[0])
    match query:
        case "all":
            answers = predictions(
                network.network,
                data,
                indices,
                built=network.built,
                checkpoint=network.file,
                folder=run_of(network.file) / FOLDER,
                device=device,
            )
            return SignalSamples(data, indices, members, answers)
        case "shown":
            return SignalSamples(
                data, indices, members, lambda row: asked(network.network, data, indices[[row]], device)[0]
            )
        case "none":
            unasked = np.zeros((len(indices), data.source.classes, 1, 1), np.float16)
            return SignalSamples(data, indices, members, unasked)
        case _:
            assert_never(query)


def nonmember_answers(
    signal: Signal, network: TrainedModel, shadow: TrainedModel, device: torch.device
) -> Answers:
    """Return a network's signals and features on samples of the shadow's half that it was not trained on."""
    samples = side_samples(shadow, network, device, query="none")
    unseen = np.flatnonzero(~seen_by(network)[samples.indices])
    known = samples.part(unseen)
    answers = answers_of(signal, network, known, device, augment=network.data.augment, features=True)
    return replace(answers, members=np.zeros(len(unseen), dtype=np.bool_))


def answers_of(
    signal: Signal,
    network: TrainedModel,
    samples: SignalSamples,
    device: torch.device,
    *,
    augment: Augmentation = "none",
    features: bool = False,
) -> Answers:
    """Return the signal of some samples: numbers, or maps computed on access.

    Args:
        signal: the attacker's view.
        network: the queried network.
        samples: samples with the network's outputs if the signal is a map.
        device: device of the computation.
        augment: augmentation of the attacked network's training.
        features: whether to add statistics of images and masks.

    Raises:
        InputError: a network with other classes than the data, a signal that is not finite.
    """
    source = samples.data.source
    numbers = None
    if not signal.maps:
        beside = [of_classes(other, source.classes) for other in COMMON]
        (numbers,) = signal_values(
            network, [signal], samples.data, samples.indices, device, augment=augment, beside=beside
        )
    return Answers(
        ids=np.array([source.ids[i] for i in samples.indices]),
        groups=samples.groups,
        members=samples.members,
        judged=np.ones(len(samples), dtype=np.bool_),
        signal=samples if numbers is None else numbers,
        features=_features(samples) if features else None,
    )


def own_answers(signal: Signal, shadow: TrainedModel, device: torch.device) -> Answers:
    """Return a shadow's signals on its own members and non-members; arguments as in `fleet_answers`."""
    samples = side_samples(shadow, shadow, device, query="all" if query_of(signal) == "all" else "none")
    return answers_of(signal, shadow, samples, device, augment=shadow.data.augment)


def pool_of(side: TrainedModel) -> NDArray[np.int64]:
    """Return the labelled members and non-members of a network's split, ascending."""
    return np.union1d(side.data.scored("members"), side.data.scored("nonmembers"))


def population_of(
    victim: TrainedModel, shadows: Sequence[TrainedModel], *, untouched: bool
) -> NDArray[np.int64]:
    """Return labelled samples outside all networks' training, of patients that none evaluates, ascending.

    Args:
        victim: the victim.
        shadows: the attacker's networks.
        untouched: whether reference parts are outside, too: no network had a defence.

    Returns:
        at most `MOST_POPULATION` of them; none if there are fewer than `LEAST_POPULATION`.
    """
    data, taken = victim.data, set[str]()
    for side in (victim, *shadows):
        splits = side.data.splits
        used = {*splits.members, *splits.nonmembers, *(() if untouched else splits.reference)}
        taken |= {side.data.source.groups[i] for i in used}
    outside = np.flatnonzero(
        data.facts.labelled & np.array([name not in taken for name in data.source.groups])
    )
    if len(outside) < LEAST_POPULATION:
        log.warning(
            "%d samples lie outside all networks' training: the attack compares with the evaluated samples "
            "themselves, some of them members; %d are needed, keep some back by data.reference",
            len(outside),
            LEAST_POPULATION,
        )
        return outside[:0]
    return spread(outside, data.source.groups, MOST_POPULATION)


def population_answers(
    signal: Signal,
    queried: TrainedModel,
    shadows: Sequence[TrainedModel],
    outside: NDArray[np.int64],
    device: torch.device,
) -> tuple[Answers | None, list[Answers]]:
    """Return signals on a population of the queried network and of the shadows; None and none without one.

    Args:
        signal: a numeric signal.
        queried: the queried network, whose data is read.
        shadows: networks to query.
        outside: of `population_of`, (z,).
        device: device of the queries.
    """
    if not len(outside):
        return None, []
    data = queried.data
    names = np.array([data.source.ids[i] for i in outside])
    groups = np.array([data.source.groups[i] for i in outside])
    nobody = np.zeros(len(outside), dtype=np.bool_)
    answers = [
        Answers(names, groups, nobody, ~nobody, values)
        for side in (queried, *shadows)
        for values in signal_values(side, [signal], data, outside, device, augment=data.augment)
    ]
    return answers[0], answers[1:]


def fleet_answers(
    signal: Signal,
    victim: TrainedModel,
    shadows: Sequence[TrainedModel],
    judged: NDArray[np.int64],
    device: torch.device,
) -> list[Answers]:
    """Return each shadow's signals on the evaluation samples and on all shadow samples, in one order.

    Args:
        signal: a numeric signal.
        victim: the victim, whose data is read.
        shadows: networks to query.
        judged: data-set indices of the victim's samples, (n,).
        device: device of the queries and signals.
    """
    pool = np.unique(np.concatenate([pool_of(shadow) for shadow in shadows]))
    further = np.setdiff1d(judged, pool)
    indices = np.concatenate([pool, further])
    source = victim.data.source
    ids = np.array([source.ids[i] for i in indices])
    groups = np.array([source.groups[i] for i in indices])
    fleet = list[Answers]()
    for shadow in shadows:
        half = np.concatenate([shadow.judged("members"), shadow.judged("nonmembers")])
        # The pool apart: its cached signals serve every victim, whatever else is asked.
        parts = [
            signal_values(shadow, [signal], victim.data, part, device, augment=victim.data.augment)[0]
            for part in (pool, further)
            if len(part)
        ]
        fleet.append(
            Answers(
                ids=ids,
                groups=groups,
                members=seen_by(shadow)[indices],
                judged=np.isin(indices, half),
                signal=np.concatenate(parts),
            )
        )
    return fleet


def _features(samples: SignalSamples) -> NDArray[np.float64]:
    """Return statistics of each image and mask, in the samples' order, (n, features)."""
    classes = samples.data.source.classes
    return np.stack(
        [
            sample_statistics(image, mask, classes)
            for batch in signal_loader(samples, 32)
            for image, mask in zip(batch.image.numpy(), batch.mask.numpy(), strict=True)
        ]
    )
