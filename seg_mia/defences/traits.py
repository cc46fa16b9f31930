"""Traits of defences, and rules for their incompatibility."""

from collections.abc import Mapping
from enum import Enum, auto
from typing import NamedTuple


class Trait(Enum):
    """Property of a defence that may conflict with another defence."""

    IS_PRIVATE = auto()
    """It bounds each sample's contribution to a gradient (differential privacy)."""
    COUPLES_SAMPLES = auto()
    """A sample's gradient depends on other samples."""
    ADDS_PENALTY = auto()
    """It adds to the loss of a batch; implied by the hook `penalty`."""
    HAS_TEACHER = auto()
    """An undefended network is trained first; implied by the attribute `teacher`."""
    NEEDS_WHOLE_SAMPLES = auto()
    """It requires single, unchanged samples."""
    ALTERS_SAMPLES = auto()
    """The network trains on parts, mixtures or perturbations of samples."""
    NEEDS_RANGE = auto()
    """It requires images in [0, 1]."""
    LEAVES_RANGE = auto()
    """Its images may lie outside [0, 1]."""
    USES_REFERENCE = auto()
    """It uses the reference images for its own purpose."""
    MARKS_MEMBERS = auto()
    """It changes some of the members, and only members."""
    TRAINS_ON_OTHERS = auto()
    """The network trains on samples other than members."""
    LIMITS_OUTPUT = auto()
    """It determines the deployed victim's output."""


class Rule(NamedTuple):
    """Two incompatible traits.

    Attributes:
        first: a trait of one defence.
        second: a trait of the other.
        reason: explanation; `{first}` and `{second}` are replaced by the clauses of the two defences.
    """

    first: Trait
    second: Trait
    reason: str


RULES = (
    Rule(
        Trait.IS_PRIVATE,
        Trait.COUPLES_SAMPLES,
        "under differential privacy a sample's gradient must not depend on others, but {second}",
    ),
    Rule(Trait.IS_PRIVATE, Trait.HAS_TEACHER, "{second}, and epsilon would be the reference's"),
    Rule(
        Trait.IS_PRIVATE,
        Trait.ADDS_PENALTY,
        "differential privacy needs clipping per unit, which a penalty on the whole batch does not allow",
    ),
    Rule(Trait.NEEDS_WHOLE_SAMPLES, Trait.ALTERS_SAMPLES, "{first}, but {second}"),
    Rule(Trait.NEEDS_RANGE, Trait.LEAVES_RANGE, "{first}, but {second}"),
    Rule(
        Trait.USES_REFERENCE,
        Trait.USES_REFERENCE,
        "the reference images can serve one purpose, but {first}, and {second}",
    ),
    Rule(Trait.MARKS_MEMBERS, Trait.TRAINS_ON_OTHERS, "{first}, but {second}"),
    Rule(Trait.LIMITS_OUTPUT, Trait.LIMITS_OUTPUT, "a victim has one kind of output"),
)


def incompatible(first: Mapping[Trait, str], second: Mapping[Trait, str]) -> str | None:
    """Return the reason why two sets of traits are incompatible, by the first rule, or None.

    Args:
        first: traits of one defence with their clauses.
        second: traits of the other.
    """
    for rule in RULES:
        for traits, opposing in ((first, second), (second, first)):
            if rule.first in traits and rule.second in opposing:
                return rule.reason.format(first=traits[rule.first], second=opposing[rule.second])
    return None
