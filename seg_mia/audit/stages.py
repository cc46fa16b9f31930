"""An audit's attacks, each built once before anything is trained: what is wrong with one is told first."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from seg_mia.attacks.base import Perturbation, Preparation
from seg_mia.audit.settings import Settings, Stage, shadow_count
from seg_mia.config.files import find_config, inline
from seg_mia.config.messages import one_line, refusal
from seg_mia.errors import InputError
from seg_mia.experiment.plan import is_membership
from seg_mia.membership.base import Membership
from seg_mia.membership.scorers import Classifier
from seg_mia.models.membership_classifier import MembershipClassifier, load_classifier

BLIND = "mia-blind"
SHADOW = "shadow"
"""What an attack's `surrogate` says where the audit's own shadow is meant."""


@dataclass(frozen=True)
class Ready:
    """An attack and the words that run it.

    Attributes:
        name: of its config.
        words: for the command line.
        attack: as it was built.
        control: ask the shadow instead of the victim.
        label: what tables call it: its name, and its settings where another has the same name.
    """

    name: str
    words: list[str]
    attack: Perturbation | Membership
    control: bool = False
    label: str = ""


def ready_stages(settings: Settings) -> list[Ready]:
    """Return what is run, the blind baseline first; raise InputError for what could not be."""
    entries = [Stage(entry) if isinstance(entry, str) else entry for entry in settings.attacks]
    stages = _labelled([_checked(stage, settings) for stage in entries], entries)
    inferring = [stage for stage in stages if isinstance(stage.attack, Membership)]
    if settings.shadow is None and any(map(on_shadow, stages)):
        raise InputError(
            "an attack's surrogate is the shadow; name one in the audit, `shadow: CONFIG` or a checkpoint"
        )
    if not inferring:
        return stages
    if settings.shadow is None:
        raise InputError(
            f"{', '.join(sorted({stage.name for stage in inferring}))} learn on a shadow; name one in the "
            "audit, `shadow: CONFIG` or a checkpoint"
        )
    blind = [stage for stage in inferring if not asks(stage)] or [_checked(Stage(BLIND), settings)]
    controls = [
        replace(stage, control=True, label=f"{stage.label}, control")
        for stage in inferring
        if settings.control and asks(stage) and _controllable(stage, settings)
    ]
    return [*blind, *(stage for stage in stages if stage not in blind), *controls]


def _labelled(stages: Sequence[Ready], entries: Sequence[Stage]) -> list[Ready]:
    """Return stages with labels that no two share."""
    names, found = [stage.name for stage in stages], list[Ready]()
    for stage, entry in zip(stages, entries, strict=True):
        said = ", ".join(f"{name} {value}" for name, value in {**entry.settings, **entry.data}.items())
        label = f"{stage.label} ({said})" if names.count(stage.name) > 1 and said else stage.label
        alike = sum(one.label.partition(" #")[0] == label for one in found)
        found.append(replace(stage, label=f"{label} #{alike + 1}" if alike else label))
    return found


def asks(stage: Ready) -> bool:
    """Say whether a stage is a membership attack that asks the victim."""
    return isinstance(stage.attack, Membership) and stage.attack.signal.queries_victim


def _controllable(stage: Ready, settings: Settings) -> bool:
    """Say whether a shadow can be asked instead of the victim: a second one, where shadows are compared."""
    compared = isinstance(stage.attack, Membership) and stage.attack.scorer.needs.queries_judged
    return not compared or shadow_count(settings) > 1


def _checked(stage: Stage, settings: Settings) -> Ready:
    file = str(find_config(stage.attack, "attack"))
    words = options("attack.", stage.settings)
    scorer = options("attack.scorer.", settings.scorer)
    attack = _built(file, [])
    if isinstance(attack, Membership) and attack.scorer.training:
        words = [*scorer, *words]
    attack = _built(file, words)
    if isinstance(attack, Membership) and attack.scorer.training:
        _try(attack.scorer.training)
    if isinstance(attack, Perturbation) and attack.prepares() is None:
        attack.check()
    data = options("data.", {**settings.data, **stage.data})
    return Ready(stage.attack, ["--attack", file, *words, *data], attack, label=Path(file).stem)


def on_shadow(stage: Ready) -> bool:
    """Say whether a stage crafts on the audit's own shadow."""
    return isinstance(stage.attack, Perturbation) and stage.attack.surrogate == SHADOW


def prepares(stage: Ready) -> Preparation | None:
    """Return the training that an attack needs first, if any."""
    return stage.attack.prepares() if isinstance(stage.attack, Perturbation) else None


def _try(scorer: Classifier) -> None:
    network = MembershipClassifier(
        architecture=scorer.architecture, channels=1, adapter=scorer.adapter, dropout=scorer.dropout
    )
    if scorer.weights is not None:
        load_classifier(network, scorer.weights)


def _built(file: str, words: Sequence[str]) -> Perturbation | Membership:
    family = Membership if is_membership(file) else Perturbation
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(family, "attack")
    try:
        built: Perturbation | Membership = parser.instantiate(
            parser.parse_args([f"--attack={file}", *words])
        )["attack"]
    except (argparse.ArgumentError, ValueError) as error:
        raise refusal(error) or InputError(f"{file}: {one_line(str(error))}") from None
    return built


def is_run(stage: Ready, row: int) -> bool:
    """Say whether a stage is run for a victim: the first has all, the others what a defence may change."""
    return row == 0 or not isinstance(stage.attack, Membership) or (asks(stage) and not stage.control)


def options(prefix: str, settings: Mapping[str, Any]) -> list[str]:
    """Return settings as words on a command line."""
    return [f"--{prefix}{name}={_word(value)}" for name, value in settings.items()]


def _word(value: Any) -> str:
    return value if isinstance(value, str) else inline(value)
