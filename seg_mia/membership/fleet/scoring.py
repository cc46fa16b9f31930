"""One attack on one target, with scores that are checked."""

from typing import Protocol

import numpy as np

from seg_mia.errors import InputError
from seg_mia.membership.fleet.arrays import Inside, Values


class FleetAttack(Protocol):
    """An attack on a target by references, such as `lira_online`."""

    def __call__(self, target: Values, references: Values, inside: Inside, /) -> Values:
        """Return scores of the target's samples, (n,), higher for members."""


def scored(attack: FleetAttack, target: Values, references: Values, inside: Inside) -> Values:
    """Return an attack's scores of a target, (n,), finite.

    Args:
        attack: the attack.
        target: signals of the target, (n,) or (n, signals).
        references: of the other networks, (networks, n) or (networks, n, signals).
        inside: bool (networks, n).

    Raises:
        InputError: errors of the attack; scores that are not finite or not one for each sample, as of signals
            that repeat each other or differ by many orders of magnitude.
    """
    remedy = "leave out networks that failed to train and signals that repeat each other"
    try:
        with np.errstate(all="ignore"):
            scores = attack(target, references, inside)
    except np.linalg.LinAlgError as error:
        raise InputError(
            f"the references must differ in every direction of their signals, got none in some ({error}); "
            f"{remedy}"
        ) from None
    if scores.shape != target.shape[:1]:
        raise InputError(
            f"an attack gives each of {len(target)} samples one score, got {scores.shape} for signals "
            f"{target.shape}; for several signals take an attack of several, such as mia-lira"
        )
    broken = int(np.count_nonzero(~np.isfinite(scores)))
    if broken:
        raise InputError(
            f"scores must be finite, {broken} of {scores.size} are not: signals of too different sizes; "
            f"{remedy}"
        )
    return np.asarray(scores, dtype=np.float64)
