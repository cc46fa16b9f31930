"""Negative controls of a recipe's audit: the attack where nothing is to be found, whose AUC must be 0.5.

They find faults of the design, such as a number of references that tells the target's members, queries that
differ for members, and intervals that are too narrow; they cannot fail for a leak.
"""

from dataclasses import dataclass

import numpy as np

from seg_mia.errors import InputError
from seg_mia.membership.fleet.arrays import Folds, Inside, Values, check_fleet, pair_folds
from seg_mia.membership.fleet.recipe import attacked, pooled_auc
from seg_mia.membership.fleet.scoring import FleetAttack, scored
from seg_mia.membership.intervals import Interval


@dataclass(frozen=True)
class Controls:
    """AUC of an attack where nothing is to be found.

    Attributes:
        permuted: with the memberships exchanged between patients at random (`permuted_control`).
        members: on each target's members alone (`member_control`); None with too few networks.
        untrained: with an untrained network in place of each target (`untrained_control`); None without
            their signals.
    """

    permuted: Interval
    members: Interval | None
    untrained: Interval | None = None


def recipe_controls(
    values: Values, inside: Inside, attack: FleetAttack, *, initial: Values | None = None, seed: int = 0
) -> Controls:
    """Return the controls of an attack.

    Args:
        values: signals of patients, (networks, patients) or (networks, patients, signals), as the attack
            takes them.
        inside: bool (networks, patients).
        attack: as in `attacked`.
        initial: signals of the networks before their first training step, as `values`.
        seed: seed of the permutation.

    Raises:
        InputError: errors of `attacked`.
    """
    return Controls(
        permuted_control(values, inside, attack, seed=seed),
        member_control(values, inside, attack),
        None if initial is None else untrained_control(values, initial, inside, attack),
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
            scores[target] = scored(attack, numbers[target], numbers[references], inside[references])
    except InputError:  # the audit itself has run with more references
        return None
    return pooled_auc(scores, other, judged=inside)


def untrained_control(
    values: Values, initial: Values, inside: Inside, attack: FleetAttack
) -> Interval | None:
    """Return the AUC with each target replaced by a network of the recipe before its first training step.

    The references are the target's own, as is the membership that is to be told. An untrained network holds
    no sample, and each sample is a member of half of the targets: the AUC is 0.5 unless something other than
    training carries the membership to the score, such as a query that differs for members, or references by
    whose choice members are told. One untrained network for all targets would not do: complementary targets
    have the same references, and would get the same scores.

    Args:
        values: as in `recipe_controls`, also for the further arguments.
        initial: as there.
        inside: as there.
        attack: as there.

    Returns:
        the AUC with its interval by patient; None if the attack does not take untrained networks.
    """
    folds, references = pair_folds(inside), check_fleet(values, inside)
    scores = np.empty(inside.shape)
    try:
        targets = check_fleet(initial, inside)
        for number, fold in enumerate(folds):
            attackers = folds != fold
            scores[number] = scored(attack, targets[number], references[attackers], inside[attackers])
        return pooled_auc(scores, inside)
    except InputError:  # signals or scores of untrained networks that are not finite
        return None


def _first(folds: Folds, number: int) -> int:
    return int(np.flatnonzero(folds == number)[0])
