"""Membership inference on a victim, with a shadow to learn on: signals, scores, findings."""

from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader

from seg_mia.callbacks.card import check_data
from seg_mia.callbacks.membership_curves import MembershipCurves
from seg_mia.callbacks.outputs import Findings, Scores
from seg_mia.callbacks.seen import unseen_members
from seg_mia.checkpoint import (
    Card,
    build,
    card_of,
    load_weights,
    network_spec,
    read,
    same_weights,
    without_machine,
)
from seg_mia.data.base import SegmentationData, Subset, run_seed
from seg_mia.data.predictions import FOLDER, SignalBatch, SignalSamples, predictions
from seg_mia.data.samples import EpochSampler
from seg_mia.data.sides import Side, tell_left_out
from seg_mia.data.splits import hold_out
from seg_mia.defences.base import wrapped
from seg_mia.defences.release import Release
from seg_mia.errors import InputError
from seg_mia.membership.base import Membership
from seg_mia.membership.roc import best_threshold
from seg_mia.membership.scorers import Classifier, Threshold
from seg_mia.membership.signals import Signal, checked
from seg_mia.plan import Plan, Shadow
from seg_mia.runs import run_of
from seg_mia.spec import parameters
from seg_mia.spec import resolve as class_at
from seg_mia.tasks.membership import MembershipTask


def infer(
    attack: Membership,
    victim: Side,
    shadow: Side,
    *,
    trainer: Callable[[int], Trainer],
    seed: int,
    control: bool = False,
) -> Findings:
    """Score the victim's members and non-members with what the shadow's taught.

    Args:
        attack: signal and scorer.
        victim: whose members are guessed.
        shadow: trained on the other half.
        trainer: gives a new trainer for the classifier of each seed, numbered from 0; its callbacks hold a
            `MembershipCurves`.
        seed: of the first classifier.
        control: ask the shadow about the victim's samples instead, none of which it saw: a negative control,
            whose AUC must be 0.5.

    Raises:
        InputError: sides that do not go together, or too few samples.
    """
    check_pair(victim, shadow)
    tell_left_out(victim, shadow)
    first = trainer(0)
    device = first.strategy.root_device
    learn = _samples(shadow, shadow, attack.signal, device)
    judge = _samples(victim, shadow if control else victim, attack.signal, device, limited=True)
    for whose, samples in (("shadow", learn), ("victim", judge)):
        answered = max(2, samples.logits.shape[1])
        if answered != victim.data.source.classes:
            raise InputError(
                f"the {whose}'s network tells {answered} classes apart, the data has "
                f"{victim.data.source.classes}; name the data it was trained on"
            )
    scorer = attack.scorer
    if isinstance(scorer, Threshold):
        known = -_numbers(attack.signal, learn, device)
        threshold = scorer.threshold(known, learn.members)
        return Findings(judge, -_numbers(attack.signal, judge, device), threshold)
    assert isinstance(scorer, Classifier)
    found, last = [], list[Scores]()
    for number in range(scorer.seeds):
        seed_everything(seed + number, verbose=False)
        own = first if number == 0 else trainer(number)
        scores, threshold, extra = _classified(attack.signal, scorer, learn, judge, own)
        found.append((scores, threshold))
        last = last or extra
    return Findings(
        judge,
        np.mean([scores for scores, _ in found], axis=0),
        float(np.mean([threshold for _, threshold in found])),
        found,
        last,
    )


def check_pair(victim: Side, shadow: Side) -> None:
    """Raise InputError unless the shadow saw none of the victim's samples and knows the same classes."""
    mine, other = victim.data, shadow.data
    if mine.fingerprint != other.fingerprint:
        raise InputError(
            f"shadow {shadow.file} was trained on other data (fingerprint {other.fingerprint[:12]}) than "
            f"{victim.file} ({mine.fingerprint[:12]}); train one on the other half of the victim's data"
        )
    for what in ("classes", "channels"):
        if getattr(mine.source, what) != getattr(other.source, what):
            raise InputError(
                f"shadow and victim must have as many {what}, got {getattr(other.source, what)} and "
                f"{getattr(mine.source, what)}; train the shadow with the victim's {_option(mine, what)}"
            )
    for side in (victim, shadow):
        _check_enough(side)
    sizes = [(data.cached.images.shape[1:3], data.cached.masks.shape[1:]) for data in (other, mine)]
    if sizes[0] != sizes[1]:
        raise InputError(
            f"shadow and victim must see images and masks of one size, got {sizes[0]} and {sizes[1]}; train "
            f"the shadow with the victim's {_option(mine, 'size')}"
        )
    if (mine.tied, mine.stratify) != (other.tied, other.stratify):
        raise InputError(
            "shadow and victim must be split alike, their near duplicates or strata differ; train the shadow "
            "with the victim's --data.duplicates, --data.near_duplicates and --data.stratify"
        )
    judged = {mine.source.groups[i] for i in (*mine.splits.members, *mine.splits.nonmembers)}
    shared = judged & {other.source.groups[i] for i in other.splits}
    if shared:
        raise InputError(
            f"the shadow's half overlaps with the victim's in {len(shared)} samples or groups, so the "
            "attacker would know what it guesses about; train the shadow with --data.role shadow and the "
            "victim's --data.split_seed and --data.shadow_share"
        )


def _option(data: SegmentationData, name: str) -> str:
    """Return an option as the command line spells it, where this data set's reader has it."""
    return f"--data.{name}" if name in parameters(type(data)) else "settings of the data"


def _check_enough(side: Side) -> None:
    data = side.data
    parts: tuple[Subset, ...] = ("members", "nonmembers")
    for part in parts:
        groups = {data.source.groups[i] for i in side.judged(part)}
        if len(groups) < 2:
            why = ", ".join(f"{count} {what}" for what, count in side.left_out.items() if count)
            raise InputError(
                f"membership needs at least 2 {part} on either side, of 2 groups where there are groups, the "
                f"{data.role}'s half has {len(groups)}{f', {why} left out' if why else ''}; train again with "
                f"more --data.{part}{', and on all of them' if 'untrained' in why else ''}"
            )


def _samples(
    side: Side, asked: Side, signal: Signal, device: torch.device, *, limited: bool = False
) -> SignalSamples:
    """Return a side's members and non-members with a network's answers on them; none for a blind signal."""
    data = side.data
    parts = [side.judged(part, limited=limited) for part in ("members", "nonmembers")]
    indices = np.concatenate(parts)
    members = np.arange(len(indices)) < len(parts[0])
    if not signal.asks:
        unasked = np.zeros((len(indices), data.source.classes, 1, 1), np.float16)
        return SignalSamples(data, indices, members, unasked)
    answers = predictions(
        asked.network,
        data,
        indices,
        built=asked.built,
        checkpoint=asked.file,
        folder=run_of(asked.file) / FOLDER,
        device=device,
    )
    return SignalSamples(data, indices, members, answers)


def _numbers(signal: Signal, samples: SignalSamples, device: torch.device) -> Scores:
    """Return a signal that is one number per image, in the samples' order."""
    values = [signal(*(part.to(device) for part in batch[:3])).cpu() for batch in _loader(samples, 32)]
    return checked(torch.cat(values), type(signal).__name__).double().numpy()


def _loader(
    samples: SignalSamples, size: int, *, shuffle: bool = False, trainer: Trainer | None = None
) -> DataLoader[SignalBatch]:
    rank, ranks = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
    sampler = EpochSampler(len(samples), shuffle=shuffle, seed=run_seed(), rank=rank, ranks=ranks)
    return DataLoader(
        samples,
        batch_size=size,
        sampler=sampler,
        num_workers=samples.data.workers,
        # A last batch of one has no batch statistics.
        drop_last=shuffle and len(sampler) % size == 1 and len(sampler) > size,
    )


def _classified(
    signal: Signal, settings: Classifier, learn: SignalSamples, judge: SignalSamples, trainer: Trainer
) -> tuple[Scores, float, list[Scores]]:
    """Train on the shadow's signals, then score the victim's: its scores, the threshold, and the extra."""
    train, held = hold_out(learn.members, learn.groups.tolist(), part=settings.validation, seed=run_seed())
    shown, kept = learn.part(train), learn.part(held)
    mean, std = _statistics(signal, shown)
    members = float(shown.members.mean())
    task = MembershipTask(signal, settings, mean=mean, std=std, members=members)
    loader = _loader(shown, settings.batch_size, shuffle=True, trainer=trainer)
    task.try_one(next(iter(_loader(kept, 2))))
    trainer.fit(task, loader, _loader(kept, settings.batch_size, trainer=trainer))
    if trainer.global_step != settings.epochs * len(loader):
        raise InputError(
            f"the membership classifier must train for {settings.epochs} epochs of {len(loader)} steps, "
            f"it took {trainer.global_step} steps; leave out --trainer.max_steps, max_time, limit_ and "
            "fast_dev_run"
        )
    threshold = best_threshold(_scored(trainer, task, kept), kept.members)
    scores = _scored(trainer, task, judge)
    last = []
    for weights in _curves(trainer).weights:
        task.load_state_dict(weights)
        last.append(_scored(trainer, task, judge))
    return scores, threshold, last


def _scored(trainer: Trainer, task: MembershipTask, samples: SignalSamples) -> Scores:
    """Return each sample's score, in their order, however many ranks score."""
    trainer.test(task, _loader(samples, task.settings.batch_size, trainer=trainer), verbose=False)
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
    (found,) = [callback for callback in callbacks if isinstance(callback, MembershipCurves)]
    return found


def _statistics(signal: Signal, samples: SignalSamples) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and standard deviation of each channel, (C,), float64."""
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for batch in _loader(samples, 32):
        maps = checked(signal(*batch[:3]), type(signal).__name__).double()
        count += maps[:, 0].numel()
        total, squares = total + maps.sum((0, 2, 3)), squares + maps.square().sum((0, 2, 3))
    mean = total / count
    return mean, (squares / count - mean.square()).clamp(min=0).sqrt()


def load_shadow(found: Shadow, data: SegmentationData, *, trust: Collection[str]) -> Side:
    """Return the shadow's network and its half of the data, which is read from where the victim's is.

    Args:
        found: the checkpoint, its card checked.
        data: the victim's, after setup.
        trust: class paths outside seg_mia that the card may name.

    Raises:
        InputError: a shadow whose members are unknown, or of other data.
    """
    card = found.card
    if card.data is None or card.split is None:
        raise InputError(
            f"shadow {found.file} was exported without its split: its members are unknown; name the original"
        )
    if card.fingerprint != data.fingerprint:
        raise InputError(
            f"shadow {found.file} was trained on other data (fingerprint {str(card.fingerprint)[:12]}) than "
            f"the victim ({data.fingerprint[:12]}); train one on the other half of the victim's data"
        )
    kind = class_at(card.data["class_path"])
    if not issubclass(kind, SegmentationData):
        raise InputError(f"{found.file} is refused: its card names {kind.__name__} where data is needed")
    here = {name: data.hparams[name] for name in ("root", "cache", "workers") if name in data.hparams}
    arguments = without_machine(card.data)["init_args"] | here | {"batch_size": data.batch_size}
    if "root" not in here:
        arguments.pop("root", None)
    try:
        own = kind(**{name: value for name, value in arguments.items() if name in parameters(kind)})
    except TypeError as error:
        raise InputError(f"{found.file} is refused: its card does not describe its data: {error}") from None
    own.setup()
    check_data(own, fingerprint=card.fingerprint, split=card.split, whose="shadow")
    if adopted(card):
        check_members(own, f"shadow {found.file}")
    network = build(network_spec(card), trust=trust)
    load_weights(network, found.content, found.file)
    return Side(network, own, found.file, network_spec(card), unseen_of(card, own))


def behind_release(shadow: Side, release: Release, settings: Any) -> Side:
    """Return a shadow that gives out what the victim does; `settings` are the release's, as plain values."""
    return replace(shadow, network=wrapped(shadow.network, [release]), built=[shadow.built, settings])


def load_teacher(
    file: Path, data: SegmentationData, *, trust: Collection[str], device: torch.device
) -> nn.Module:
    """Return a trained teacher in eval mode, and let the data know which members it has not seen.

    Args:
        file: its last checkpoint.
        data: what it was trained on, after setup.
        trust: class paths outside seg_mia that the card may name.
        device: where it is to answer.

    Raises:
        InputError: no checkpoint that can be read.
    """
    content = read(file)
    card = card_of(content, file, trust=trust)
    network = build(network_spec(card), trust=trust)
    load_weights(network, content, file)
    data.untrained = unseen_of(card, data)
    return network.to(device).eval()


def unseen_of(card: Card, data: SegmentationData) -> tuple[int, ...]:
    """Return the members whom a checkpoint's training never came to, as data-set indices."""
    return unseen_members(card.split or {}, data)


def check_members(data: SegmentationData, name: str) -> None:
    """Raise InputError for a network that was trained elsewhere, on nobody knows whom.

    Data that states its split states the victim's half alone: members of the shadow's half are drawn.

    Args:
        data: that half of the split that the network stands for, with its samples open.
        name: of the network, for the message.
    """
    if data.source.parts is not None and data.role == "victim":
        return
    told = f"{name} was trained elsewhere and its members here are drawn by chance"
    if data.role == "shadow":
        raise InputError(
            f"{told}, as those of a shadow's half always are, so an attack would learn and be judged on "
            "nothing; train a network on that half here: python -m seg_mia fit --data.role shadow"
        )
    how = (
        "--data.split_column"
        if "split_column" in parameters(type(data))
        else "split_column of "
        "seg_mia.data.folder.Folder, which reads a list of files; this data set's reader has none"
    )
    raise InputError(
        f"{told}, so an AUC would be about nothing; state who it was trained on ({how}) and adopt it again"
    )


def check_victim(plan: Plan, data: SegmentationData, *, split_known: bool) -> None:
    """Raise InputError where a membership attack on a victim would mean nothing.

    Args:
        plan: with victim and shadow.
        data: the victim's, after setup.
        split_known: whether the victim's file says how its data was split.
    """
    said = [word for word in plan.args if word.startswith(("--data.subset", "--save_images"))]
    if said:
        raise InputError(
            "membership attacks look at members and non-members and change no image; leave out "
            f"{said[0].partition('=')[0]}"
        )
    file = plan.checkpoint
    assert file is not None
    assert plan.card is not None
    assert plan.shadow is not None
    if not split_known:
        raise InputError(
            f"{file} does not say who its members are, it was exported without its split; use the original "
            "checkpoint"
        )
    if adopted(plan.card):
        check_members(data, f"victim {file}")
    if same_weights(plan.content or {}, plan.shadow.content):
        raise InputError(
            f"shadow {plan.shadow.file} has the weights of victim {file}, so it knows what it is to guess "
            "about; train one on the other half from another seed"
        )


def adopted(card: Card) -> bool:
    """Say whether a checkpoint's network was trained elsewhere."""
    return bool((card.training or {}).get("adopted"))
