"""Steps of an audit in order, planned before the first begins."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from seg_mia.audit.attacks import PreparedAttack, is_run, prepares
from seg_mia.audit.settings import Settings, Training, VictimRow, shadow_count
from seg_mia.config.files import named

Kind = Literal["victim", "shadow", "preparation", "utility", "attack"]


@dataclass(frozen=True)
class AuditStep:
    """One step.

    Attributes:
        kind: kind of step.
        round: index of the seed, from 0.
        row: index of the compared victim, from 0.
        title: title while it runs.
        attack: the attack; for a preparation, the attack that requires it.
        shadow: number of a shadow, from 0.
    """

    kind: Kind
    round: int
    row: int
    title: str
    attack: PreparedAttack | None = None
    shadow: int = 0


def steps(
    settings: Settings, attacks: Sequence[PreparedAttack], rows: Sequence[VictimRow]
) -> list[AuditStep]:
    """Return all steps in order; a training shared by several rows or seeds occurs once."""
    listed, trained = list[AuditStep](), set[object]()
    for number, seed in enumerate(settings.seeds):
        for index, row in enumerate(rows):
            for kind, config, key, count in _trainings(settings, row):
                if (number, kind, key) not in trained:
                    trained.add((number, kind, key))
                    titles = [f"{kind} {config}{_of(shadow, count)}, seed {seed}" for shadow in range(count)]
                    listed += [
                        AuditStep(kind, number, index, title, shadow=shadow)
                        for shadow, title in enumerate(titles)
                    ]
            victim = row.label if settings.defences else "the victim"
            listed.append(AuditStep("utility", number, index, f"segmentation quality of {victim}"))
            for attack in (attack for attack in attacks if is_run(attack, index)):
                preparation = prepares(attack)
                if preparation is not None and preparation not in trained:
                    trained.add(preparation)
                    title = f"{preparation.product} {named(preparation.config)}"
                    listed.append(AuditStep("preparation", number, index, title, attack))
                listed.append(AuditStep("attack", number, index, _title(settings, attack, row), attack))
    return listed


def _trainings(settings: Settings, row: VictimRow) -> list[tuple[Kind, str, str, int]]:
    """Return role, config, key and number of the trainings of a row."""
    trainings: list[tuple[Kind, str, str, int]]
    trainings = [("victim", _config_title(settings.victim, row), row.training_key, 1)]
    if settings.shadow is not None:
        shadow = shadow_row(row)
        title = _config_title(settings.shadow, shadow)
        trainings.append(("shadow", title, shadow.training_key, shadow_count(settings)))
    return trainings


def _of(shadow: int, count: int) -> str:
    return f" {shadow + 1} of {count}" if count > 1 else ""


def shadow_row(row: VictimRow) -> VictimRow:
    """Return the training of a row's shadow: undefended, unless the attacker is adaptive."""
    return row if row.adaptive else VictimRow()


def _config_title(training: str | Training, row: VictimRow) -> str:
    config = row.config or (training.config if isinstance(training, Training) else training)
    config = named(config) if config.endswith((".yaml", ".yml")) else config
    return ", ".join([config, *([" + ".join(map(named, row.defence))] if row.defence else [])])


def _title(settings: Settings, attack: PreparedAttack, row: VictimRow) -> str:
    target = f" on {row.label}" if settings.defences else ""
    return f"{attack.name}{target}{', negative control' if attack.control else ''}"
