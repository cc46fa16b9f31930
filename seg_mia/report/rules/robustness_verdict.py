"""Verdict on perturbations: thresholds on the lower ends of intervals."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from seg_mia.report.rules.levels import LEVELS, Strength, strongest_of
from seg_mia.results.base import Measure
from seg_mia.results.bounded_mean import dice_lost, over_images
from seg_mia.results.perturbation import FUSED, PerturbationResult, SuccessRow
from seg_mia.results.report import Verdict

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


@dataclass(frozen=True)
class Evidence:
    """One number with its level of evidence: 0 nothing, 1 something, 2 much."""

    strength: Strength
    measures: str
    measure: Measure
    attack: str
    hidden: bool = True

    @property
    def rank(self) -> tuple[float, ...]:
        """Sort key, the strongest last: level, imperceptibility, lower end of the interval, number."""
        lowest = -math.inf
        low, value = self.measure.low, self.measure.value
        ends = (lowest if low is None else low, lowest if value is None else value)
        return self.strength, self.hidden, *ends


def robustness(attacks: Sequence[PerturbationResult], *, void: str = "") -> Verdict:
    """Return the verdict on a victim's robustness; `void` is the reason if it is meaningless."""
    evidence = [piece for result in attacks for piece in robustness_evidence(result)]
    if not attacks:
        return Verdict("none", "Not tested", "Dice lost", None, "No perturbation was run on this victim.")
    if not evidence and void:
        return Verdict("void", "Void", "Dice lost", None, void.strip())
    if not evidence:
        return Verdict(
            "none",
            "Inconclusive",
            "success rate",
            None,
            "No image counts: all were successes before the attack, no gradient reached them, none was "
            "changed, or there was only one.",
        )
    strongest = max(evidence, key=lambda piece: piece.rank)
    ssim = next((result.mean("ssim") for result in attacks if result.label == strongest.attack), None)
    seen = "" if ssim is None else f", at SSIM {ssim:.2f}"
    why = f"{strongest.attack}, {strongest_of(len(attacks))}{seen}."
    if void:
        return Verdict("void", "Void", strongest.measures, strongest.measure, f"{why}{void}")
    if strongest.strength == 0:
        why += " This covers only the attacks that were run: a stronger one may succeed."
    return Verdict(
        LEVELS[strongest.strength],
        ROBUSTNESS_WORDS[strongest.strength],
        strongest.measures,
        strongest.measure,
        why,
    )


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
        yield Evidence(
            _strength(rate.low, WEAKENED_SUCCESS, BROKEN_SUCCESS), "success rate", rate, result.label, hidden
        )
    if (lost := dice_lost(result)) is not None and lost.low is not None:
        strength = _strength(lost.low, WEAKENED_SHARE, BROKEN_SHARE)
        yield Evidence(strength, "share of Dice lost", lost, result.label, hidden)
    before = result.mean("iou_before")
    if result.is_targeted and before is not None and "iou" in result.results:
        reached = over_images(result.results["iou"], result.units)
        if reached.low is None:
            return
        gained = reached.low - before > GAINED_IOU
        strength = 2 if gained and reached.low >= BROKEN_IOU else 1 if gained else 0
        yield Evidence(strength, "IoU with the attacker's mask", reached, result.label, hidden)


def judged_rows(rows: Sequence[SuccessRow]) -> Sequence[SuccessRow]:
    """Return the rows that are evaluated for an attack: the fused one, or each loss's without fusion."""
    return [row for row in rows if row.loss == FUSED] or rows


def _strength(low: float | None, weak: float, strong: float) -> Strength:
    """Return the level of an interval's lower end: much from `strong` on, something above `weak`."""
    if low is None:
        return 0
    return 2 if low >= strong else 1 if low > weak else 0
