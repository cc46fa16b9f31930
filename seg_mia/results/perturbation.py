"""Results of adversarial attacks."""

from typing import Literal

from pydantic import Field

from seg_mia.results.base import AttackRecord, Average, Measure, Number, Result, Settings
from seg_mia.results.robustness import (
    FittingSet,
    LabelChange,
    MemberRow,
    MinimalNorms,
    OtherVictim,
    RobustnessCurve,
    SanityCheck,
    WorstCase,
)

FUSED = "fused"
"""The row of all losses together."""


class SuccessRow(Result):
    """How often one loss succeeded, of the images that count.

    Attributes:
        target_kind: the kind of target mask.
        loss: its name; FUSED of all together.
        images: how many were attacked.
        skipped: of these, how many have no such target.
        clean_success: how many were a success before any step.
        no_gradient: how many no gradient reached, which are not counted.
        counted: how many count.
        successes: how many of these succeeded.
        rate: their share.
        low: lower end of its 95 % interval.
        high: upper end.
        distortion: mean steps of the successes.
        mean_iou: over counted images.
        transferred: rate on the victim of what was crafted on the surrogate.
    """

    target_kind: str
    loss: str
    images: int
    skipped: int
    clean_success: int
    no_gradient: int
    counted: int
    successes: int
    rate: Number
    low: Number
    high: Number
    distortion: Number
    mean_iou: Number
    transferred: Number

    @property
    def measure(self) -> Measure:
        """The rate with its interval."""
        return Measure(self.rate, self.low, self.high)


class AttackedData(Result):
    """Which images were attacked."""

    fingerprint: str | None
    subset: str
    role: str


class PerturbationSummary(Result):
    """What an attack that changes images did to one victim: its summary.json.

    Attributes:
        kind: of result.
        attack: its settings.
        attacker_knowledge: what the attacker sees.
        is_targeted: whether a mask was asked for; otherwise the target is the true mask.
        victim: the attacked checkpoint.
        data: which images were attacked.
        images: how many.
        units: of how many patients, images where each is a patient of its own.
        undefined: how many were left out, having no labelled pixel.
        unchanged: how many the attack left as they were.
        no_gradient: of how many an attack that follows gradients had none.
        results: each measure's average over images.
        labels: Dice of each of several labels before and after, over the images where both are defined.
        success: a row per loss, where rates were counted.
        strengths: a row per strength, where several were tried.
        members: a row per member, of an ensemble of attacks.
        minimal: the distribution of norms, of an attack that minimises them.
        curve: Dice over the radius, of an attack in several balls.
        fitted: what a universal change was fitted to, in this run.
        others: Dice of other victims on the same images.
        sanity: whether the victim's gradients can be followed, where it was checked.
        worst_case: effort of an attack that keeps each image's strongest iterate on the victim's gradients.
        victim_queries: images that a victim behind a service was asked; None for a network with weights.
    """

    kind: Literal["perturbation"] = "perturbation"
    attack: Settings
    attacker_knowledge: str
    is_targeted: bool
    victim: str
    data: AttackedData
    images: int
    units: int
    undefined: int
    unchanged: int
    no_gradient: int
    results: dict[str, Average]
    success: list[SuccessRow]
    strengths: list[dict[str, Number]]
    labels: list[LabelChange] = Field(default_factory=list)
    members: list[MemberRow] = Field(default_factory=list)
    minimal: MinimalNorms | None = None
    curve: RobustnessCurve | None = None
    fitted: FittingSet | None = None
    others: list[OtherVictim] = Field(default_factory=list)
    sanity: SanityCheck | None = None
    worst_case: WorstCase | None = None
    victim_queries: int | None = None

    @property
    def untested(self) -> str:
        """Why this says nothing of how robust the victim is; empty where it does."""
        if not self.images:
            return "no image was attacked"
        if self.success and not any(row.counted for row in self.success):
            return "no image counts"
        if 2 * self.no_gradient > self.images:
            return f"no gradient reached {self.no_gradient} of {self.images} images"
        if self.unchanged >= self.images and not self.success:
            return f"none of {self.images} images was changed"
        return ""

    def mean(self, name: str) -> float | None:
        """Return a measure's mean, None where it was not taken."""
        return self.results[name].mean if name in self.results else None


class PerturbationResult(PerturbationSummary, AttackRecord):
    """The same within an audit."""
