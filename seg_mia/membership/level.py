"""Samples that give the level and scale of each network: evaluated ones, or others outside all trainings."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from seg_mia.errors import InputError, refuse_idle
from seg_mia.membership.answers import Answers
from seg_mia.membership.arrays import Units, Values

Level = Literal["evaluated", "outside"]


def check_level(level: Level, *, standardise: bool) -> None:
    """Raise InputError for a level that is not taken out."""
    if not standardise:
        refuse_idle("without standardise", level=(level, "evaluated"))


def outside_signals(victim: Answers | None, shadows: Sequence[Answers]) -> Values | None:
    """Return signals of `Scorer.know`, higher for members, (networks, z, ...), the victim's last."""
    return None if victim is None else np.stack([-known.numbers for known in (*shadows, victim)])


def level_signals(level: Level, outside: Values | None, networks: Units) -> Values | None:
    """Return the signals of some networks that give their levels; None for the evaluated ones.

    Raises:
        InputError: a level `outside` without such samples.
    """
    if level == "evaluated":
        return None
    if outside is None:
        raise InputError(
            "level outside needs samples outside all networks' training, got none; keep some back by "
            "data.reference, or leave --attack.scorer.level out"
        )
    return outside[networks]
