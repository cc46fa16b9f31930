"""The attack that ranks the victim among the shadows without a sample."""

from dataclasses import dataclass
from typing import ClassVar

from seg_mia.membership.answers import Fleet
from seg_mia.membership.fleet.arrays import Folds, Inside, Values
from seg_mia.membership.fleet.gaussian import rank_among_out
from seg_mia.membership.fleet.scorers import VICTIM, ByReferences


@dataclass(kw_only=True)
class Rank(ByReferences):
    """Call an image a member if the victim's number is lower than under most shadows without it.

    "Attack R" (`rank_among_out`): with K such shadows a score has K + 1 values, half a step where numbers
    are equal, so that a false positive rate below 1 / (K + 1) is not resolved.
    """

    needs: ClassVar[Fleet] = Fleet(maximum=None, sampling="offline")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._outside = 0  # not known yet

    def compare(self, target: Values, references: Values, inside: Inside) -> Values:
        """Return `rank_among_out`."""
        return rank_among_out(target, references, inside)

    def numbered(self, numbers: Folds, target: Values, references: Values, inside: Inside) -> Values:
        """Return `compare`; of the victim's samples also count the shadows without one."""
        if numbers[0] != VICTIM:
            return self.compare(target, references, inside)
        return self.pooled(target, references, inside)

    def pooled(self, target: Values, references: Values, inside: Inside) -> Values:
        """Return `compare`, and count the networks without a sample."""
        fewest = int((~inside).sum(axis=0).min())
        self._outside = min(self._outside or fewest, fewest)
        return self.compare(target, references, inside)

    def resolution(self, population: int) -> float:  # noqa: ARG002
        """Return 1 / (K + 1), K the fewest shadows without a sample."""
        return 1 / (self._outside + 1)
