"""Verdict on a guarantee of differential privacy, and its refutation by attacks or canaries."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from seg_mia.report.rules.levels import LEVELS
from seg_mia.results.audit import Victim
from seg_mia.results.base import Measure, RunKey
from seg_mia.results.membership import MembershipResult
from seg_mia.results.privacy import CONFIDENCE, MOST_BOUNDS, DPGuarantee, EpsilonLowerBound
from seg_mia.results.report import Level, Verdict
from seg_mia.results.text import permits

STRONG_EPSILON, MODERATE_EPSILON = 1.0, 10.0
"""Tiers 1 and 2 of Ponomareva et al. 2023, "How to DP-fy ML": above 10 a guarantee alone is weak."""


Compared = tuple[Victim, DPGuarantee, EpsilonLowerBound, str | None]
"""A bound that is compared with a victim's guarantee, and the attack that it is from, None for canaries."""


class Refutation(NamedTuple):
    """A proof that more was spent than guaranteed.

    Attributes:
        guarantee: the guarantee.
        bound: the bound, at a confidence that holds beside all others of the same row.
        attack: the attack that proves it; None for canaries.
        compared: number of bounds that are compared with the guarantees of the row.
    """

    guarantee: DPGuarantee
    bound: EpsilonLowerBound
    attack: str | None
    compared: int

    @property
    def together(self) -> str:
        """The confidence in words."""
        several = "" if self.compared == 1 else f" for the {self.compared} bounds together"
        return f"at {CONFIDENCE:.0%} confidence{several}"


def privacy(victims: Sequence[Victim], attacks: Sequence[MembershipResult]) -> Verdict:
    """Return the privacy guarantee of one row's victims, and the bounds proved by attacks."""
    guarantees = [victim.privacy for victim in victims if victim.privacy is not None]
    bounds = _attack_sentence([result.certified for result in attacks if result.certified])
    measured = [victim.canaries for victim in victims if victim.canaries is not None]
    bounds += _canary_sentence([bound for result in measured for bound in result.bounds.values()])
    if proofs := refutations(victims, attacks):
        refutation = strongest(proofs)
        subject = "Canaries prove" if refutation.attack is None else "An attack proves"
        why = (
            f"{_promised(refutation.guarantee)} {subject} at least {refutation.bound.epsilon:.2f}, "
            f"{refutation.together}."
        )
        return Verdict("bad", "Broken", "epsilon", Measure(refutation.guarantee.epsilon), why)
    if not guarantees:
        known = not any(victim.from_predictions for victim in victims)
        word = "No guarantee" if known else "Unknown"
        why = "Not trained with differential privacy." if known else "Only predictions are given."
        return Verdict("none", word, "epsilon", None, f"{why}{bounds}")
    worst = max(guarantees, key=spent)
    if worst.epsilon is None:
        return Verdict(
            "bad", "Infinite", "epsilon", None, f"Clipped without noise: no privacy guarantee.{bounds}"
        )
    return _unrefuted(worst, bounds_compared(victims, attacks))


def refutations(
    victims: Sequence[Victim], attacks: Sequence[MembershipResult]
) -> dict[RunKey, list[Refutation]]:
    """Return the proofs that exceed each victim's guarantee; victims without such a proof are left out.

    All bounds that are compared with the guarantees of one row hold together at `CONFIDENCE`: the more of
    them, the stricter each (Bonferroni). Canaries are evaluated at the end of training: they are compared
    with the guarantee at that point, which is larger than that of a checkpoint of an earlier epoch.
    """
    beyond: dict[RunKey, list[Refutation]] = {}
    for row in {victim.row for victim in victims}:
        compared = bounds_compared([victim for victim in victims if victim.row == row], attacks)
        for victim, guarantee, bound, attack in compared:
            proved = bound.jointly(len(compared))
            if proved is not None and (proved.epsilon or 0.0) > spent(guarantee):
                proof = Refutation(guarantee, proved, attack, len(compared))
                beyond.setdefault(victim.key, []).append(proof)
    return beyond


def bounds_compared(victims: Sequence[Victim], attacks: Sequence[MembershipResult]) -> list[Compared]:
    """Return each bound that is compared with a guarantee of one row's victims.

    With the victim, the guarantee, and the attack that it is from, None for canaries.
    """
    return [(victim, *bound) for victim in victims for bound in _compared(victim, attacks)]


def strongest(proofs: Mapping[RunKey, Sequence[Refutation]]) -> Refutation:
    """Return the proof that exceeds its guarantee the most."""
    every = [proof for row in proofs.values() for proof in row]
    return max(every, key=lambda proof: (proof.bound.epsilon or 0.0) - spent(proof.guarantee))


def _compared(
    victim: Victim, attacks: Sequence[MembershipResult]
) -> Iterator[tuple[DPGuarantee, EpsilonLowerBound, str | None]]:
    """Yield each bound that a guarantee of a victim is compared with, and the attack, None for canaries."""
    if victim.privacy is not None and victim.privacy.epsilon is not None:
        for attack in attacks:
            for bound in comparable(victim.privacy, [attack]) if attack.key == victim.key else ():
                yield victim.privacy, bound, attack.label
    canaries = victim.canaries
    if canaries is not None and canaries.privacy is not None and canaries.privacy.epsilon is not None:
        for bound in canaries.bounds.values():
            yield canaries.privacy, bound, None


def _canary_sentence(proved: Sequence[EpsilonLowerBound]) -> str:
    """Return the largest bound proved by canaries, as a sentence."""
    if not proved:
        return ""
    epsilon = max(bound.epsilon or 0.0 for bound in proved)
    return f" Canaries prove at least {epsilon:.2f}." if epsilon else " Canaries prove no lower bound."


def _attack_sentence(proved: Sequence[EpsilonLowerBound]) -> str:
    """Return the largest bound proved by attacks, as a sentence; no bound is no evidence of privacy."""
    if not proved:
        return ""
    epsilon = max(bound.epsilon or 0.0 for bound in proved)
    attainable = max(bound.attainable or 0.0 for bound in proved)
    if epsilon:
        return f" Attacks prove an epsilon of at least {epsilon:.2f}; at most {attainable:.2f} was provable."
    return (
        " Attacks prove no lower bound on epsilon, which is no evidence of privacy: perfect guesses on these "
        f"samples would prove {attainable:.2f}."
    )


def _unrefuted(guarantee: DPGuarantee, compared: Sequence[Compared]) -> Verdict:
    """Return the verdict on a finite guarantee that no bound has refuted, all of them together."""
    strength = 0 if spent(guarantee) <= STRONG_EPSILON else 1 if spent(guarantee) <= MODERATE_EPSILON else 2
    word = ("Strong guarantee", "Moderate guarantee", "Weak guarantee")[strength]
    level: Level = LEVELS[strength]
    joint = [(bound.jointly(len(compared)), attack) for _, _, bound, attack in compared]
    if missing := uncomputed(compared):
        tried = f" {missing}."
        if level != "bad":
            level, word = "none", "Guarantee not compared"
    else:
        tried = _attack_sentence([bound for bound, attack in joint if bound and attack is not None])
        tried += _canary_sentence([bound for bound, attack in joint if bound and attack is None])
    void = " Void against an attacker who knows the seed of the noise." if guarantee.reproducible else ""
    return Verdict(
        "void" if guarantee.reproducible else level,
        word,
        "epsilon",
        Measure(guarantee.epsilon),
        f"{_promised(guarantee)}{tried}{void}",
    )


def uncomputed(compared: Sequence[Compared]) -> str:
    """Return the clause on bounds that do not hold beside the others compared, empty if all do."""
    return not_computed(sum(row[2].jointly(len(compared)) is None for row in compared), len(compared))


def not_computed(missing: int, count: int) -> str:
    """Return a clause on the bounds of `count` that were not computed at their joint confidence."""
    if not missing:
        return ""
    were = "was" if missing == 1 else "were"
    remedy = "run the audit again" if count <= MOST_BOUNDS else f"compare at most {MOST_BOUNDS} bounds"
    subject = f"{missing} of {count} bounds {were}"
    return f"{subject} not computed at the confidence that {count} bounds need; {remedy}"


def comparable(guarantee: DPGuarantee, attacks: Sequence[MembershipResult]) -> list[EpsilonLowerBound]:
    """Return bounds for the unit of the guarantee; those for another unit do not apply to it."""
    return [
        result.certified
        for result in attacks
        if result.certified and result.certified.unit in {None, guarantee.unit}
    ]


def spent(guarantee: DPGuarantee) -> float:
    """Return a guarantee's epsilon as a number."""
    return math.inf if guarantee.epsilon is None else guarantee.epsilon


def _promised(guarantee: DPGuarantee) -> str:
    delta = "" if guarantee.delta is None else f" at delta {guarantee.delta:.2g}"
    permitted = "" if guarantee.permitted is None else f", which permits {permits(guarantee.permitted)}"
    replaced = (
        "" if guarantee.replace_one is None else f"; epsilon {guarantee.replace_one:.3g} if one is replaced"
    )
    return f"Guaranteed per {guarantee.unit}{delta}{permitted}{replaced}."
