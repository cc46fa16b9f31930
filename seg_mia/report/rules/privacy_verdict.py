"""What a guarantee of differential privacy amounts to, and whether attacks or canaries refute it."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from seg_mia.report.rules.levels import LEVELS
from seg_mia.results.audit import Victim
from seg_mia.results.base import Measure
from seg_mia.results.membership import MembershipResult
from seg_mia.results.privacy import DPGuarantee, EpsilonLowerBound
from seg_mia.results.report import Level, Verdict
from seg_mia.results.text import permits

STRONG_EPSILON, MODERATE_EPSILON = 1.0, 10.0
"""Tiers 1 and 2 of Ponomareva et al. 2023, "How to DP-fy ML": above 10 a promise says little by itself."""


class Refutation(NamedTuple):
    """A promise, and a proof that more was spent; `attack` made it, None for canaries."""

    guarantee: DPGuarantee
    bound: EpsilonLowerBound
    attack: str | None


def privacy(victims: Sequence[Victim], attacks: Sequence[MembershipResult]) -> Verdict:
    """Return what victims of one row promise of differential privacy, and what attacks prove of it."""
    guarantees = [victim.privacy for victim in victims if victim.privacy is not None]
    bounds = _attack_sentence([result.certified for result in attacks if result.certified])
    bounds += _canary_sentence(victims)
    for victim in victims:
        if (refutation := refuted(victim, attacks)) is not None:
            subject = "Canaries prove" if refutation.attack is None else "An attack proves"
            why = f"{_promised(refutation.guarantee)} {subject} at least {refutation.bound.epsilon:.2f}."
            return Verdict("bad", "Broken", "epsilon", Measure(refutation.guarantee.epsilon), why)
    if not guarantees:
        return Verdict(
            "none", "No promise", "epsilon", None, f"Not trained with differential privacy.{bounds}"
        )
    worst = max(guarantees, key=spent)
    if worst.epsilon is None:
        return Verdict(
            "bad", "Infinite", "epsilon", None, f"Clipped without noise: nothing is promised.{bounds}"
        )
    return _unrefuted(worst, comparable(worst, attacks), _canary_sentence(victims))


def refuted(victim: Victim, attacks: Sequence[MembershipResult]) -> Refutation | None:
    """Return the proof that goes furthest beyond what a victim promises, None where all stays below.

    Canaries are asked when training has ended: they are held against what it promises then, which is more
    than a checkpoint of an earlier epoch says.
    """
    proofs = list[Refutation]()
    if victim.privacy is not None:
        for attack in attacks:
            bounds = comparable(victim.privacy, [attack]) if attack.key == victim.key else []
            proofs += [Refutation(victim.privacy, proved, attack.label) for proved in bounds]
    if victim.canaries is not None and victim.canaries.privacy is not None:
        bounds = [victim.canaries.one_run, victim.canaries.certified]
        proofs += [Refutation(victim.canaries.privacy, proved, None) for proved in bounds]
    beyond = [proof for proof in proofs if (proof.bound.epsilon or 0.0) > spent(proof.guarantee)]
    return max(beyond, key=lambda proof: (proof.bound.epsilon or 0.0) - spent(proof.guarantee), default=None)


def _canary_sentence(victims: Sequence[Victim]) -> str:
    """Return what canaries prove at most of one row's victims, as a further sentence."""
    measured = [victim.canaries for victim in victims if victim.canaries is not None]
    bounds = [bound.epsilon or 0.0 for result in measured for bound in (result.certified, result.one_run)]
    if not bounds:
        return ""
    return f" Canaries prove at least {max(bounds):.2f}." if max(bounds) else " Canaries prove nothing."


def _attack_sentence(proved: Sequence[EpsilonLowerBound]) -> str:
    """Return what attacks prove at most, as a further sentence; that they prove nothing is no good sign."""
    if not proved:
        return ""
    epsilon = max(bound.epsilon or 0.0 for bound in proved)
    attainable = max(bound.attainable or 0.0 for bound in proved)
    if epsilon:
        return f" Attacks prove epsilon of at least {epsilon:.2f}; they could prove {attainable:.2f} at most."
    return (
        " Attacks prove no epsilon, which says nothing for privacy: perfect guesses on so many samples "
        f"would prove {attainable:.2f}."
    )


def _unrefuted(guarantee: DPGuarantee, proved: Sequence[EpsilonLowerBound], canaries: str) -> Verdict:
    """Return what a finite promise says that no attack has refuted."""
    tried = _attack_sentence(proved)
    void = " Void against whoever knows the seed of the noise." if guarantee.reproducible else ""
    strength = 0 if spent(guarantee) <= STRONG_EPSILON else 1 if spent(guarantee) <= MODERATE_EPSILON else 2
    word = ("Strong promise", "Moderate promise", "Weak promise")[strength]
    level: Level = "void" if guarantee.reproducible else LEVELS[strength]
    return Verdict(
        level, word, "epsilon", Measure(guarantee.epsilon), f"{_promised(guarantee)}{tried}{canaries}{void}"
    )


def comparable(guarantee: DPGuarantee, attacks: Sequence[MembershipResult]) -> list[EpsilonLowerBound]:
    """Return what attacks prove of the promise's unit; of another unit it says nothing of this promise."""
    return [
        result.certified
        for result in attacks
        if result.certified and result.certified.unit in {None, guarantee.unit}
    ]


def spent(guarantee: DPGuarantee) -> float:
    """Return a promise's epsilon as a number."""
    return math.inf if guarantee.epsilon is None else guarantee.epsilon


def _promised(guarantee: DPGuarantee) -> str:
    delta = "" if guarantee.delta is None else f" at delta {guarantee.delta:.2g}"
    permitted = "" if guarantee.permitted is None else f", which permits {permits(guarantee.permitted)}"
    return f"Promised per {guarantee.unit}{delta}{permitted}."
