"""Dice over the radius of the ball, from each image's worst case."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from seg_mia.results.averages import average
from seg_mia.results.bounded_mean import over_images
from seg_mia.results.robustness import RobustnessCurve, RobustnessPoint

COLUMNS = tuple(RobustnessPoint.model_fields)


def at_radius(radius: float) -> str:
    """Return the name of the Dice at a radius, in grey levels of 8 bits."""
    return f"dice.at_{radius:g}"


def dice_curve(
    values: Mapping[str, Tensor], radii: Sequence[float], *, fooled: float, units: int
) -> RobustnessCurve:
    """Return the mean Dice at each radius with its interval.

    Args:
        values: by name, (n,): `dice_clean` and the Dice `at_radius` of each image.
        radii: in grey levels of 8 bits.
        fooled: share of its clean Dice below which an image counts as fooled.
        units: number of patients.
    """
    clean = values["dice_clean"].double()
    columns = {0.0: clean, **{radius: values[at_radius(radius)].double() for radius in radii}}
    highest = clean.max().item() if len(clean) else 1.0
    points = []
    for radius, dice in columns.items():
        measure = over_images(average(dice), units, upper=highest or 1.0)
        reached = (dice <= fooled * clean).double().mean().item()
        points.append(
            RobustnessPoint(
                radius=radius, dice=measure.value, low=measure.low, high=measure.high, fooled=reached
            )
        )
    return RobustnessCurve(fooled=fooled, points=points)
