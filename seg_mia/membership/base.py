"""Membership attacks: a signal and a scorer."""

from seg_mia.errors import InputError
from seg_mia.membership.scorers import Scorer
from seg_mia.membership.signals import Signal


class Membership:
    """Separate the victim's members from its non-members, with shadow models for training.

    Args:
        signal: the attacker's view of the victim.
        scorer: the decision method.

    Raises:
        InputError: a scorer of maps with a numeric signal, or the reverse.
    """

    def __init__(self, *, signal: Signal, scorer: Scorer) -> None:
        if signal.maps != scorer.maps:
            kinds = {True: "map", False: "number"}
            raise InputError(
                f"signal and scorer must match, got {type(signal).__name__}, a {kinds[signal.maps]}, and "
                f"{type(scorer).__name__}, which takes a {kinds[scorer.maps]}; choose another scorer"
            )
        self.signal, self.scorer = signal, scorer

    @property
    def attacker_knowledge(self) -> str:
        """Attacker knowledge of the victim, as shown in result tables."""
        return self.signal.attacker_knowledge
