"""Negative controls of a recipe's audit: the attack where nothing is to be found, whose AUC must be 0.5.

They find faults of the design, such as a number of references that tells the target's members, and intervals
that are too narrow; they cannot fail for a leak.
"""

from dataclasses import dataclass

import numpy as np

from seg_mia.errors import InputError
from seg_mia.membership.fleet.arrays import Folds, Inside, Values, check_fleet, pair_folds
from seg_mia.membership.fleet.recipe import FleetAttack, attacked, pooled_auc
from seg_mia.membership.intervals import Interval


@dataclass(frozen=True)
class Controls:
    """AUC of an attack where nothing is to be found.

    Attributes:
        permuted: with the memberships exchanged between patients at random (`permuted_control`).
        members: on each target's members alone (`member_control`); None with too few networks.
    """

    permuted: Interval
    members: Interval | None


def recipe_controls(values: Values, inside: Inside, attack: FleetAttack, *, seed: int = 0) -> Controls:
    """Return the controls of an attack.

    Args:
        values: signals of patients, (networks, patients) or (networks, patients, signals), as the attack
            takes them.
        inside: bool (networks, patients).
        attack: as in `attacked`.
        seed: seed of the permutation.

    Raises:
        InputError: errors of `attacked`.
    """
    return Controls(
        permuted_control(values, inside, attack, seed=seed), member_control(values, inside, attack)
    )


def permuted_control(values: Values, inside: Inside, attack: FleetAttack, *, seed: int = 0) -> Interval:
    """Return the AUC with each patient's memberships replaced by those of another, drawn at random.

    The design is unchanged: sizes of training sets, complementary pairs, and networks with and without each
    patient. A random permutation leaves one patient in its place on average, which makes the expected share
    of true memberships exactly a half.

    Args:
        values: as in `recipe_controls`, also for the further arguments.
        inside: as there.
        attack: as there.
        seed: as there.
    """
    permuted = inside[:, np.random.default_rng(seed).permutation(inside.shape[1])]
    return pooled_auc(attacked(values, permuted, attack), permuted)


def member_control(values: Values, inside: Inside, attack: FleetAttack) -> Interval | None:
    """Return the AUC on each target's members alone, divided by the membership in another network.

    The other network, the first of the next fold, says nothing of the target, and is no reference of it,
    nor is its complement.

    Args:
        values: as in `recipe_controls`, also for the further arguments.
        inside: as there.
        attack: as there.

    Returns:
        the AUC with its interval by patient; None if the remaining references are too few for the attack.
    """
    numbers, folds = check_fleet(values, inside), pair_folds(inside)
    count = int(folds.max()) + 1
    if count < 3:
        return None
    scores, other = np.empty(inside.shape), np.empty_like(inside)
    try:
        for target, fold in enumerate(folds):
            following = (fold + 1) % count
            other[target] = inside[_first(folds, following)]
            references = (folds != fold) & (folds != following)
            scores[target] = attack(numbers[target], numbers[references], inside[references])
    except InputError:  # the audit itself has run with more references
        return None
    return pooled_auc(scores, other, judged=inside)


def _first(folds: Folds, number: int) -> int:
    return int(np.flatnonzero(folds == number)[0])
