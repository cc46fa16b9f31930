"""A recipe's results from simulated fleets whose truth is known in closed form."""

import hashlib
import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from seg_mia.membership.fleet import difficulty_calibrated, lira_online, recipe_audit
from seg_mia.membership.fleet.audit import RecipeAudit
from seg_mia.membership.fleet.recipe import FleetAttack, rate
from seg_mia.membership.intervals import Interval
from seg_mia.results.recipe import RecipeResult, Sampling, recipe_result
from tests.membership.fleet.worlds import members_of, signals_of

EFFECT = 1.5
"""Of membership, in standard deviations of a network's noise: the best AUC is Phi(1.5 / sqrt 2) = 0.856."""


def best_auc(effect: float = EFFECT) -> float:
    """Return the AUC of the attack that knows each patient's difficulty."""
    return float(stats.norm.cdf(effect / math.sqrt(2)))


def best_tpr(fpr: float, effect: float = EFFECT) -> float:
    """Return its TPR at a false positive rate."""
    return float(stats.norm.sf(stats.norm.isf(fpr) - effect))


def hashes(names: list[str]) -> list[str]:
    return [hashlib.sha256(f"salt {name}".encode()).hexdigest()[:32] for name in names]


def world(
    networks: int = 16, patients: int = 200, effect: float = EFFECT, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.bool_], list[str]]:
    """Return signals, members and names of a fleet; a patient has one sample."""
    generator = np.random.default_rng(seed)
    inside = members_of(generator, networks, patients)
    signals = signals_of(generator, inside, effect=effect, difficulty=2.0, level=1.0)
    return signals, inside, [f"patient {number:03}" for number in range(patients)]


def audited(
    attack: FleetAttack = lira_online, *, networks: int = 16, patients: int = 200, effect: float = EFFECT
) -> RecipeAudit:
    signals, inside, names = world(networks, patients, effect)
    sites = {"site": ["north" if number % 3 else "south" for number in range(patients)]}
    return recipe_audit(signals, inside, names, attack, columns=sites, resamples=200, permutations=100)


class Fewer:
    """A point of the curve over networks, in closed form: k references on either side add noise 1 / k."""

    def __init__(self, references: int, effect: float = EFFECT) -> None:
        noise = math.sqrt(1 + 2 / references)
        value = float(stats.norm.cdf(effect / noise / math.sqrt(2)))
        tpr = float(stats.norm.sf(stats.norm.isf(0.01) - effect / noise))
        self.references = references
        self.auc = Interval(value, value - 0.02, value + 0.02)
        self.rate = rate(0.01, tpr, 0.01, 1600)


def result(
    audit: RecipeAudit | None = None,
    *,
    name: str = "mia-lira",
    sampling: Sampling = "online",
    curve: tuple[int, ...] = (1, 2, 4, 8),
    **changes: object,
) -> RecipeResult:
    own = audited() if audit is None else audit
    found = recipe_result(
        own,
        name=name,
        sampling=sampling,
        attacker_knowledge="probabilities and true mask",
        ids=hashes(list(own.patients)),
        utility={"members": {"dice": 0.93}, "nonmembers": {"dice": 0.92}},
        curve=[Fewer(count) for count in curve],
    )
    return found.model_copy(update=changes)


def several() -> list[RecipeResult]:
    """Return two attacks on one recipe."""
    offline = result(audited(difficulty_calibrated), name="mia-calibrated", sampling="offline", curve=(1, 4))
    return [result(), offline]
