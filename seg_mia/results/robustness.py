"""Results of strong attacks: members of ensembles, minimal norms, Dice over the radius, checks."""

from collections.abc import Mapping, Sequence
from math import inf, isnan

import torch
from pydantic import Field
from scipy import stats
from torch import Tensor

from seg_mia.results.base import Measure, Number, Result

TAIL = 0.025
"""Error probability at each end of a 95 % interval."""
LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)


class LabelChange(Result):
    """One label, or class, before and after a perturbation.

    Attributes:
        label: its name where the data names it, else `class1` and so on.
        images: how many have both Dice: those that show the label, or where it is predicted before and after.
        before: mean Dice before, over these images; None if there are none.
        after: mean Dice after, over the same images.
        iou_before: mean IoU with the truth before, over the same images; None where it was not measured.
        iou_after: mean IoU after.
        units: of how many patients these images are; None in files that do not say it.
        low: lower end of the 95 % interval of the Dice after, over patients.
        high: upper end.
    """

    label: str
    images: int
    before: Number
    after: Number
    iou_before: Number = None
    iou_after: Number = None
    units: int | None = None
    low: Number = None
    high: Number = None

    @property
    def measure(self) -> Measure:
        """The Dice after, with its interval."""
        return Measure(self.after, self.low, self.high)


class MemberRow(Result):
    """What one member of an ensemble contributes.

    Attributes:
        loss: its name.
        won: share of the images that it leaves the lowest Dice; ties go to the first.
        alone: mean Dice that it leaves alone.
        without: mean Dice that the ensemble leaves without it; None for a single member.
    """

    loss: str
    won: Number
    alone: Number
    without: Number


def member_rows(values: Mapping[str, Tensor], members: Sequence[str]) -> list[MemberRow]:
    """Return a row per member of an ensemble.

    Args:
        values: by name, (n,): `member`, the index that an image was given, and NAME.dice.
        members: names of the losses.
    """
    dice = torch.stack([values[f"{name}.dice"] for name in members])
    return [
        MemberRow(
            loss=name,
            won=float((values["member"] == number).double().mean()),
            alone=float(dice[number].mean()),
            without=_worst(dice[[position for position in range(len(members)) if position != number]]),
        )
        for number, name in enumerate(members)
    ]


def _worst(dice: Tensor) -> float | None:
    return float(dice.amin(0).mean()) if len(dice) else None


class MinimalNorms(Result):
    """Distribution of the smallest changes that fool a victim; an image that none fooled counts as infinite.

    Attributes:
        images: how many were attacked.
        found: for how many of them a change was found.
        quantiles: norm below which this share of the images is fooled, None where it is infinite.
        low: lower end of the median's 95 % interval, by the binomial distribution of ranks over patients.
        high: its upper end; None where it is infinite.
        norms: of the images, ascending; None where no change was found.
    """

    images: int
    found: int
    quantiles: dict[str, Number]
    low: Number
    high: Number
    norms: list[Number]


def minimal_norms(values: Tensor, units: int) -> MinimalNorms | None:
    """Return the distribution of minimal norms (n,), NaN where none was found; None for no image.

    `units` is the number of patients: with several images each, ranks are as uncertain as theirs.
    """
    norms = sorted(inf if isnan(value) else value for value in values.tolist())
    count = len(norms)
    if not count:
        return None
    rank = int(stats.binom.ppf(TAIL, units, 0.5)) * count // units
    return MinimalNorms(
        images=count,
        found=sum(norm < inf for norm in norms),
        quantiles={f"{level:g}": norms[min(int(level * count), count - 1)] for level in LEVELS},
        low=norms[rank - 1] if rank else 0.0,
        high=norms[count - rank] if rank else None,
        norms=list(norms),
    )


class RobustnessPoint(Result):
    """What the worst case of each image leaves in one ball.

    Attributes:
        radius: of the ball in L-infinity, in grey levels of 8 bits.
        dice: mean Dice with the truth.
        low: lower end of its 95 % interval over patients.
        high: upper end.
        fooled: share of the images with at most the part of their clean Dice that counts as fooled.
    """

    radius: float
    dice: Number
    low: Number
    high: Number
    fooled: Number

    @property
    def measure(self) -> Measure:
        """The Dice with its interval."""
        return Measure(self.dice, self.low, self.high)


class RobustnessCurve(Result):
    """Dice over the radius of the ball.

    Attributes:
        fooled: share of its clean Dice below which an image counts as fooled.
        points: by radius, ascending; the first is the clean Dice, at 0.
    """

    fooled: float
    points: list[RobustnessPoint]

    def at(self, radius: float) -> RobustnessPoint | None:
        """Return the point of a radius, None if it was not attacked."""
        return next((point for point in self.points if abs(point.radius - radius) < 1e-3), None)


class OtherVictim(Result):
    """What images changed for one victim do to another.

    Attributes:
        victim: its run.
        before: mean Dice of the images before.
        after: mean Dice after.
        low: lower end of its 95 % interval over patients.
        high: upper end.
    """

    victim: str
    before: Number
    after: Number
    low: Number
    high: Number

    @property
    def measure(self) -> Measure:
        """The Dice after, with its interval."""
        return Measure(self.after, self.low, self.high)


class FittingSet(Result):
    """What a universal change was fitted to: other patients than those it is evaluated on.

    Attributes:
        images: how many.
        units: of how many patients.
    """

    images: int
    units: int


class WorstCase(Result):
    """Effort of an attack that follows the victim's gradients and keeps each image's strongest iterate.

    Attributes:
        norm: of the ball: linf or l2.
        radius: of the ball, the largest of several, in grey levels of [0, 1].
        gradients: per image, by loss; those in other balls on the way to this one included.
        in_ball: those of them in this ball itself, by loss.
        reach: how far its steps in this ball lead together; None in files that do not say it.
    """

    norm: str
    radius: float
    gradients: dict[str, int]
    in_ball: dict[str, int] = Field(default_factory=dict)
    reach: Number = None


class SanityCheck(Result):
    """A short series of attacks on a few images, each of which must not be weaker than another.

    Attributes:
        images: how many.
        epsilon: radius of the ball in L-infinity.
        zero_gradient: of how many the gradient of the cross-entropy is exactly zero everywhere.
        dice_clean: mean Dice before.
        dice: after few steps of PGD.
        dice_more_steps: after twice as many.
        dice_larger_radius: within twice the radius.
        dice_best: the lowest of those in the ball.
        dice_black_box: after a few queries without gradients.
        dice_unbounded: without a bound.
    """

    images: int
    epsilon: float
    zero_gradient: int
    dice_clean: Number
    dice: Number
    dice_more_steps: Number
    dice_larger_radius: Number
    dice_best: Number
    dice_black_box: Number
    dice_unbounded: Number
