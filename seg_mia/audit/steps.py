"""What an audit does, one step after the other, known before the first begins."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from seg_mia.audit.settings import Defended, Settings, Training, shadow_count
from seg_mia.audit.stages import Ready, is_run, prepares
from seg_mia.config.files import named

Kind = Literal["victim", "shadow", "preparation", "utility", "attack"]


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        kind: of step.
        round: which of the seeds, from 0.
        row: which of the compared victims, from 0.
        told: what it is called while it runs.
        stage: the attack, for an attack; the one that it is for, for a preparation.
        shadow: the number of a shadow, from 0.
    """

    kind: Kind
    round: int
    row: int
    told: str
    stage: Ready | None = None
    shadow: int = 0


def steps(settings: Settings, stages: Sequence[Ready], compared: Sequence[Defended]) -> list[Step]:
    """Return all steps in their order: trainings that several rows or seeds share stand once."""
    found, trained = list[Step](), set[object]()
    for number, seed in enumerate(settings.seeds):
        for place, row in enumerate(compared):
            for kind, config, key, count in _trainings(settings, row):
                if (number, kind, key) not in trained:
                    trained.add((number, kind, key))
                    found += [
                        Step(
                            kind,
                            number,
                            place,
                            f"{kind} {config}{_of(shadow, count)}, seed {seed}",
                            shadow=shadow,
                        )
                        for shadow in range(count)
                    ]
            told = f"how well {row.called} segments" if settings.defences else "how well the victim segments"
            found.append(Step("utility", number, place, told))
            for stage in (one for one in stages if is_run(one, place)):
                first = prepares(stage)
                if first is not None and first not in trained:
                    trained.add(first)
                    title = f"{first.product} {named(first.config)}"
                    found.append(Step("preparation", number, place, title, stage))
                found.append(Step("attack", number, place, _attack(settings, stage, row), stage))
    return found


def _trainings(settings: Settings, row: Defended) -> list[tuple[Kind, str, str, int]]:
    """Return role, config and key of what a row needs trained, and how many of them."""
    found: list[tuple[Kind, str, str, int]] = [("victim", _said(settings.victim, row), row.trained, 1)]
    if settings.shadow is not None:
        behind = shadow_row(row)
        found.append(("shadow", _said(settings.shadow, behind), behind.trained, shadow_count(settings)))
    return found


def _of(shadow: int, count: int) -> str:
    return f" {shadow + 1} of {count}" if count > 1 else ""


def shadow_row(row: Defended) -> Defended:
    """Return how a row's shadow is trained: undefended, unless the attacker knows the defence."""
    return row if row.adaptive else Defended()


def _said(what: str | Training, row: Defended) -> str:
    config = row.config or (what.config if isinstance(what, Training) else what)
    config = named(config) if config.endswith((".yaml", ".yml")) else config
    return ", ".join([config, *([" + ".join(map(named, row.defence))] if row.defence else [])])


def _attack(settings: Settings, stage: Ready, row: Defended) -> str:
    behind = f" on {row.called}" if settings.defences else ""
    return f"{stage.name}{behind}{', negative control' if stage.control else ''}"
