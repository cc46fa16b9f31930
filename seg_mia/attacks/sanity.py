"""A short series of attacks that tells whether a network's gradients can be followed."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from seg_mia.attacks.base import attack_mode, usable
from seg_mia.attacks.best import mask_dice
from seg_mia.attacks.gradients import input_gradient
from seg_mia.attacks.pgd import pgd
from seg_mia.attacks.square import square
from seg_mia.losses import cross_entropy_loss
from seg_mia.models.heads import final
from seg_mia.results.robustness import SanityCheck

STEPS, QUERIES = 10, 50
EPSILON = 8 / 255
"""Radius of the ball in L-infinity."""


def sanity_check(model: nn.Module, x: Tensor, target: Tensor, *, epsilon: float = EPSILON) -> SanityCheck:
    """Run PGD of few and more steps, in larger balls and without a bound, and few queries without gradients.

    Costs 71 input gradients and 50 forward passes per image. PGD maximises the cross-entropy and is judged at
    its last iterate; without a bound, and against the queries, also the balanced one, judged at its best.

    Args:
        model: maps images in [0, 1] to logits (N, K, *s), or to a tuple of them with the final head first.
        x: images (N, C, *S) in [0, 1].
        target: ground truth masks (N, *s), 255 where ignored.
        epsilon: radius of the ball in L-infinity, at most 1/2.

    Raises:
        InputError: invalid inputs, a radius out of range, or a gradient that is not finite.
    """
    return summarised(sanity_values(model, x, target, epsilon=epsilon), epsilon=epsilon)


def sanity_values(
    model: nn.Module, x: Tensor, target: Tensor, *, epsilon: float = EPSILON
) -> dict[str, Tensor]:
    """Return the values (N,) of each image that `sanity_check` averages; arguments and errors as there."""

    def left(images: Tensor) -> Tensor:
        with attack_mode(model, queries=True), torch.no_grad():
            return mask_dice(final(model(usable(images))), target)

    few = pgd(model, x, target, epsilon=epsilon, step_size=epsilon / 4, steps=STEPS)
    many = pgd(model, x, target, epsilon=epsilon, step_size=epsilon / 4, steps=2 * STEPS)
    wide = pgd(model, x, target, epsilon=2 * epsilon, step_size=epsilon / 2, steps=STEPS)
    strong, free = (
        pgd(
            model, x, target, epsilon=radius, step_size=step, steps=steps, loss="balanced_cross_entropy",
            keep="best",
        )
        for radius, step, steps in ((epsilon, epsilon / 4, STEPS), (1.0, 0.1, 2 * STEPS))
    )  # fmt: skip
    blind = square(model, x, target, epsilon=epsilon, queries=QUERIES)
    return {
        "zero_gradient": _without_gradient(model, x, target),
        "dice_clean": left(x),
        "dice": left(few.images),
        "dice_more_steps": left(many.images),
        "dice_larger_radius": left(wide.images),
        "dice_best": left(strong.images),
        "dice_black_box": left(blind.images),
        "dice_unbounded": left(free.images),
    }


def summarised(values: Mapping[str, Tensor], *, epsilon: float) -> SanityCheck:
    """Return the means over the images of `sanity_values`, and the lowest of those in the ball."""
    means = {name: float(dice.nanmean()) for name, dice in values.items() if name != "zero_gradient"}
    best = min(means[name] for name in ("dice", "dice_more_steps", "dice_best"))
    without = values["zero_gradient"]
    return SanityCheck(
        images=len(without), epsilon=epsilon, zero_gradient=int(without.sum()), **means | {"dice_best": best}
    )


def _without_gradient(model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    """Return the labelled images on which the gradient of the cross-entropy is exactly zero, bool (N,)."""
    with attack_mode(model):
        images, mask = usable(x).clone().requires_grad_(), usable(target)
        gradient = input_gradient(cross_entropy_loss(final(model(images)), mask).sum(), images)
    return (gradient.flatten(1) == 0).all(1) & (mask != 255).flatten(1).any(1)
