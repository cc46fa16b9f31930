"""Signs that an attack is weaker than it should be, or that gradients are masked."""

from collections.abc import Iterator, Mapping
from itertools import combinations, pairwise

import torch
from torch import Tensor

from benchmarks.strength.attacks import Part, Values
from benchmarks.strength.victims import Attacked
from seg_mia.attacks.sanity import EPSILON, QUERIES, STEPS, sanity_values, summarised
from seg_mia.results.averages import average
from seg_mia.results.bounded_mean import over_images
from seg_mia.results.sanity import signs_of_masking
from seg_mia.results.tables import interval

BLIND = ("`square`", "`transfer`", "`universal`")
"""Beginnings of the names of attacks that see less than the weights, or one change for all images."""
ONE_STEP = "FGSM"
"""A single step of the radius passes over what lies nearer: a larger one may be weaker."""
FEW, MANY = "PGD as shipped", "PGD, as many"
SLACK = 0.01
"""Difference of mean Dice that is no sign."""
CHECKED = 4
"""Images on which gradients are checked, as in audits."""


def failed_checks(clean: Tensor, dice: Mapping[float, Mapping[str, Tensor]]) -> list[str]:
    """Return the checks that fail, in words: steps, radii, black boxes, equal results.

    Args:
        clean: Dice before any attack, (n,).
        dice: of each radius, the Dice (n,) that each attack leaves, by its name.
    """
    failed = [f"{name} raises the Dice" for name in _raising(clean, dice)]
    for radius, left in dice.items():
        failed += [f"{words} at {radius:g}/255" for words in _at_one_radius(left)]
    for small, large in pairwise(sorted(dice)):
        failed += [
            f"{name} is weaker at {large:g}/255 than at {small:g}/255"
            for name in dice[small]
            if not name.startswith((*BLIND, ONE_STEP))
            and dice[large][name].mean() > dice[small][name].mean() + SLACK
        ]
    return failed


def _raising(clean: Tensor, dice: Mapping[float, Mapping[str, Tensor]]) -> list[str]:
    limit = clean.mean() + SLACK
    return sorted({name for left in dice.values() for name, part in left.items() if part.mean() > limit})


def _blind(name: str) -> bool:
    return name.startswith(BLIND)


def _at_one_radius(left: Mapping[str, Tensor]) -> Iterator[str]:
    few, many = (next(part for name, part in left.items() if name.startswith(start)) for start in (FEW, MANY))
    if many.mean() > few.mean() + SLACK:
        yield "more steps of PGD are weaker"
    white = torch.stack([part for name, part in left.items() if not _blind(name)])
    for name, part in left.items():
        if _blind(name) and part.mean() < white.amin(0).mean() - SLACK:
            yield f"{name} is stronger than all attacks on the weights"
    for one, other in combinations(left, 2):
        if torch.equal(left[one], left[other]) and left[one].any():
            yield f"{one} and {other} leave the same to all digits"


def followed_gradients(attacked: Attacked) -> Part:
    """Return the series of attacks of an audit that tells whether a victim's gradients can be followed."""

    def run() -> Values:
        images, masks = (part[:CHECKED] for part in attacked.shown)
        return sanity_values(attacked.followed, images, masks)

    key = f"gradients of {CHECKED} images, {255 * EPSILON:g}, {STEPS} steps, {QUERIES} queries"
    return Part("gradients", key, run)


def gradients_in_words(values: Values, attacked: Attacked) -> str:
    """Return which of the five checks of `followed_gradients` fail, and the Dice that they compare."""
    check = summarised(values, epsilon=EPSILON)
    units = len(set(attacked.groups[: check.images])) or check.images

    def left(name: str) -> str:
        return interval(over_images(average(values[name]), units))

    return (
        f"checks of the gradients, {check.images} images, {255 * EPSILON:g}/255: "
        f"{'; '.join(signs_of_masking(check)) or 'all five hold'}. Dice {left('dice_clean')} before, "
        f"{left('dice')} after {STEPS} steps of PGD, {left('dice_more_steps')} after {2 * STEPS}, "
        f"{left('dice_larger_radius')} at twice the radius, {left('dice_best')} at the best of "
        f"{STEPS} steps, {left('dice_black_box')} after {QUERIES} queries, {left('dice_unbounded')} without "
        f"a bound; no gradient on {check.zero_gradient} of {check.images} images"
    )
