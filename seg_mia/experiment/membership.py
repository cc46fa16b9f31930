"""Membership inference on a victim with shadow models: signals, scores, results."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import nn

from seg_mia.callbacks.card import check_data
from seg_mia.callbacks.membership_results import summarise
from seg_mia.callbacks.outputs import Findings
from seg_mia.callbacks.seen_samples import unseen_members
from seg_mia.checkpoint import (
    Card,
    build,
    card_of,
    load_weights,
    network_spec,
    read,
    same_start,
    same_weights,
    without_machine,
)
from seg_mia.config.spec import parameters
from seg_mia.config.spec import resolve as class_at
from seg_mia.data.base import SegmentationData, Subset
from seg_mia.data.trained_model import TrainedModel, judged_data, log_left_out
from seg_mia.defences.base import wrapped
from seg_mia.defences.release import Release, seen
from seg_mia.errors import InputError
from seg_mia.experiment.answers import (
    answers_of,
    fleet_answers,
    nonmember_answers,
    own_answers,
    seen_by,
    side_samples,
)
from seg_mia.experiment.classifier import ClassifierLearner
from seg_mia.experiment.modules import DataModules
from seg_mia.experiment.plan import Plan, Shadow
from seg_mia.membership.answers import Fleet
from seg_mia.membership.base import Membership
from seg_mia.results.membership import MembershipSummary, ScoredData
from seg_mia.results.privacy import guarantee
from seg_mia.runs import defence_names


def infer(
    attack: Membership,
    victim: TrainedModel,
    shadows: Sequence[TrainedModel],
    *,
    trainer: Callable[[int], Trainer],
    seed: int,
    control: bool = False,
) -> Findings:
    """Score the victim's members and non-members, with the attack fitted to the shadows.

    Args:
        attack: signal and scorer, which determines the number of shadows.
        victim: the attacked network and its data.
        shadows: trained on the other half, or, if the scorer permits, on part of the evaluation samples.
        trainer: returns a new trainer for the classifier of each seed, numbered from 0; its callbacks include
            a `MembershipCurves`.
        seed: seed of the first classifier.
        control: negative control: query a shadow, trained on none of the victim's samples, instead of the
            victim; its AUC must be 0.5. Of several shadows the first is used, and excluded from the attack.

    Raises:
        InputError: incompatible sides, too few or too many shadows, or too few samples.
    """
    needs = attack.scorer.needs
    needs.check_count(len(shadows))
    if not shadows and control:
        raise InputError(
            "a negative control queries a shadow, got none; name one, --shadow PATH, or leave it out"
        )
    for shadow in shadows:
        check_pair(victim, shadow, needs)
    log_left_out(victim, shadows)
    queried, shadows = controlled(victim, shadows, needs) if control else (victim, shadows)
    first = trainer(0)
    device = first.strategy.root_device
    signal = attack.signal
    judged = side_samples(victim, queried, device, query=signal.queries_victim, limited=True)
    features = attack.scorer.by_nonmembers or attack.scorer.by_features
    judge = answers_of(signal, queried, judged, device, augment=victim.data.augment, features=features)
    if attack.scorer.by_nonmembers:
        learn = [nonmember_answers(signal, queried, shadow, device) for shadow in shadows]
    elif needs.queries_judged:
        learn = fleet_answers(signal, victim, shadows, judged.indices, device)
    else:
        learn = [own_answers(signal, shadow, device) for shadow in shadows]
    learner = ClassifierLearner(attack.signal, lambda number: trainer(number) if number else first, seed)
    attack.scorer.fit(learn, learner)
    guesses = attack.scorer.score(judge, learn)
    return Findings(
        judged, guesses.scores, guesses.threshold, guesses.seeds, guesses.last, guesses.regression
    )


def controlled(
    victim: TrainedModel, shadows: Sequence[TrainedModel], needs: Fleet
) -> tuple[TrainedModel, Sequence[TrainedModel]]:
    """Return the shadow queried by a negative control, and the remaining shadows.

    Raises InputError if it was trained on evaluation samples, or no other shadow remains.
    """
    if not needs.queries_judged:
        return shadows[0], shadows
    judged = {i for part in ("members", "nonmembers") for i in victim.judged(part)}
    if seen_by(shadows[0])[sorted(judged)].any():
        raise InputError(
            f"--control needs a shadow trained without the victim's samples, {shadows[0].file} was trained "
            "on some; name shadows of the other half (fit --data.role shadow)"
        )
    if len(shadows) == 1:
        raise InputError(
            "--control queries one shadow in place of the victim and needs others for the attack, got 1 "
            "shadow; name two or more"
        )
    return shadows[0], shadows[1:]


def check_pair(victim: TrainedModel, shadow: TrainedModel, needs: Fleet) -> None:
    """Raise InputError unless a shadow has the victim's classes and data, and only permitted samples.

    Args:
        victim: the attacked network.
        shadow: the shadow model.
        needs: whether shadows may be trained on evaluation samples.
    """
    attacked, learnt = victim.data, shadow.data
    if attacked.fingerprint != learnt.fingerprint:
        raise InputError(
            f"shadow {shadow.file} was trained on other data (fingerprint {learnt.fingerprint[:12]}) than "
            f"{victim.file} ({attacked.fingerprint[:12]}); train one on the other half of the victim's data"
        )
    for name in ("classes", "channels"):
        if getattr(attacked.source, name) != getattr(learnt.source, name):
            raise InputError(
                f"shadow and victim must have the same number of {name}, got {getattr(learnt.source, name)} "
                f"and {getattr(attacked.source, name)}; train the shadow with the victim's "
                f"{_option(attacked, name)}"
            )
    for side in (victim, shadow):
        _check_enough(side)
    sizes = [(data.cached.images.shape[1:-1], data.cached.masks.shape[1:]) for data in (learnt, attacked)]
    if sizes[0] != sizes[1]:
        raise InputError(
            f"shadow and victim must have images and masks of one size, got {sizes[0]} and {sizes[1]}; train "
            f"the shadow with the victim's {_option(attacked, 'size')}"
        )
    if (attacked.duplicate_positions, attacked.stratify) != (
        learnt.duplicate_positions,
        learnt.stratify,
    ):
        raise InputError(
            "shadow and victim must have the same split, got different near duplicates or strata; train the "
            "shadow with the victim's --data.duplicates, --data.near_duplicates and --data.stratify"
        )
    if not needs.queries_judged:  # otherwise it is looked at sample by sample
        _check_apart(attacked, learnt)


def _check_apart(victim: SegmentationData, shadow: SegmentationData) -> None:
    """Raise InputError unless the shadow's data and the victim's evaluation samples are disjoint."""
    judged = {victim.source.groups[i] for i in (*victim.splits.members, *victim.splits.nonmembers)}
    shared = judged & {shadow.source.groups[i] for i in shadow.splits}
    if shared:
        raise InputError(
            f"the halves of shadow and victim must be disjoint, got {len(shared)} shared samples or groups; "
            "train the shadow with --role shadow and the victim's --data.split_seed and --data.shadow_share"
        )


def _option(data: SegmentationData, name: str) -> str:
    """Return an option in command-line spelling, if this data set's reader has it."""
    return f"--data.{name}" if name in parameters(type(data)) else "settings of the data"


def _check_enough(side: TrainedModel) -> None:
    data = side.data
    parts: tuple[Subset, ...] = ("members", "nonmembers")
    for part in parts:
        groups = {data.source.groups[i] for i in side.judged(part)}
        if len(groups) < 2:
            why = ", ".join(f"{count} {reason}" for reason, count in side.left_out.items() if count)
            raise InputError(
                f"membership needs at least 2 {part} in each half, from 2 groups if there are groups, the "
                f"{data.role}'s half has {len(groups)}{f', {why} left out' if why else ''}; train again with "
                f"more --data.{part}{', and on all of them' if 'untrained' in why else ''}"
            )


def load_shadow(
    found: Shadow,
    data: SegmentationData,
    modules: DataModules,
    *,
    victim: Mapping[str, Any],
    trust: Collection[str],
) -> TrainedModel:
    """Return the shadow's network and its half of the data, read from the victim's location.

    Args:
        found: the checkpoint, with checked metadata.
        data: the victim's, after setup.
        modules: provide the shadow's.
        victim: content of the victim's checkpoint.
        trust: class paths outside seg_mia allowed in the metadata.

    Raises:
        InputError: a shadow with unknown members, of other data, or with the victim's weights.
    """
    card, content = found.card, read(found.file)
    if same_weights(victim, content):
        raise InputError(
            f"shadow {found.file} must differ from the victim, got the same weights; train one on the other "
            "half from another seed"
        )
    if card.data is None or card.split is None:
        raise InputError(
            f"shadow {found.file} was exported without its split, so its members are unknown; name the "
            "original"
        )
    if card.fingerprint != data.fingerprint:
        raise InputError(
            f"shadow {found.file} was trained on other data (fingerprint {str(card.fingerprint)[:12]}) than "
            f"the victim ({data.fingerprint[:12]}); train one on the other half of the victim's data"
        )
    kind = class_at(card.data["class_path"])
    if not issubclass(kind, SegmentationData):
        raise InputError(f"{found.file} is refused: its card names {kind.__name__} instead of data")
    local = {
        name: data.hparams[name] for name in ("root", "splits", "cache", "workers") if name in data.hparams
    }
    arguments = without_machine(card.data)["init_args"] | local | {"batch_size": data.batch_size}
    if "root" not in local:
        arguments.pop("root", None)
    try:
        declared = parameters(kind)
        own_data = modules.module(
            kind, {name: value for name, value in arguments.items() if name in declared}
        )
    except TypeError as error:
        raise InputError(f"{found.file} is refused: its card does not describe its data: {error}") from None
    own_data.setup()
    check_data(own_data, fingerprint=card.fingerprint, split=card.split, role="shadow")
    if adopted(card):
        check_members(own_data, f"shadow {found.file}")
    load = partial(loaded, found, trust=trust)
    return TrainedModel(load, own_data, found.file, network_spec(card), unseen_of(card, own_data))


def loaded(found: Shadow, *, trust: Collection[str]) -> nn.Module:
    """Return a checkpoint's network with its weights; raises InputError if they do not fit."""
    network = build(network_spec(found.card), trust=trust)
    load_weights(network, read(found.file), found.file)
    return network


def load_shadows(plan: Plan, data: SegmentationData, modules: DataModules) -> list[TrainedModel]:
    """Return the sides of a plan's shadows; `data` is the victim's, after setup."""
    victim, trust = plan.content or {}, plan.request.trust
    return [load_shadow(shadow, data, modules, victim=victim, trust=trust) for shadow in plan.shadows]


def behind_release(shadow: TrainedModel, release: Release, settings: Any) -> TrainedModel:
    """Return a shadow with the victim's output perturbation; `settings` are plain values."""
    return replace(shadow, load=lambda: wrapped(shadow.network, [release]), built=[shadow.built, settings])


def load_teacher(
    file: Path, data: SegmentationData, *, trust: Collection[str], device: torch.device
) -> nn.Module:
    """Return a trained teacher in eval mode, and register the members not used in its training.

    Args:
        file: its last checkpoint.
        data: its training data, after setup.
        trust: class paths outside seg_mia allowed in the metadata.
        device: device of the teacher.

    Raises:
        InputError: no readable checkpoint.
    """
    content = read(file)
    card = card_of(content, file, trust=trust)
    network = build(network_spec(card), trust=trust)
    load_weights(network, content, file)
    data.untrained = unseen_of(card, data)
    return network.to(device).eval()


def unseen_of(card: Card, data: SegmentationData) -> tuple[int, ...]:
    """Return the members never drawn in a checkpoint's training, as data-set indices."""
    return unseen_members(card.split or {}, data)


def check_members(data: SegmentationData, name: str) -> None:
    """Raise InputError for an externally trained network whose members are drawn, not stated.

    Args:
        data: the network's half of the split, with its samples open.
        name: name of the network, for the message.
    """
    if data.states_members:
        return
    reason = f"{name} was trained elsewhere, and the members of this split are drawn at random"
    try:
        data.find()
    except InputError:
        raise InputError(
            f"{reason}, so an AUC would be meaningless; adopt it on the data it was trained on, whose split "
            "can be stated"
        ) from None
    if data.role == "shadow":
        raise InputError(
            f"{reason}, so there is no membership to infer; state them (--data.parts, with shadow_train and "
            "shadow_test) and adopt it again, or train a network on that half here: python -m seg_mia fit "
            "--role shadow"
        )
    raise InputError(
        f"{reason}, so an AUC would be meaningless; state its training samples (--data.parts) and adopt it "
        "again"
    )


def check_victim(plan: Plan, data: SegmentationData, *, split_known: bool) -> None:
    """Raise InputError if a membership attack on a victim would be meaningless.

    Args:
        plan: with victim and shadows.
        data: the victim's, after setup.
        split_known: whether the victim's file defines its data split.
    """
    unused = [o.flag for o in plan.options if o.flag.startswith(("--data.subset", "--save_images"))]
    if unused:
        raise InputError(
            f"membership attacks use members and non-members and change no image; leave out {unused[0]}"
        )
    file = plan.checkpoint
    assert file is not None
    assert plan.card is not None
    if not split_known:
        raise InputError(
            f"{file} was exported without its split, so its members are unknown; use the original checkpoint"
        )
    if adopted(plan.card):
        check_members(data, f"victim {file}")


def membership_summary(
    plan: Plan,
    attack: Membership,
    release: Release | None,
    *,
    victim: TrainedModel,
    shadows: Sequence[TrainedModel],
    findings: Findings,
    settings: Mapping[str, Any],
) -> MembershipSummary:
    """Return the results of an attack, with the victim and the shadows used.

    Args:
        plan: with the metadata of victim and shadows.
        attack: the attack.
        release: output perturbation of the victim, if any.
        victim: the victim and its data.
        shadows: shadows used by the attack.
        findings: scores of the attack.
        settings: settings of `attack` and `release`, as plain values.
    """
    assert plan.card is not None
    cards = [shadow.card for shadow in plan.shadows]
    privacy = guarantee(plan.card.privacy, f"{plan.checkpoint}: privacy guarantee in its card")
    return MembershipSummary(
        attack=settings["attack"],
        attacker_knowledge=seen(attack.attacker_knowledge, release),
        release=settings["release"],
        blind=not attack.signal.queries_victim,
        defences={
            "victim": defence_names(plan.card),
            "shadow": list(dict.fromkeys(name for card in cards for name in defence_names(card))),
        },
        victim=str(plan.checkpoint),
        shadows=[str(shadow.file) for shadow in plan.shadows],
        control=bool(plan.request.control),
        privacy=privacy,
        same_seed=any(same_start(plan.card, card) for card in cards),
        data=ScoredData.model_validate(judged_data(victim, shadows)),
        **dict(summarise(findings, privacy)),
    )


def adopted(card: Card) -> bool:
    """Return whether a checkpoint's network was trained elsewhere."""
    return bool((card.training or {}).get("adopted"))
