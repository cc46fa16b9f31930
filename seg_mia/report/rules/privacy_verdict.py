"""Verdict on a guarantee of differential privacy, and its refutation by attacks or canaries."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from seg_mia.report.rules.levels import LEVELS
from seg_mia.results.audit import Victim
from seg_mia.results.base import Measure, RunKey
from seg_mia.results.many_runs import contradicted, strongest_of
from seg_mia.results.membership import MembershipResult
from seg_mia.results.privacy import CONFIDENCE, MOST_BOUNDS, DPGuarantee, EpsilonLowerBound
from seg_mia.results.recipe import RecipeResult
from seg_mia.results.report import Level, Verdict
from seg_mia.results.text import permits

STRONG_EPSILON, MODERATE_EPSILON = 1.0, 10.0
"""Tiers 1 and 2 of Ponomareva et al. 2023, "How to DP-fy ML": above 10 a guarantee alone is weak."""


BROKEN, CONTRADICTED = "Broken", "Contradicted if independent"
"""Words for a guarantee below a bound: one proved by random coins, one that assumes independent samples."""

Compared = tuple[Victim, DPGuarantee, EpsilonLowerBound, str | None]
"""A bound that is compared with a victim's guarantee, and the attack that it is from, None for canaries."""


class Refutation(NamedTuple):
    """A bound above a guarantee: a proof that more was spent, or one if samples are independent.

    Attributes:
        guarantee: the guarantee.
        bound: the bound, at a confidence that holds beside all others of the same row.
        attack: the attack that shows it; None for canaries.
        compared: number of bounds that are compared with the guarantees of the row.
    """

    guarantee: DPGuarantee
    bound: EpsilonLowerBound
    attack: str | None
    compared: int

    @property
    def subject(self) -> str:
        """Who shows it and whether it is proved, as the start of a sentence."""
        who = "Canaries" if self.attack is None else self.attack
        if self.bound.is_proof:
            return f"{who} prove" if self.attack is None else f"{who} proves"
        return f"If samples are independent, {'canaries show' if self.attack is None else f'{who} shows'}"

    @property
    def together(self) -> str:
        """The confidence in words."""
        several = "" if self.compared == 1 else f" for the {self.compared} bounds together"
        return f"at {CONFIDENCE:.0%} confidence{several}"


def privacy(
    victims: Sequence[Victim],
    attacks: Sequence[MembershipResult],
    recipes: Sequence[RecipeResult] = (),
) -> Verdict:
    """Return the privacy guarantee of one row's victims, and the bounds of attacks, canaries and trainings.

    Args:
        victims: of the row.
        attacks: on them.
        recipes: attacks on the row's recipe, whose trainings may prove more than is promised of each.
    """
    guarantees = [victim.privacy for victim in victims if victim.privacy is not None]
    bounds = _attack_sentence([bound for result in attacks for bound in result.bounds.values()])
    measured = [victim.canaries for victim in victims if victim.canaries is not None]
    bounds += _canary_sentence([bound for result in measured for bound in result.bounds.values()])
    if recipes_broken := contradicted(recipes):
        largest = strongest_of(recipes_broken)
        why = f"Guaranteed {largest.promised:.3g} if one is replaced. But {largest.proof}."
        return Verdict("bad", BROKEN, "epsilon if one is replaced", Measure(largest.promised), why)
    if proofs := refutations(victims, attacks):
        refutation = strongest(proofs)
        word = BROKEN if refutation.bound.is_proof else CONTRADICTED
        shown = f"{refutation.subject} at least {refutation.bound.epsilon:.2f}, {refutation.together}."
        why = f"{_promised(refutation.guarantee)} {shown}"
        return Verdict("bad", word, "epsilon", Measure(refutation.guarantee.epsilon), why)
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
    """Return the bounds that exceed each victim's guarantee; victims without such a bound are left out.

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
    """Return the refutation that exceeds its guarantee the most; one by coins before all others."""
    every = [proof for row in proofs.values() for proof in row]
    return max(
        every,
        key=lambda proof: (proof.bound.is_proof, (proof.bound.epsilon or 0.0) - spent(proof.guarantee)),
    )


def _compared(
    victim: Victim, attacks: Sequence[MembershipResult]
) -> Iterator[tuple[DPGuarantee, EpsilonLowerBound, str | None]]:
    """Yield each bound that a guarantee of a victim is compared with, and the attack, None for canaries."""
    if victim.privacy is not None and victim.privacy.epsilon is not None:
        for attack in attacks:
            for name, bound in comparable(victim.privacy, attack).items() if attack.key == victim.key else ():
                yield victim.privacy, bound, f"{attack.label}{name}"
    canaries = victim.canaries
    if canaries is not None and canaries.privacy is not None and canaries.privacy.epsilon is not None:
        for bound in canaries.bounds.values():
            yield canaries.privacy, bound, None


def _canary_sentence(bounds: Sequence[EpsilonLowerBound]) -> str:
    """Return the largest bound proved by canaries, and a larger one under an assumption, as a sentence."""
    if not bounds:
        return ""
    proved = max((bound.epsilon or 0.0 for bound in bounds if bound.is_proof), default=0.0)
    assumed = max((bound.epsilon or 0.0 for bound in bounds if not bound.is_proof), default=0.0)
    more = f", {assumed:.2f} if samples are independent" if assumed > proved else ""
    return f" Canaries prove {f'at least {proved:.2f}' if proved else 'no lower bound'}{more}."


def _attack_sentence(bounds: Sequence[EpsilonLowerBound]) -> str:
    """Return the largest bound of attacks, as a sentence; no bound is no evidence of privacy."""
    if not bounds:
        return ""
    epsilon = max(bound.epsilon or 0.0 for bound in bounds)
    attainable = max(bound.attainable or 0.0 for bound in bounds)
    if epsilon:
        return (
            f" If samples are independent, attacks show an epsilon of at least {epsilon:.2f}, of at most "
            f"{attainable:.2f}."
        )
    return (
        " Attacks show no lower bound on epsilon, which is no evidence of privacy: perfect guesses on these "
        f"samples would give {attainable:.2f}."
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


def comparable(guarantee: DPGuarantee, attack: MembershipResult) -> dict[str, EpsilonLowerBound]:
    """Return an attack's bounds for the unit of the guarantee; those for another unit do not apply to it."""
    return {name: bound for name, bound in attack.bounds.items() if bound.unit in {None, guarantee.unit}}


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
