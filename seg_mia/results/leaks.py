"""What all membership attacks on one row's victims show together, in plain values."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class LeakNumber:
    """One number of a membership attack, as the test of all of them has it.

    Attributes:
        label: of the attack.
        seed: of the victim.
        kind: auc or tpr_at_fpr_0.01, over images, or with groups. before it over patients.
        value: the number.
        low: its lower bound, which holds for all numbers of the test at once.
        p_value: of this number alone.
        adjusted: for the best of all numbers.
    """

    label: str
    seed: int
    kind: str
    value: float
    low: float
    p_value: float
    adjusted: float


@dataclass(frozen=True)
class LeakTested:
    """Whether the attacks on one row's victims tell members apart at all, over all attacks and seeds.

    Attributes:
        row: of the comparison.
        confidence: the least chance that no leak is claimed where there is none.
        members: patients that are members, images where each is a patient of its own.
        nonmembers: the same of the others.
        grouped: whether patients have several images.
        permutations: how often who is a member was dealt out anew.
        detectable: the AUC that an attack must have to be found with a chance of 80 %; None if none is.
        numbers: all that was tested.
    """

    row: int
    confidence: float
    members: int
    nonmembers: int
    grouped: bool
    permutations: int
    detectable: float | None
    numbers: Sequence[LeakNumber]
