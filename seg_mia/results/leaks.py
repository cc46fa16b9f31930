"""Joint results of all membership attacks on one row's victims."""

from seg_mia.membership.leakage import Kind
from seg_mia.results.base import Number, Result


class LeakNumber(Result):
    """One number of a membership attack, as the test of all of them has it.

    Attributes:
        label: of the attack.
        seed: of the victim.
        kind: auc or tpr_at_fpr_0.01, over images, or with groups. before it over patients.
        value: the number.
        low: its lower bound, which holds for all numbers of the test at once.
        high: its upper bound, likewise; None in audits of an earlier version.
        p_value: of this number alone.
        adjusted: for the best of all numbers.
    """

    label: str
    seed: int
    kind: Kind
    value: float
    low: float
    p_value: float
    adjusted: float
    high: Number = None


class LeakResult(Result):
    """Whether the attacks on one row's victims tell members apart at all, over all attacks and seeds.

    Attributes:
        row: of the comparison.
        confidence: the least chance that no leak is claimed where there is none.
        grouped: whether patients have several images.
        members: patients that are members, images where each is a patient of its own.
        nonmembers: patients that are none.
        permutations: how often who is a member was dealt out anew.
        detectable: the AUC that an attack must have to be found with a chance of 80 %; None if none is.
        tested: all numbers.
    """

    row: int
    confidence: float
    grouped: bool
    members: int
    nonmembers: int
    permutations: int
    detectable: Number
    tested: list[LeakNumber]
