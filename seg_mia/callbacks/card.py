"""Checkpoint metadata, used to rebuild a network and to reject other data."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn

import seg_mia
from seg_mia.callbacks.folder import run_folder
from seg_mia.callbacks.seen_samples import UNSEEN, SeenSamples
from seg_mia.checkpoint import FORMAT, KEY, build, without_machine
from seg_mia.config.spec import OWN, ClassSpec, check_spec, class_paths, is_plain, paths_to_trust, restorable
from seg_mia.data.base import SegmentationData
from seg_mia.data.fingerprint import hashed
from seg_mia.data.identities import own_salt
from seg_mia.errors import InputError


def spec_of(component: LightningModule | LightningDataModule) -> ClassSpec:
    """Return class path and constructor arguments of a task or data module, as plain values.

    Raises InputError if an argument cannot be restored from a file.
    """
    kind = type(component)
    arguments = {
        name: asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
        for name, value in component.hparams.items()
        if not name.startswith("_")
    }
    for name, value in arguments.items():
        if not is_plain(value):
            raise InputError(
                f"{kind.__name__}({name}=...) cannot go into a checkpoint: a {type(value).__name__} is not a "
                "plain value; build the run from a config (python -m seg_mia fit), which passes class paths "
                "and numbers"
            )
    return restorable({"class_path": f"{kind.__module__}.{kind.__qualname__}", "init_args": arguments})


def check_restored(component: LightningModule) -> None:
    """Raise InputError if the network of a task cannot be restored from its checkpoint.

    A network from outside seg_mia is rebuilt from its checkpoint metadata and must be identical.
    """
    model = spec_of(component)
    network = deployed_spec(component, model)
    paths = {*class_paths(model), *class_paths(network), *paths_to_trust([model, network])}
    try:
        check_spec(model, trust=paths, base=nn.Module)
        if network:
            check_spec(network, trust=paths, base=nn.Module)
    except InputError as error:
        raise InputError(
            f"a checkpoint of this network could not be restored, since its card {error}; use arguments that "
            "are numbers, words or lists of them, or a class of your own that sets the others"
        ) from None
    if network and any(not OWN.fullmatch(path) for path in class_paths(network)):
        with isolate_rng():
            rebuilt = build(network, trust=paths)
        _require_alike(component.network, rebuilt, network["class_path"])


def _require_alike(network: Any, rebuilt: nn.Module, name: str) -> None:
    """Raise InputError if the weights of two networks differ in name or shape."""
    shapes = [{key: value.shape for key, value in candidate.state_dict().items() if isinstance(value, Tensor)}
              for candidate in (network, rebuilt)]  # fmt: skip
    if shapes[0] != shapes[1]:
        differ = sorted(
            key for key in shapes[0].keys() | shapes[1].keys() if shapes[0].get(key) != shapes[1].get(key)
        )
        raise InputError(
            f"a checkpoint of {name} could not be restored: rebuilt from the same arguments, it differs in "
            f"{', '.join(differ[:3])}; its constructor must build the same network each time"
        )


def deployed_spec(component: LightningModule, model: ClassSpec) -> ClassSpec | None:
    """Return class path and arguments of a task's deployed network; None if it has none."""
    deployed: Callable[[ClassSpec], ClassSpec] | None = getattr(component, "deployed_spec", None)
    return None if deployed is None else deployed(model["init_args"].get("network", {}))


def third_party(task: LightningModule, data: LightningDataModule) -> list[str]:
    """Return the class paths in a checkpoint's metadata that `--trust` must allow, sorted."""
    model = spec_of(task)
    return sorted({*paths_to_trust([model, deployed_spec(task, model), spec_of(data)])})


class CardWriter(Callback):
    """Write metadata into every checkpoint; reject unrestorable settings before training.

    Args:
        seed: seed of the run, for the record.
        seen: record of the samples used in training; None for no record.
    """

    def __init__(self, seed: int | None = None, seen: SeenSamples | None = None) -> None:
        self.seed, self.seen = seed, seen

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Fail before the first epoch, not after the last."""
        self.card(trainer, pl_module)
        check_restored(pl_module)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the metadata."""
        checkpoint[KEY] = self.card(trainer, pl_module)

    def card(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, object]:
        """Return the current metadata of the run."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, SegmentationData):
            raise InputError(
                f"data must be a seg_mia data module, got {type(data).__name__}; see seg_mia.data.sets.folder"
            )
        model = spec_of(pl_module)
        guarantee = getattr(pl_module, "dp_guarantee", None)
        metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
        if guarantee is not None:  # it is about the weights: means over members would not keep it
            metrics = {name: value for name, value in metrics.items() if not name.startswith("train/")}
        unseen = self.seen.unseen(data) if self.seen is not None else None
        return {
            "format": FORMAT,
            "model": model,
            "network": deployed_spec(pl_module, model) or {},
            "data": without_machine(spec_of(data)),
            "classes": int(data.source.classes),
            "channels": data.source.channels,
            "split": {
                **split_of(data, own_salt(run_folder(trainer))),
                **({} if unseen is None else {UNSEEN: unseen}),
            },
            "fingerprint": data.fingerprint,
            "training": {
                "epoch": trainer.current_epoch,
                "step": trainer.global_step,
                "seed": self.seed,
                "seg_mia": seg_mia.__version__,
                "torch": str(torch.__version__),
                "metrics": metrics,
                **({"adopted": True} if getattr(pl_module, "adopted", False) else {}),
                **_agreement(pl_module),
            },
            "privacy": guarantee,
        }


def _agreement(task: LightningModule) -> dict[str, Mapping[str, float]]:
    """Return the comparison of an adopted network with the deployed system, if there was one."""
    agreement = getattr(task, "agreement", None)
    return {} if agreement is None else {"agreement": agreement}


def split_of(data: SegmentationData, salt: bytes) -> dict[str, str | int | list[str]]:
    """Return the role, whether members are stated, a shadow's number and pool, a digest, and hashed ids."""
    parts = {
        "members": data.splits.members,
        "nonmembers": data.splits.nonmembers,
        "reference": data.splits.reference,
    }
    named = {name: sorted(data.source.ids[i] for i in part) for name, part in parts.items()}
    content = json.dumps([data.role, named]).encode("utf-8", "surrogateescape")
    return {
        "role": data.role,
        **({"stated": True} if data.states_members else {}),
        **({} if data.shadow is None else {"shadow": data.shadow, "pool": data.shadow_pool}),
        "digest": hashlib.sha256(content).hexdigest(),
        **{name: list(hashed([data.source.ids[i] for i in part], salt)) for name, part in parts.items()},
    }


def check_data(
    data: SegmentationData,
    *,
    fingerprint: str | None,
    split: Mapping[str, object] | None,
    role: str = "victim",
) -> bool:
    """Raise InputError unless `data`, after setup, equals a checkpoint's training data.

    Returns whether the split could be checked, which exported files do not contain.
    """
    if fingerprint is not None and data.fingerprint != fingerprint:
        raise InputError(
            f"the data must be that of the {role}'s training, fingerprint {fingerprint[:12]}, got "
            f"{data.fingerprint[:12]}; set --data.root to the original, unchanged files, or train again"
        )
    if split is None:
        return False
    # The digest does not depend on the salt: any salt does here.
    if split_of(data, bytes(16))["digest"] != split.get("digest"):
        raise InputError(
            f"the split must be that of the {role}'s training, got another, which would mix members and "
            "non-members; leave out --data.members, nonmembers, reference, role, shadow, shadow_pool, "
            "parts, mixed_patients, split_seed, shadow_share, duplicates, near_duplicates and stratify"
        )
    return True
