"""A membership attack: what is seen, and how it is decided from that."""

from seg_mia.errors import InputError
from seg_mia.membership.scorers import Scorer
from seg_mia.membership.signals import Signal


class Membership:
    """Tell the victim's members from its non-members, with shadow networks to learn on.

    Args:
        signal: what the attacker sees.
        scorer: how it decides.

    Raises:
        InputError: a scorer of maps for a signal that is a number, or the other way round.
    """

    def __init__(self, *, signal: Signal, scorer: Scorer) -> None:
        if signal.maps != scorer.maps:
            kinds = {True: "map", False: "number"}
            raise InputError(
                f"signal and scorer must fit: {type(signal).__name__} is a {kinds[signal.maps]}, "
                f"{type(scorer).__name__} takes a {kinds[scorer.maps]}; name another scorer"
            )
        self.signal, self.scorer = signal, scorer

    @property
    def attacker_knowledge(self) -> str:
        """What the attacker must see of the victim, as every table of results says it."""
        return self.signal.attacker_knowledge
