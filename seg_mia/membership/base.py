"""A membership attack: what is seen, and how it is decided from that."""

from seg_mia.errors import InputError
from seg_mia.membership.scorers import Classifier, Scorer
from seg_mia.membership.signals import Signal


class Membership:
    """Tell the victim's members from its non-members, with a shadow network to learn on.

    Args:
        signal: what the attacker sees.
        scorer: how it decides.

    Raises:
        InputError: a classifier for single numbers, or a threshold for maps.
    """

    def __init__(self, *, signal: Signal, scorer: Scorer) -> None:
        if signal.maps != isinstance(scorer, Classifier):
            kind = "map, which a Classifier takes" if signal.maps else "number, which a Threshold takes"
            raise InputError(
                f"signal and scorer must fit: {type(signal).__name__} is a {kind}, "
                f"got {type(scorer).__name__}; name another scorer"
            )
        self.signal, self.scorer = signal, scorer

    @property
    def sees(self) -> str:
        """What the attacker must see of the victim, as every table of results says it."""
        return self.signal.sees
