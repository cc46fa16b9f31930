"""Verdict on perturbations: thresholds on the lower ends of intervals."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, assert_never

from seg_mia.report.rules.attack_strength import shortcomings, signs_of_failure
from seg_mia.report.rules.levels import LEVELS, Strength, strongest_of
from seg_mia.results.base import Measure
from seg_mia.results.bounded_mean import dice_lost, over_images
from seg_mia.results.perturbation import FUSED, PerturbationResult, SuccessRow
from seg_mia.results.report import Verdict
from seg_mia.results.tables import interval

BROKEN_SHARE = 0.5
"""Fraction of Dice lost: the remaining segmentation is less than half as good."""
WEAKENED_SHARE = 0.05
"""A smaller loss is within the variation between training seeds."""
BROKEN_IOU = 0.7
"""IoU with the attacker's target mask: a reader takes the two masks for the same object."""
GAINED_IOU = 0.1
"""Required increase of that IoU: masks of one organ overlap before any attack."""
BROKEN_SUCCESS = 0.5
"""Success on more than half of the images without success before the attack."""
WEAKENED_SUCCESS = 0.05
"""One image in twenty."""
VISIBLE_SSIM = 0.9
"""A reader sees the change below it: published imperceptible attacks lie above."""
ROBUSTNESS_WORDS = ("Withstood", "Weakened", "Broken")
NOTHING = (
    "No image counts: all were successes before the attack, no gradient reached them, none was changed, or "
    "there was only one."
)
EvasionRule = Literal["V0", "V1", "V2", "V3", "V4", "V5", "V6"]


@dataclass(frozen=True)
class Evidence:
    """One number with its level of evidence: 0 nothing, 1 something, 2 much.

    Attributes:
        strength: the level.
        measures: what the number is, in words.
        measure: the number.
        attack: label of the attack.
        broken: value from which the victim would be broken, which resistance must exclude.
        hidden: whether the images look unchanged.
    """

    strength: Strength
    measures: str
    measure: Measure
    attack: str
    broken: float
    hidden: bool = True

    @property
    def rank(self) -> tuple[float, ...]:
        """Sort key, the strongest last: level, imperceptibility, lower end of the interval, number."""
        lowest = -math.inf
        low, value = self.measure.low, self.measure.value
        ends = (lowest if low is None else low, lowest if value is None else value)
        return self.strength, self.hidden, *ends


@dataclass(frozen=True)
class Conclusion:
    """What perturbations show of the victims of one row: verdict and statement both follow from it.

    Attributes:
        rule: name of the rule in `statement_rules`, from V0 to V6.
        piece: the number that it rests on, None if there is none.
        why: the reason.
    """

    rule: EvasionRule
    piece: Evidence | None
    why: str

    @property
    def measured(self) -> tuple[str, Measure | None]:
        """What the number is, and the number."""
        return ("Dice lost", None) if self.piece is None else (self.piece.measures, self.piece.measure)


def conclusion(attacks: Sequence[PerturbationResult], *, void: str = "") -> Conclusion:
    """Return what perturbations show.

    An effect needs no strong attack: whatever succeeds has shown it. Resistance needs one, a check of the
    gradients without a sign that they are masked, and intervals that exclude the threshold of "broken".

    Args:
        attacks: on the victims of one row, over all seeds.
        void: reason why the numbers are meaningless; empty if they are not.
    """
    if not attacks:
        return Conclusion("V0", None, "No perturbation was run on this victim.")
    pieces = [piece for result in attacks for piece in robustness_evidence(result)]
    strongest = max(pieces, key=lambda piece: piece.rank, default=None)
    if void:
        return Conclusion("V1", strongest, void.strip())
    if strongest is not None and strongest.strength:
        degree = ROBUSTNESS_WORDS[strongest.strength].lower()
        why = f"{strongest.attack}, {strongest_of(len(attacks))}: the segmentation is {degree}."
        return Conclusion("V2", strongest, why)
    return _without_effect(attacks, pieces, strongest)


def _without_effect(
    attacks: Sequence[PerturbationResult], pieces: Sequence[Evidence], strongest: Evidence | None
) -> Conclusion:
    """Return what it means that no attack had an effect."""
    if signs := signs_of_failure(attacks):
        return Conclusion(
            "V3", strongest, f"Nothing was found, but gradients may be masked. {' '.join(signs)}"
        )
    if strongest is None:
        return Conclusion("V3", None, NOTHING)
    missing, radius = shortcomings(attacks)
    if missing or radius is None:
        return Conclusion("V6", strongest, missing)
    if (reaching := next((piece for piece in pieces if _reaches(piece)), None)) is not None:
        why = (
            f"No effect was shown, but the interval of {reaching.attack}, {reaching.measures} "
            f"{interval(reaching.measure)}, does not exclude {reaching.broken:.2g}."
        )
        return Conclusion("V4", reaching, why)
    why = (
        f"{strongest.attack}, {strongest_of(len(attacks))}, shows no effect. The worst case was sought "
        f"within {255 * radius:.3g}/255, and all intervals exclude the threshold of broken."
    )
    return Conclusion("V5", strongest, why)


def _reaches(piece: Evidence) -> bool:
    return piece.measure.high is None or piece.measure.high >= piece.broken


def robustness(attacks: Sequence[PerturbationResult], *, void: str = "") -> Verdict:
    """Return the verdict on a victim's robustness; `void` is the reason if it is meaningless."""
    found = conclusion(attacks, void=void)
    piece, (measures, measure) = found.piece, found.measured
    match found.rule:
        case "V0":
            return Verdict("none", "Not tested", measures, None, found.why)
        case "V1":
            why = found.why if piece is None else f"{_of(piece, attacks)} {found.why}"
            return Verdict("void", "Void", measures, measure, why)
        case "V2":
            assert piece is not None
            word = ROBUSTNESS_WORDS[piece.strength]
            return Verdict(LEVELS[piece.strength], word, measures, measure, _of(piece, attacks))
        case "V3" | "V4" | "V6":
            return Verdict("none", "Inconclusive", measures, measure, found.why)
        case "V5":
            why = f"{found.why} This covers only the attacks that were run: a stronger one may succeed."
            return Verdict("good", ROBUSTNESS_WORDS[0], measures, measure, why)
        case _:
            assert_never(found.rule)


def _of(piece: Evidence, attacks: Sequence[PerturbationResult]) -> str:
    """Return the attack behind a number, and the SSIM of its images, in words."""
    ssim = next((result.mean("ssim") for result in attacks if result.label == piece.attack), None)
    seen = "" if ssim is None else f", at SSIM {ssim:.2f}"
    return f"{piece.attack}, {strongest_of(len(attacks))}{seen}."


def robustness_evidence(result: PerturbationResult) -> Iterator[Evidence]:
    """Yield the numbers of a perturbation that support a verdict.

    An attack without any gradient is uninformative unless its victim failed all the same, and so is one
    without counted or changed images, or on a single image. One that minimises the change reaches its aim by
    construction: its norms are the result. A curve's evidence is that of its largest radius.
    """
    if result.minimal is not None and result.curve is None:
        return
    evidence = _robustness_evidence(result)
    yield from (piece for piece in evidence if piece.strength) if result.untested else evidence


def _robustness_evidence(result: PerturbationResult) -> Iterator[Evidence]:
    ssim = result.mean("ssim")
    hidden = ssim is None or ssim >= VISIBLE_SSIM
    rates = [row.measure for row in judged_rows(result.success) if row.counted and row.rate is not None]
    if (result.success and not rates) or (result.images and result.unchanged >= result.images and not rates):
        return
    for rate in rates:
        strength = _strength(rate.low, WEAKENED_SUCCESS, BROKEN_SUCCESS)
        yield Evidence(strength, "success rate", rate, result.label, BROKEN_SUCCESS, hidden)
    if (lost := dice_lost(result)) is not None and lost.low is not None:
        strength = _strength(lost.low, WEAKENED_SHARE, BROKEN_SHARE)
        yield Evidence(strength, "share of Dice lost", lost, result.label, BROKEN_SHARE, hidden)
    before = result.mean("iou_before")
    if result.is_targeted and before is not None and "iou" in result.results:
        reached = over_images(result.results["iou"], result.units)
        if reached.low is None:
            return
        gained = reached.low - before > GAINED_IOU
        strength = 2 if gained and reached.low >= BROKEN_IOU else 1 if gained else 0
        limit = max(BROKEN_IOU, before + GAINED_IOU)
        yield Evidence(strength, "IoU with the attacker's mask", reached, result.label, limit, hidden)


def judged_rows(rows: Sequence[SuccessRow]) -> Sequence[SuccessRow]:
    """Return the rows that are evaluated for an attack: the fused one, or each loss's without fusion."""
    return [row for row in rows if row.loss == FUSED] or rows


def _strength(low: float | None, weak: float, strong: float) -> Strength:
    """Return the level of an interval's lower end: much from `strong` on, something above `weak`."""
    if low is None:
        return 0
    return 2 if low >= strong else 1 if low > weak else 0
