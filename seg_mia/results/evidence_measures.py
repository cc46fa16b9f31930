"""Groups 7 to 9 of the evidence: guarantees, robustness, utility."""

from typing import Literal

from pydantic import Field

from seg_mia.results.base import Measure, Number, Result
from seg_mia.results.privacy import Pretrained
from seg_mia.results.robustness import LabelChange


class CurvePoint(Result):
    """The most that a promise permits.

    Attributes:
        fpr: false positive rate.
        tpr: largest true positive rate of any attack on one unit.
    """

    fpr: float
    tpr: float


class PromiseAudit(Result):
    """One attempt to contradict a promise.

    Attributes:
        by: an attack's name, or canaries.
        proved: largest epsilon that it shows, beside all others compared with the promises of the row; None
            if not computed at this confidence.
        ceiling: what perfect guesses on as many samples would show, likewise.
        comparable: whether it is for the unit of the promise.
        assumes_independence: whether it assumes that the samples of one training are independent; else it is
            proved by random coins.
    """

    by: str
    proved: Number
    ceiling: Number
    comparable: bool
    assumes_independence: bool = True


class Promise(Result):
    """Group 7: a guarantee of differential privacy, and the attempts to contradict it.

    Attributes:
        row: row of the comparison.
        defence: name of the row in tables.
        seed: seed of the victim.
        unit: whose presence is protected.
        adjacency: which data sets are told apart; empty if not recorded.
        epsilon: privacy spent; None if infinite.
        replace_one: the same if one unit is replaced by another; None if infinite or not recorded.
        delta: of (epsilon, delta).
        accountant: method of accounting; empty if not recorded.
        sampling: sampling rate, steps and noise that were used, in words.
        declared: whether the number of units was declared; else it is taken as public.
        permitted_auc: largest AUC of any attack on one unit; None if not known.
        curve: trade-off curve of the promise.
        curve_by: what the curve follows from.
        compared: number of bounds that are compared with promises of the row and hold together at 95 %.
        audits: attempts to contradict it.
        above: attacks whose AUC exceeds `permitted_auc` by a bound that holds for all numbers at once.
        pretrained: weights that the training started from, which the promise does not cover; empty if no
            option gave any, None if not recorded.
    """

    row: int
    defence: str
    seed: int
    unit: Literal["image", "patient"]
    adjacency: str
    epsilon: Number
    replace_one: Number = None
    delta: Number
    accountant: str
    sampling: str
    declared: bool
    permitted_auc: Number
    curve: list[CurvePoint]
    curve_by: str
    compared: int
    audits: list[PromiseAudit]
    above: list[str]
    pretrained: list[Pretrained] | None = None


class Robustness(Result):
    """Group 8: one perturbation of one victim.

    Attributes:
        row: row of the comparison.
        defence: name of the row in tables.
        attack: name in tables.
        seed: seed of the victim.
        access: what the attacker sees of the victim.
        budget: size of the allowed change, in words; empty if it is not bounded.
        images: number of attacked images.
        patients: number of their patients.
        dice_before: mean Dice before.
        dice_after: worst-case Dice after.
        dice_lost: share of the Dice lost.
        smallest_change: median of the smallest changes found, as a share of the grey range; None if unknown.
        signs: signs that the attack failed, not that the victim is robust.
        labels: each of several classes or of labels that may overlap; empty for one foreground class.
    """

    row: int
    defence: str
    attack: str
    seed: int
    access: str
    budget: str
    images: int
    patients: int
    dice_before: Number
    dice_after: Measure | None
    dice_lost: Measure | None
    smallest_change: Measure | None
    signs: list[str]
    labels: list[LabelChange] = Field(default_factory=list)


class RadiusDice(Result):
    """The worst case in one ball.

    Attributes:
        radius: of the ball in L-infinity, in grey levels of 8 bits; 0 for unchanged images.
        dice: mean Dice that each image's worst case leaves.
        fooled: share of the images that count as fooled.
    """

    radius: float
    dice: Measure
    fooled: Number


class CurveOfDice(Result):
    """Group 8: worst-case Dice over the radius.

    Attributes:
        row: row of the comparison.
        defence: name of the row in tables.
        attack: name in tables.
        seed: seed of the victim.
        images: number of attacked images.
        patients: number of their patients.
        points: by radius, ascending, from 0.
    """

    row: int
    defence: str
    attack: str
    seed: int
    images: int
    patients: int
    points: list[RadiusDice]


class Certificate(Result):
    """Group 8: what no attack in a ball can change of the network smoothed by noise.

    Attributes:
        row: row of the comparison.
        defence: name of the row in tables.
        attack: name of the certification in tables.
        seed: seed of the victim.
        images: number of certified images.
        patients: number of their patients.
        sigma: standard deviation of the noise.
        radius: L2 norm below which no change alters a certified class.
        probability: least chance that all certificates of an image hold.
        dice_clean: mean Dice of the network without noise.
        dice_smoothed: mean Dice of the smoothed network.
        dice_certified: mean Dice with abstentions counted as wrong.
        abstained: share of pixels without a certificate.
    """

    row: int
    defence: str
    attack: str
    seed: int
    images: int
    patients: int
    sigma: float
    radius: float
    probability: float
    dice_clean: Measure
    dice_smoothed: Measure
    dice_certified: Measure
    abstained: Measure


class ExposedEffect(Result):
    """What a defence does for the patients that were most exposed without it.

    Attributes:
        attack: the attack that ranks them.
        patients: number of the most exposed members: a tenth of them, by the first row's scores.
        before: share of them that the attack finds in the first row, at a false positive rate of 10 %.
        after: the same share in this row.
        all_after: share of all members that it finds in this row.
    """

    attack: str
    patients: int
    before: Measure
    after: Measure
    all_after: Measure


class LabelDice(Result):
    """Group 9: segmentation of one label, or class.

    Attributes:
        label: its name where the data names it, else `class1` and so on.
        members: mean Dice on the members that show or predict it; None if none does.
        nonmembers: mean Dice on such non-members.
    """

    label: str
    members: Measure
    nonmembers: Measure


class Utility(Result):
    """Group 9: segmentation of one victim, at equal footing with the others.

    Attributes:
        row: row of the comparison.
        defence: name of the row in tables.
        seed: seed of the victim.
        members: mean Dice on members.
        nonmembers: mean Dice on non-members.
        cost: Dice on non-members less that of the first row, on the same samples; None for the first row.
        exposed: effect on the most exposed patients; None for the first row, or without scores.
        labels: each of several classes or of labels that may overlap; empty for one foreground class.
    """

    row: int
    defence: str
    seed: int
    members: Measure
    nonmembers: Measure
    cost: Measure | None
    exposed: ExposedEffect | None
    labels: list[LabelDice] = Field(default_factory=list)
