"""Traits of defences, and the rules by which two of them are incompatible."""

from collections.abc import Mapping
from enum import Enum, auto
from typing import NamedTuple


class Trait(Enum):
    """What a defence does that another may not bear."""

    IS_PRIVATE = auto()
    """It bounds what each sample adds to a gradient (differential privacy)."""
    COUPLES_SAMPLES = auto()
    """A sample's gradient depends on other samples."""
    ADDS_PENALTY = auto()
    """It adds to the loss of a batch; follows from the hook `penalty`."""
    HAS_TEACHER = auto()
    """Another network is trained first, undefended; follows from the attribute `teacher`."""
    NEEDS_WHOLE_SAMPLES = auto()
    """It must be shown samples one by one and as they are."""
    ALTERS_SAMPLES = auto()
    """The network trains on parts or mixtures of samples."""
    USES_REFERENCE = auto()
    """It takes the reference images for a purpose of its own."""
    MARKS_MEMBERS = auto()
    """It changes some of the members, and can change nobody else."""
    TRAINS_ON_OTHERS = auto()
    """The network trains on samples that are no members."""
    LIMITS_OUTPUT = auto()
    """It decides what the deployed victim gives out."""


class Rule(NamedTuple):
    """Two traits that do not go together.

    Attributes:
        first: a trait of one defence.
        second: of the other.
        reason: why not; `{first}` and `{second}` stand for what the defences say of their traits.
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
        "a penalty on the whole batch is not clipped per unit, as differential privacy needs it",
    ),
    Rule(Trait.NEEDS_WHOLE_SAMPLES, Trait.ALTERS_SAMPLES, "{first}, but {second}"),
    Rule(
        Trait.USES_REFERENCE,
        Trait.USES_REFERENCE,
        "the reference images can serve one purpose, but {first}, and {second}",
    ),
    Rule(Trait.MARKS_MEMBERS, Trait.TRAINS_ON_OTHERS, "{first}, but {second}"),
    Rule(Trait.LIMITS_OUTPUT, Trait.LIMITS_OUTPUT, "a victim has one kind of output"),
)


def incompatible(first: Mapping[Trait, str], second: Mapping[Trait, str]) -> str | None:
    """Return why a defence with some traits cannot stand beside one with others, by the first rule, or None.

    Args:
        first: what a defence says of each of its traits.
        second: what the other says.
    """
    for rule in RULES:
        for traits, opposing in ((first, second), (second, first)):
            if rule.first in traits and rule.second in opposing:
                return rule.reason.format(first=traits[rule.first], second=opposing[rule.second])
    return None
