"""A short series of attacks that tells whether a network's gradients can be followed."""

import torch
from torch import Tensor, nn

from seg_mia.attacks.base import attack_mode, input_gradient, usable
from seg_mia.attacks.best import mask_dice
from seg_mia.attacks.pgd import pgd
from seg_mia.attacks.square import square
from seg_mia.losses import cross_entropy_loss
from seg_mia.models.heads import final
from seg_mia.results.robustness import SanityCheck

STEPS, QUERIES = 10, 50


def sanity_check(model: nn.Module, x: Tensor, target: Tensor, *, epsilon: float = 8 / 255) -> SanityCheck:
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

    def left(images: Tensor) -> float:
        with attack_mode(model), torch.no_grad():
            return float(mask_dice(final(model(usable(images))), target).nanmean())

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
    dice = left(few.images), left(many.images)
    return SanityCheck(
        images=len(x),
        epsilon=epsilon,
        zero_gradient=int(_without_gradient(model, x, target).sum()),
        dice_clean=left(x),
        dice=dice[0],
        dice_more_steps=dice[1],
        dice_larger_radius=left(wide.images),
        dice_best=min(*dice, left(strong.images)),
        dice_black_box=left(blind.images),
        dice_unbounded=left(free.images),
    )


def _without_gradient(model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    """Return the labelled images on which the gradient of the cross-entropy is exactly zero, bool (N,)."""
    with attack_mode(model):
        images, mask = usable(x).clone().requires_grad_(), usable(target)
        gradient = input_gradient(cross_entropy_loss(final(model(images)), mask).sum(), images)
    return (gradient.flatten(1) == 0).all(1) & (mask != 255).flatten(1).any(1)
