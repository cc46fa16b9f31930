"""Steps of an audit in order, planned before the first begins."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from seg_mia.audit.attacks import PreparedAttack, is_run, prepares
from seg_mia.audit.settings import NnUNetVictim, Settings, Training, VictimRow, shadow_count
from seg_mia.config.files import named
from seg_mia.experiment.folds import LEAST_FOLDS
from seg_mia.experiment.nnunet import fold_names

Kind = Literal["victim", "shadow", "network", "preparation", "utility", "attack", "recipe", "folds"]


@dataclass(frozen=True)
class AuditStep:
    """One step.

    Attributes:
        kind: kind of step.
        round: index of the seed, from 0.
        row: index of the compared victim, from 0.
        title: title while it runs.
        attack: the attack; for a preparation, the attack that requires it.
        shadow: number of a shadow, or of a network of a fleet, from 0.
    """

    kind: Kind
    round: int
    row: int
    title: str
    attack: PreparedAttack | None = None
    shadow: int = 0


def steps(
    settings: Settings, attacks: Sequence[PreparedAttack], compared: Sequence[VictimRow]
) -> list[AuditStep]:
    """Return all steps in order; a training shared by several rows or seeds occurs once."""
    listed, trained = list[AuditStep](), set[object]()
    for number in range(len(settings.seeds)):
        for index, row in enumerate(compared):
            trainings = _trainings(settings, row, number, index, trained)
            listed += trainings
            victim = row.label if settings.defences else "the victim"
            listed.append(AuditStep("utility", number, index, f"segmentation quality of {victim}"))
            for attack in (
                attack for attack in attacks if is_run(attack, index, released=row.release is not None)
            ):
                preparation = prepares(attack)
                if preparation is not None and preparation not in trained:
                    trained.add(preparation)
                    title = f"{preparation.product} {named(preparation.config)}"
                    listed.append(AuditStep("preparation", number, index, title, attack))
                listed.append(AuditStep("attack", number, index, _title(settings, attack, row), attack))
            if row.release is None and any(step.kind == "network" for step in trainings):
                listed.append(AuditStep("recipe", number, index, f"the recipe of {victim}"))
            if number == index == 0 and audits_folds(settings):
                listed.append(AuditStep("folds", number, index, f"the folds of {victim}"))
    return listed


def audits_folds(settings: Settings) -> bool:
    """Return whether the victim is a cross-validation with enough networks to audit these."""
    victim = settings.victim
    return isinstance(victim, NnUNetVictim) and len(fold_names(victim.training)) >= LEAST_FOLDS


def _trainings(
    settings: Settings, row: VictimRow, number: int, index: int, trained: set[object]
) -> list[AuditStep]:
    """Return the trainings of a round and a row that are not in `trained`, and add them to it.

    A recipe does not depend on the seed: there is one fleet for all rounds.
    """
    listed = list[AuditStep]()
    seed = f", seed {settings.seeds[number]}"
    kinds: list[tuple[Kind, str, object, int, str]]
    kinds = [("victim", _config_title(settings.victim, row), (number, row.training_key), 1, seed)]
    if settings.shadow is not None:
        shadow = shadow_row(row)
        title, key = _config_title(settings.shadow, shadow), (number, shadow.training_key)
        kinds.append(("shadow", title, key, shadow_count(settings), seed))
    if settings.fleet is not None:
        title = _config_title(settings.victim, row)
        kinds.append(("network", title, row.training_key, settings.fleet.count, ""))
    for kind, title, training_key, count, suffix in kinds:
        if (kind, training_key) not in trained:
            trained.add((kind, training_key))
            listed += [
                AuditStep(kind, number, index, f"{kind} {title}{_of(shadow, count)}{suffix}", shadow=shadow)
                for shadow in range(count)
            ]
    return listed


def _of(shadow: int, count: int) -> str:
    return f" {shadow + 1} of {count}" if count > 1 else ""


def shadow_row(row: VictimRow) -> VictimRow:
    """Return the training of a row's shadow: undefended, unless the attacker is adaptive."""
    return row if row.adaptive else VictimRow()


def _config_title(training: str | Training | NnUNetVictim, row: VictimRow) -> str:
    if isinstance(training, NnUNetVictim):
        return training.name
    config = row.config or (training.config if isinstance(training, Training) else training)
    config = named(config) if config.endswith((".yaml", ".yml")) else config
    return ", ".join([config, *([" + ".join(map(named, row.defence))] if row.defence else [])])


def _title(settings: Settings, attack: PreparedAttack, row: VictimRow) -> str:
    target = f" on {row.label}" if settings.defences else ""
    return f"{attack.name}{target}{', negative control' if attack.control else ''}"
