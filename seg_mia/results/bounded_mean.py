"""Confidence intervals of means of bounded values over few images."""

from collections.abc import Mapping, Sequence

from scipy import stats
from torch import Tensor

from seg_mia.results.averages import average
from seg_mia.results.base import Average, Measure
from seg_mia.results.perturbation import PerturbationSummary
from seg_mia.results.robustness import LabelChange, OtherVictim

TAIL = 0.025
"""Error probability at each end of a 95 % interval."""


def over_images(average: Average, units: int, *, upper: float = 1.0) -> Measure:
    """Return a mean over images with its 95 % interval; no interval for fewer than two patients.

    Images of a patient are treated as one observation, so patients are counted. Each end adds one more
    observation of the worst value: 0 for the lower end, `upper` for the upper. Gaffke (2005, "Three test
    statistics for a nonparametric one-sided hypothesis on the mean of a nonnegative variable") weights such n
    + 1 values by a uniform Dirichlet and takes a quantile of their sum; here it is that of the Beta
    distribution with this sum's mean and variance. For binary outcomes it is the interval of Clopper and
    Pearson (1934): n of n give TAIL ** (1 / n) to 1, never an interval of zero width. In simulations
    (tests/results/test_bounded_mean.py) its coverage was at least 95 % from 2 images on, where 1.96 standard
    errors covered as little as 6 %.

    Args:
        average: mean of values in [0, most].
        units: number of patients, or of images if each is its own patient.
        upper: largest possible value of an image.
    """
    if average.mean is None or average.std is None or units < 2:
        return Measure(average.mean)
    mean, std = min(max(average.mean / upper, 0.0), 1.0), average.std / upper
    low, high = (_end(mean, std, units, worst, tail) for worst, tail in ((0.0, TAIL), (1.0, 1 - TAIL)))
    return Measure(average.mean, upper * min(low, mean), upper * max(high, mean))


def _end(mean: float, std: float, images: int, worst: float, tail: float) -> float:
    """Return one end of the interval of values in [0, 1]; `worst` is the value of one added image."""
    middle = (images * mean + worst) / (images + 1)
    variance = (images * (std**2 + mean**2) + worst**2) / (images + 1) - middle**2
    # Values that are all equal, up to rounding, have no Beta distribution.
    if variance <= 1e-12 or not 0 < middle < 1:
        return middle
    # Never wider than that of values which are all 0 or 1, the most that this mean allows.
    weight = max((images + 2) * middle * (1 - middle) / variance - 1, images + 1)
    return float(stats.beta.ppf(tail, weight * middle, weight * (1 - middle)))


def other_victims(results: Mapping[str, Average], names: Sequence[str], units: int) -> list[OtherVictim]:
    """Return the Dice of other victims, numbered from 1 in the names of measures.

    Args:
        results: averages by name, `otherN.dice_clean` and `otherN.dice` among them.
        names: of the victims, in order.
        units: number of patients.
    """
    rows = []
    for number, name in enumerate(names, 1):
        after = over_images(results[f"other{number}.dice"], units)
        before = results[f"other{number}.dice_clean"].mean
        rows.append(
            OtherVictim(victim=name, before=before, after=after.value, low=after.low, high=after.high)
        )
    return rows


def label_changes(values: Mapping[str, Tensor], groups: Sequence[str]) -> list[LabelChange]:
    """Return the Dice and the IoU of each label before and after, where there are several.

    Args:
        values: by name, (n,): `dice_clean_LABEL` and `dice_adversarial_LABEL`, NaN where undefined, and the
            same of `truth_iou`, if it was measured.
        groups: the patient of each image.
    """
    beginning = "dice_clean_"
    labels = [name.removeprefix(beginning) for name in values if name.startswith(beginning)]
    return [_label_change(label, values, groups) for label in labels]


def _label_change(label: str, values: Mapping[str, Tensor], groups: Sequence[str]) -> LabelChange:
    before, after = values[f"dice_clean_{label}"], values[f"dice_adversarial_{label}"]
    both = ~(before.isnan() | after.isnan())
    patients = {group for group, counts in zip(groups, both.tolist(), strict=True) if counts}
    ious = [values.get(f"truth_iou_{when}_{label}") for when in ("clean", "adversarial")]
    beginning, end, *overlaps = (
        Average(None, None, None, None, None) if part is None else average(part[both])
        for part in (before, after, *ious)
    )
    # An image has at most the Dice of before, or the best of those observed after, as in `dice_after`.
    measure = over_images(end, len(patients), upper=min(max(beginning.mean or 1.0, end.max or 0.0), 1.0))
    return LabelChange(
        label=label,
        images=int(both.sum()),
        before=beginning.mean,
        after=end.mean,
        iou_before=overlaps[0].mean,
        iou_after=overlaps[1].mean,
        units=len(patients),
        low=measure.low,
        high=measure.high,
    )


def dice_after(summary: PerturbationSummary) -> Measure | None:
    """Return the Dice with the ground truth after an attack, None if not measured.

    In the worst case an image keeps its Dice from before, or the best of those observed after.
    """
    if "dice_adversarial" not in summary.results:
        return None
    after = summary.results["dice_adversarial"]
    upper = max(summary.mean("dice_clean") or 1.0, after.max or after.mean or 0.0)
    return over_images(after, summary.units, upper=min(upper, 1.0))


def dice_lost(summary: PerturbationSummary) -> Measure | None:
    """Return the fraction of the Dice with the ground truth lost by an attack, None if not measured.

    The interval is that of the Dice after; the Dice before is treated as exact for the attacked images.
    """
    before, after = summary.mean("dice_clean"), dice_after(summary)
    if not before or after is None:
        return None
    value, low, high = (
        None if end is None else 1 - end / before for end in (after.value, after.high, after.low)
    )
    return Measure(value, low, high)
