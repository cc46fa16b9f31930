"""Promises under replacing one unit that many trainings of a recipe contradict, all attacks together."""

from collections.abc import Sequence
from typing import NamedTuple

from seg_mia.results.privacy import DPGuarantee, EpsilonLowerBound
from seg_mia.results.recipe import RecipeResult


class Contradicted(NamedTuple):
    """A promise below what the trainings of a recipe prove.

    Attributes:
        result: the attack on the recipe that shows it.
        bound: at a confidence that holds beside those of the other attacks on the recipe.
        promised: epsilon if one unit is replaced.
        attacks: number of attacks whose bounds hold together.
    """

    result: RecipeResult
    bound: EpsilonLowerBound
    promised: float
    attacks: int

    @property
    def proof(self) -> str:
        """What is proved and by what, as the end of a sentence."""
        return (
            f"by {self.result.label} its trainings prove at least {self.bound.epsilon or 0.0:.2f}, at 95 % "
            f"confidence for {self.attacks} attacks together"
        )


def comparable(bound: EpsilonLowerBound | None, privacy: DPGuarantee | None) -> bool:
    """Return whether a bound by many trainings is of the unit of a promise under replacing one."""
    return (
        bound is not None
        and privacy is not None
        and privacy.replace_one is not None
        and bound.unit in {None, privacy.unit}
    )


def bounds_of(results: Sequence[RecipeResult], row: int) -> int:
    """Return the number of attacks on a row's recipe with a bound; all of them hold together."""
    return sum(result.row == row and result.many_runs is not None for result in results)


def contradicted(results: Sequence[RecipeResult]) -> list[Contradicted]:
    """Return the promises of recipes below a bound, the bounds of one row together at 95 % (Bonferroni)."""
    found = list[Contradicted]()
    for result in results:
        bound, privacy = result.many_runs, result.privacy
        if bound is None or privacy is None or privacy.replace_one is None or not comparable(bound, privacy):
            continue
        count = bounds_of(results, result.row)
        joint = bound.jointly(count)
        if joint is not None and (joint.epsilon or 0.0) > privacy.replace_one:
            found.append(Contradicted(result, joint, privacy.replace_one, count))
    return found


def strongest_of(found: Sequence[Contradicted]) -> Contradicted:
    """Return the contradiction of the largest excess."""
    return max(found, key=lambda one: (one.bound.epsilon or 0.0) - one.promised)
