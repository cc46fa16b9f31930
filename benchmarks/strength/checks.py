"""Signs that an attack is weaker than it should be, or that gradients are masked."""

from collections.abc import Iterator, Mapping
from itertools import combinations, pairwise

import torch
from torch import Tensor

BLIND = ("`square`", "`transfer`", "`universal`")
"""Beginnings of the names of attacks that see less than the weights, or one change for all images."""
ONE_STEP = "FGSM"
"""A single step of the radius passes over what lies nearer: a larger one may be weaker."""
FEW, MANY = "PGD as shipped", "PGD, as many"
SLACK = 0.01
"""Difference of mean Dice that is no sign."""


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
