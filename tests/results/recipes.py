"""Results of recipes from simulated fleets, whose truth is known in closed form."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from scipy import stats

from seg_mia.membership.fleet import RecipeAudit, difficulty_calibrated, lira_online, recipe_audit
from seg_mia.membership.fleet.decisions import Rate, rate
from seg_mia.membership.fleet.scoring import FleetAttack
from seg_mia.membership.intervals import Interval
from seg_mia.results.recipe import RecipeResult, recipe_result
from tests.membership.fleet.worlds import members_of, signals_of

EFFECT = 1.5
"""Of membership, in standard deviations of a network's noise."""


def expected_auc(references: float, effect: float = EFFECT) -> float:
    """Return the AUC of a signal less its mean under as many networks without the patient."""
    return float(stats.norm.cdf(effect / math.sqrt(2 * (1 + 1 / references))))


def expected_tpr(fpr: float, references: float, effect: float = EFFECT) -> float:
    """Return its true positive rate at a false positive rate."""
    return float(stats.norm.sf(stats.norm.isf(fpr) - effect / math.sqrt(1 + 1 / references)))


def hashes(names: Sequence[str]) -> list[str]:
    return [hashlib.sha256(f"salt {name}".encode()).hexdigest()[:32] for name in names]


@cache
def audited(
    attack: FleetAttack = lira_online, *, networks: int = 16, patients: int = 200, effect: float = EFFECT
) -> RecipeAudit:
    """Return the audit of a Gaussian world with one sample for each patient."""
    generator = np.random.default_rng(0)
    inside = members_of(generator, networks, patients)
    signals = signals_of(generator, inside, effect=effect, difficulty=2.0, level=1.0)
    untrained = signals_of(np.random.default_rng(1), inside, effect=0)
    names = [f"patient {number:03}" for number in range(patients)]
    sites = {"site": ["north" if number % 3 else "south" for number in range(patients)]}
    return recipe_audit(
        signals,
        inside,
        names,
        attack,
        columns=sites,
        initial=untrained,
        resamples=200,
        permutations=100,
    )


@dataclass(frozen=True)
class Fewer:
    """A point of the curve over networks."""

    references: int
    auc: Interval
    rate: Rate


def fewer(references: int) -> Fewer:
    """Return the closed form with half of the references without the patient."""
    value = expected_auc(references / 2)
    found = rate(0.01, expected_tpr(0.01, references / 2), 0.01, 1600)
    return Fewer(references, Interval(value, value - 0.02, value + 0.02), found)


def recipe(
    audit: RecipeAudit | None = None,
    *,
    name: str = "mia-lira",
    curve: Sequence[int] = (2, 4, 8),
    resolution: float = 0.0,
    **changes: Any,
) -> RecipeResult:
    """Return an attack's result on the audited world, or on another."""
    own = audited() if audit is None else audit
    found = recipe_result(
        own,
        name=name,
        sampling="online" if name == "mia-lira" else "offline",
        attacker_knowledge="probabilities and true mask",
        ids=hashes(own.patients),
        utility={"members": {"dice": 0.93}, "nonmembers": {"dice": 0.92}},
        curve=[fewer(count) for count in curve],
        resolution=resolution,
    )
    return found.model_copy(update=changes)


def two_attacks() -> list[RecipeResult]:
    """Return two attacks on one recipe."""
    return [recipe(), recipe(audited(difficulty_calibrated), name="mia-calibrated")]
