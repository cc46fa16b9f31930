"""What the numbers amount to, in a word: thresholds on the ends of intervals, stated where they are shown.

A verdict is about what was tried. That nothing was found never means that there is nothing: the samples may
be too few, or a better attack may exist.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from seg_mia.report.leak import LEVELS, STRONG_AUC, STRONG_TPR, leak
from seg_mia.results.audit import Victim
from seg_mia.results.base import Measure, RunKey
from seg_mia.results.bounded_mean import dice_lost, over_images
from seg_mia.results.leaks import LeakResult
from seg_mia.results.membership import MembershipResult
from seg_mia.results.perturbation import FUSED, PerturbationResult, SuccessRow
from seg_mia.results.privacy import DPGuarantee, EpsilonLowerBound
from seg_mia.results.report import Level, Verdict, Verdicts
from seg_mia.results.text import permits
from seg_mia.results.warnings import fails

BROKEN_SHARE = 0.5
"""Share of the Dice that an attack takes: what is left segments less than half as well."""
WEAKENED_SHARE = 0.05
"""Less lies within what another training seed changes."""
BROKEN_IOU = 0.7
"""IoU with a mask of the attacker's choice: a reader takes the two masks for the same object."""
GAINED_IOU = 0.1
"""What the perturbation must add to that IoU: masks of one organ overlap before any attack."""
BROKEN_SUCCESS = 0.5
"""Success on more images than not, of those that did not succeed before any step."""
WEAKENED_SUCCESS = 0.05
"""One image in twenty."""
VISIBLE_SSIM = 0.9
"""Below it a reader sees the change: published imperceptible attacks lie above."""
STRONG_EPSILON, MODERATE_EPSILON = 1.0, 10.0
"""Tiers 1 and 2 of Ponomareva et al. 2023, "How to DP-fy ML": above 10 a promise says little by itself."""

LEAST_DICE = 0.1
"""On members: a mask of the whole image reaches as much where an object covers a twentieth of it."""
"""What tables of success call the best run of all losses."""

RULES = {
    "leak": (
        "One test covers the AUC and the TPR at 1 % FPR of all attacks and seeds, over images and, where "
        "there are patients, over patients: who is a member is dealt out anew among patients, and a leak is "
        "claimed where some number exceeds what the best of all of them reaches in 5 % of such deals. "
        f"Strong: one that does is at least {STRONG_AUC} (AUC) or {STRONG_TPR} (TPR) by a lower bound that "
        "holds for all numbers at once. Weak: none is. None found: no number exceeds it. Void: the split "
        "itself tells members apart, or the victim segments next to nothing, Dice below "
        f"{LEAST_DICE} on members."
    ),
    "robustness": (
        f"Broken: of some attack the interval of the share of Dice lost begins at {BROKEN_SHARE} or above, "
        f"that of the success rate at {BROKEN_SUCCESS} or above, or that of the IoU with the attacker's mask "
        f"at {BROKEN_IOU} or above, {GAINED_IOU} more than before. Weakened: one begins above "
        f"{WEAKENED_SHARE}, {WEAKENED_SUCCESS}, or {GAINED_IOU} more than before. Withstood: none does. "
        f"Void: the victim segments next to nothing, Dice below {LEAST_DICE} on members."
    ),
    "privacy": (
        "Broken: an attack or canaries prove more than was promised of the same unit. Else by epsilon: up "
        f"to {STRONG_EPSILON:g} strong, up to {MODERATE_EPSILON:g} moderate, above it weak."
    ),
}
"""The thresholds in words."""

Strength = Literal[0, 1, 2]
HELD = ("Withstood", "Weakened", "Broken")


@dataclass(frozen=True)
class Evidence:
    """One number, and how much it says: 0 nothing, 1 something, 2 much."""

    strength: Strength
    measures: str
    measure: Measure
    attack: str
    hidden: bool = True

    @property
    def rank(self) -> tuple[float, ...]:
        """The strongest last: by strength, staying unseen, where the interval begins, the number."""
        least = -math.inf
        low, value = self.measure.low, self.measure.value
        ends = (least if low is None else low, least if value is None else value)
        return self.strength, self.hidden, *ends


class Refuted(NamedTuple):
    """A promise, and a proof that more was spent; `by` says whose, None for canaries."""

    privacy: DPGuarantee
    proof: EpsilonLowerBound
    by: str | None


def verdicts(
    victims: Sequence[Victim],
    guessed: Sequence[MembershipResult],
    fooled: Sequence[PerturbationResult],
    leaks: Sequence[LeakResult] = (),
) -> list[Verdicts]:
    """Return what is made of each row of the comparison, over all of its seeds."""
    split = any(fails(one) for one in guessed if one.role == "blind")
    told = " The split itself tells members apart." if split else ""
    found = []
    for row in sorted({victim.row for victim in victims}):
        own = [victim for victim in victims if victim.row == row]
        judged, void = _judged(own)
        attacks = [one for one in guessed if one.row == row and one.role == "attack"]
        controls = [one for one in guessed if one.role == "control"]
        perturbed = [one for one in fooled if one.key in judged]
        found.append(
            Verdicts(
                row=row,
                defence=own[0].defence,
                leak=leak(
                    attacks,
                    _of_seeds(leaks, row, {place.seed for place in judged}),
                    controls=controls,
                    void=void + told,
                ),
                robustness=robustness(perturbed, void=void),
                privacy=privacy(own, attacks),
            )
        )
    return found


def _of_seeds(leaks: Sequence[LeakResult], row: int, seeds: Collection[int]) -> LeakResult | None:
    """Return one row's test with the numbers of some seeds alone, which allows for the others, too."""
    tested = next((one for one in leaks if one.row == row), None)
    if tested is None:
        return None
    return tested.model_copy(update={"tested": [number for number in tested.tested if number.seed in seeds]})


def segments_nothing(victim: Victim) -> bool:
    """Return whether a victim segments so little that neither its leak nor its robustness means anything."""
    dice = victim.dice("members")
    return dice is not None and dice < LEAST_DICE


def _judged(victims: Sequence[Victim]) -> tuple[list[RunKey], str]:
    """Return which of one row's victims are judged, and what voids it: none of them segments anything."""
    judged = [victim.key for victim in victims if not segments_nothing(victim)]
    if judged:
        return judged, ""
    best = max(victim.dice("members") or 0.0 for victim in victims)
    void = f" The victim segments next to nothing: Dice {best:.3f} on members, below {LEAST_DICE}."
    return [victim.key for victim in victims], void


def robustness(attacks: Sequence[PerturbationResult], *, void: str = "") -> Verdict:
    """Return how well a victim stood what was tried; `void` says why that means nothing, if it does."""
    evidence = [piece for one in attacks for piece in fooled_evidence(one)]
    if not attacks:
        return Verdict("none", "Not tested", "Dice lost", None, "No perturbation was tried on this victim.")
    if not evidence and void:
        return Verdict("void", "Void", "Dice lost", None, void.strip())
    if not evidence:
        return Verdict(
            "none",
            "Inconclusive",
            "success rate",
            None,
            "No image counts: all were successes before any step, no gradient reached them, none was "
            "changed, or there was only one.",
        )
    strongest = max(evidence, key=lambda piece: piece.rank)
    likeness = next((one.mean("ssim") for one in attacks if one.label == strongest.attack), None)
    seen = "" if likeness is None else f", at SSIM {likeness:.2f}"
    why = f"{strongest.attack}, {_of(len(attacks))}{seen}."
    if void:
        return Verdict("void", "Void", strongest.measures, strongest.measure, f"{why}{void}")
    if strongest.strength == 0:
        why += " Only against what was tried: a stronger attack may succeed."
    return Verdict(
        LEVELS[strongest.strength], HELD[strongest.strength], strongest.measures, strongest.measure, why
    )


def fooled_evidence(one: PerturbationResult) -> Iterator[Evidence]:
    """Yield each number of a perturbation that a verdict rests on.

    An attack that no gradient reached says nothing unless its victim broke all the same, and neither does one
    for which no image counts, that changed none, or that was made on a single image.
    """
    found = _fooled_evidence(one)
    yield from (piece for piece in found if piece.strength) if one.untested else found


def _fooled_evidence(one: PerturbationResult) -> Iterator[Evidence]:
    likeness = one.mean("ssim")
    hidden = likeness is None or likeness >= VISIBLE_SSIM
    rates = [row.measure for row in kept(one.success) if row.counted and row.rate is not None]
    if (one.success and not rates) or (one.images and one.unchanged >= one.images and not rates):
        return
    for rate in rates:
        yield Evidence(
            _strength(rate.low, WEAKENED_SUCCESS, BROKEN_SUCCESS), "success rate", rate, one.label, hidden
        )
    if (lost := dice_lost(one)) is not None and lost.low is not None:
        strength = _strength(lost.low, WEAKENED_SHARE, BROKEN_SHARE)
        yield Evidence(strength, "share of Dice lost", lost, one.label, hidden)
    before = one.mean("iou_before")
    if one.asks and before is not None and "iou" in one.results:
        reached = over_images(one.results["iou"], one.units)
        if reached.low is None:
            return
        gained = reached.low - before > GAINED_IOU
        strength = 2 if gained and reached.low >= BROKEN_IOU else 1 if gained else 0
        yield Evidence(strength, "IoU with the attacker's mask", reached, one.label, hidden)


def kept(rows: Sequence[SuccessRow]) -> Sequence[SuccessRow]:
    """Return the rows that an attack is judged by: the fused one, or each loss's where none was fused."""
    return [row for row in rows if row.loss == FUSED] or rows


def privacy(victims: Sequence[Victim], attacks: Sequence[MembershipResult]) -> Verdict:
    """Return what victims of one row promise of differential privacy, and what attacks prove of it."""
    promised = [victim.privacy for victim in victims if victim.privacy is not None]
    shown = _of_attacks([one.certified for one in attacks if one.certified])
    shown += _of_canaries(victims)
    for victim in victims:
        if (found := refuted(victim, attacks)) is not None:
            whose = "Canaries prove" if found.by is None else "An attack proves"
            why = f"{_promised(found.privacy)} {whose} at least {found.proof.epsilon:.2f}."
            return Verdict("bad", "Broken", "epsilon", Measure(found.privacy.epsilon), why)
    if not promised:
        return Verdict(
            "none", "No promise", "epsilon", None, f"Not trained with differential privacy.{shown}"
        )
    worst = max(promised, key=spent)
    if worst.epsilon is None:
        return Verdict(
            "bad", "Infinite", "epsilon", None, f"Clipped without noise: nothing is promised.{shown}"
        )
    return _kept(worst, comparable(worst, attacks), _of_canaries(victims))


def refuted(victim: Victim, attacks: Sequence[MembershipResult]) -> Refuted | None:
    """Return the proof that goes furthest beyond what a victim promises, None where all stays below.

    Canaries are asked when training has ended: they are held against what it promises then, which is more
    than a checkpoint of an earlier epoch says.
    """
    found = list[Refuted]()
    if victim.privacy is not None:
        for one in attacks:
            own = comparable(victim.privacy, [one]) if one.key == victim.key else []
            found += [Refuted(victim.privacy, proved, one.label) for proved in own]
    if victim.canaries is not None and victim.canaries.privacy is not None:
        own = [victim.canaries.one_run, victim.canaries.certified]
        found += [Refuted(victim.canaries.privacy, proved, None) for proved in own]
    beyond = [one for one in found if (one.proof.epsilon or 0.0) > spent(one.privacy)]
    return max(beyond, key=lambda one: (one.proof.epsilon or 0.0) - spent(one.privacy), default=None)


def _of_canaries(victims: Sequence[Victim]) -> str:
    """Return what canaries prove at most of one row's victims, as a further sentence."""
    asked = [victim.canaries for victim in victims if victim.canaries is not None]
    bounds = [bound.epsilon or 0.0 for one in asked for bound in (one.certified, one.one_run)]
    if not bounds:
        return ""
    return f" Canaries prove at least {max(bounds):.2f}." if max(bounds) else " Canaries prove nothing."


def _of_attacks(proved: Sequence[EpsilonLowerBound]) -> str:
    """Return what attacks prove at most, as a further sentence; that they prove nothing is no good sign."""
    if not proved:
        return ""
    most, able = max(one.epsilon or 0.0 for one in proved), max(one.most or 0.0 for one in proved)
    if most:
        return f" Attacks prove epsilon of at least {most:.2f}; they could prove {able:.2f} at most."
    return (
        " Attacks prove no epsilon, which says nothing for privacy: perfect guesses on so many samples "
        f"would prove {able:.2f}."
    )


def _kept(promise: DPGuarantee, proved: Sequence[EpsilonLowerBound], canaries: str) -> Verdict:
    """Return what a finite promise says that no attack has refuted."""
    tried = _of_attacks(proved)
    void = " Void against whoever knows the seed of the noise." if promise.reproducible else ""
    strength = 0 if spent(promise) <= STRONG_EPSILON else 1 if spent(promise) <= MODERATE_EPSILON else 2
    word = ("Strong promise", "Moderate promise", "Weak promise")[strength]
    level: Level = "void" if promise.reproducible else LEVELS[strength]
    return Verdict(
        level, word, "epsilon", Measure(promise.epsilon), f"{_promised(promise)}{tried}{canaries}{void}"
    )


def comparable(promise: DPGuarantee, attacks: Sequence[MembershipResult]) -> list[EpsilonLowerBound]:
    """Return what attacks prove of the promise's unit; of another unit it says nothing of this promise."""
    return [one.certified for one in attacks if one.certified and one.certified.unit in {None, promise.unit}]


def spent(promise: DPGuarantee) -> float:
    """Return a promise's epsilon as a number."""
    return math.inf if promise.epsilon is None else promise.epsilon


def _promised(promise: DPGuarantee) -> str:
    delta = "" if promise.delta is None else f" at delta {promise.delta:.2g}"
    permitted = "" if promise.permitted is None else f", which permits {permits(promise.permitted)}"
    return f"Promised per {promise.unit}{delta}{permitted}."


def _strength(low: float | None, weak: float, strong: float) -> Strength:
    """Return what an interval's lower end says: much from `strong` on, something above `weak`."""
    if low is None:
        return 0
    return 2 if low >= strong else 1 if low > weak else 0


def _of(count: int) -> str:
    return "the only attack" if count == 1 else f"the strongest of {count} attacks"
