"""Networks of checkpoints as attacks need them: with their data, and with members that are known."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import nn

from seg_mia.callbacks.card import check_data
from seg_mia.callbacks.seen_samples import unseen_members
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
from seg_mia.config.spec import ClassSpec, parameters
from seg_mia.config.spec import resolve as class_at
from seg_mia.data.base import SegmentationData
from seg_mia.data.trained_model import TrainedModel
from seg_mia.defences.base import wrapped
from seg_mia.defences.release import Release
from seg_mia.errors import InputError
from seg_mia.experiment.idle import without_idle
from seg_mia.experiment.modules import DataModules
from seg_mia.experiment.plan import Plan, Shadow
from seg_mia.models.weights import load_encoder, load_state
from seg_mia.models.wrapper import bare


def load_shadow(
    found: Shadow,
    data: SegmentationData,
    modules: DataModules,
    *,
    victim: Mapping[str, object],
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
    own_data = _shadow_data(card.data, found.file, data, modules)
    own_data.setup()
    check_data(own_data, fingerprint=card.fingerprint, split=card.split, role="shadow")
    if adopted(card):
        check_members(own_data, f"shadow {found.file}")
    load = partial(loaded, found, trust=trust)
    return TrainedModel(
        load,
        own_data,
        found.file,
        network_spec(card),
        unseen_of(card, own_data),
        privacy=card.privacy,
        initial=initial_of(card, own_data, found.file, trust=trust),
    )


def _shadow_data(
    described: ClassSpec, file: Path, data: SegmentationData, modules: DataModules
) -> SegmentationData:
    """Return a shadow's data as its checkpoint describes them, read from the location of the victim's.

    Raises InputError if the description is not of data.
    """
    kind = class_at(described["class_path"])
    if not issubclass(kind, SegmentationData):
        raise InputError(f"{file} is refused: its card names {kind.__name__} instead of data")
    local = {
        name: data.hparams[name] for name in ("root", "splits", "cache", "workers") if name in data.hparams
    }
    arguments = (
        without_machine(without_idle(described))["init_args"] | local | {"batch_size": data.batch_size}
    )
    if "root" not in local:
        arguments.pop("root", None)
    try:
        declared = parameters(kind)
        return modules.module(kind, {name: value for name, value in arguments.items() if name in declared})
    except TypeError as error:
        raise InputError(f"{file} is refused: its card does not describe its data: {error}") from None


def loaded(found: Shadow, *, trust: Collection[str]) -> nn.Module:
    """Return a checkpoint's network with its weights; raises InputError if they do not fit."""
    network = build(network_spec(found.card), trust=trust)
    load_weights(network, read(found.file), found.file)
    return network


def initial_of(
    card: Card, data: SegmentationData, file: Path, *, trust: Collection[str]
) -> TrainedModel | None:
    """Return a checkpoint's network before its first training step: encoder weights and random others.

    The random weights are drawn anew from the seed of the training: others than those that it began with, of
    the same distribution.

    Args:
        card: checked metadata.
        data: the network's half of the data.
        file: the checkpoint, beside which signals are cached.
        trust: class paths outside seg_mia allowed in the metadata.

    Returns:
        None for a network that was trained elsewhere.
    """
    if adopted(card):
        return None
    spec, given = network_spec(card), card.model["init_args"]
    first = {name: given.get(name) for name in ("encoder_weights", "weights", "weights_key")}
    seed = (card.training or {}).get("seed")
    begun: dict[str, Any] = {"seed": seed if isinstance(seed, int) else 0, **first}

    def load() -> nn.Module:
        with isolate_rng():
            torch.manual_seed(begun["seed"])
            network = build(spec, trust=trust)
        if begun["encoder_weights"] is not None:
            load_encoder(bare(network), begun["encoder_weights"])
        if begun["weights"] is not None:
            load_state(bare(network), begun["weights"], begun["weights_key"])
        return network

    return TrainedModel(load, data, file, [spec, begun])


def load_shadows(plan: Plan, data: SegmentationData, modules: DataModules) -> list[TrainedModel]:
    """Return the sides of a plan's shadows; `data` is the victim's, after setup."""
    assert plan.checkpoint is not None
    victim, trust = read(plan.checkpoint), plan.request.trust
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


def adopted(card: Card) -> bool:
    """Return whether a checkpoint's network was trained elsewhere."""
    return bool((card.training or {}).get("adopted"))
