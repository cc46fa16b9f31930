"""The worst case of each image in balls of growing radius, by APGD that goes on from one ball to the next."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from seg_mia.attacks.apgd import FIRST_STEP, Stage, random_start
from seg_mia.attacks.ball import check_radius, projected
from seg_mia.attacks.base import (
    Adversarial,
    attack_mode,
    check_inputs,
    check_output,
    steps_bar,
    usable,
)
from seg_mia.attacks.best import Best, mask_dice
from seg_mia.attacks.objectives import OBJECTIVES, ObjectiveName
from seg_mia.attacks.white_box import WhiteBox
from seg_mia.errors import InputError
from seg_mia.losses import LOSSES
from seg_mia.metrics.distance import linf_norm
from seg_mia.metrics.shapes import per_image
from seg_mia.models.following import followed
from seg_mia.models.heads import final
from seg_mia.results.robustness import WorstCase

GREY = 255
BISECTIONS = 6


def robustness_curve(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    *,
    radii: Sequence[float] = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0),
    steps: int = 20,
    losses: Sequence[ObjectiveName] = ("balanced_cross_entropy", "dice"),
    fooled: float = 0.5,
    seed: int = 0,
    on_step: Callable[[int], None] | None = None,
) -> Adversarial:
    """Find each image's lowest foreground Dice in L-infinity balls of several radii.

    `apgd` runs in one ball after the other with each loss, from the image of lowest Dice so far, whose change
    is stretched to the new radius. The image found in a smaller ball is a candidate in all larger ones, so an
    image's Dice never rises with the radius. Images of Dice 0 are finished. The smallest change that leaves
    at most `fooled` of the clean Dice is then sought by clipping: six forward passes.

    The image of each ball is shown once more as by a query. A smoothed network answers it with its release
    instead of the function that its gradients belong to: the Dice at a radius is that of the release, by
    which it can also rise. The search and `minimal_linf` go by the function.

    Args:
        model: maps images in [0, 1] to logits (N, K, *s), or to a tuple of them with the final head first.
        x: images (N, C, *S) in [0, 1].
        target: ground truth masks (N, *s), 255 where ignored.
        radii: of the balls, ascending, in grey levels of 8 bits: 8 is 8/255.
        steps: iterations in each ball with each loss, at least 1.
        losses: names in `seg_mia.attacks.objectives.OBJECTIVES`.
        fooled: share of its clean Dice below which an image counts as fooled, in (0, 1).
        seed: of the random start, which is the same for all images and losses.
        on_step: callback on_step(n) before iteration n of all.

    Returns:
        images of the largest ball, with notes `dice`, that of the search, dice.at_R for each radius R, that
        of a query, and `minimal_linf`, the smallest change found that fools (NaN where none does).

    Raises:
        InputError: invalid inputs, or options out of range.
    """
    check_inputs(x, target)
    check_curve(radii, steps, losses, fooled)
    with attack_mode(model):
        x, target = usable(x), usable(target)
        search = _Search(model, x, target, fooled)
        for number, radius in enumerate(radii):
            for turn, loss in enumerate(losses):

                def show(n: int, before: int = (number * len(losses) + turn) * steps) -> None:
                    if on_step is not None:
                        on_step(before + n)

                search.widen(radius / GREY, loss, steps, seed, show)
            search.note(radius)
        search.clip()
    return search.result()


class _Search:
    """The best image so far, its Dice at each radius, and the least change that fools."""

    def __init__(self, model: nn.Module, x: Tensor, target: Tensor, fooled: float) -> None:
        self.model, self.x, self.target = model, x, target
        with torch.no_grad():
            logits = final(model(x))
        check_output(logits, target)
        self.best = Best(x)
        self.best.keep(0, x, logits, target, LOSSES["dice"](logits, target))
        self.limit = fooled * self.best.dice
        self.dice: dict[str, Tensor] = {}
        self.failed = torch.zeros_like(self.limit)
        met = self.best.dice <= self.limit
        self.least = torch.where(met, 0.0, torch.nan).to(self.limit)
        self.fooling = x.clone()

    def widen(
        self,
        epsilon: float,
        loss: ObjectiveName,
        steps: int,
        seed: int,
        on_step: Callable[[int], None],
    ) -> None:
        """Search a ball of radius epsilon with one loss, from the best image stretched to it."""
        going = (~self.best.finished).nonzero().flatten()
        if not len(going):
            return
        x, target, part = self.x[going], self.target[going], self.best.part(going)
        change = part.image - x
        size = per_image(linf_norm(change), x)
        stretched = projected(x + change * (epsilon / size), x, "linf", epsilon)
        start = torch.where(size > 0, stretched, random_start(x, "linf", epsilon, seed))
        Stage(x, target, "linf", epsilon, loss, steps).run(self.model, start, steps, part, on_step)
        self.best.update(going, part)

    def note(self, radius: float) -> None:
        """Record the worst case of a radius, and which images are fooled for the first time."""
        with torch.no_grad(), followed(by_gradients=False):
            answer = mask_dice(final(self.model(self.best.image)), self.target)
        self.dice[f"dice.at_{radius:g}"] = answer.nan_to_num(nan=0.0).to(self.best.dice)
        met = self.best.dice <= self.limit
        new = met & self.least.isnan()
        self.fooling = torch.where(per_image(new, self.x), self.best.image, self.fooling)
        self.least = torch.where(new, linf_norm(self.fooling - self.x), self.least)
        self.failed = torch.where(met, self.failed, radius / GREY)

    def clip(self) -> None:
        """Halve the distance between the largest radius that did not fool and the change that did."""
        change, high = self.fooling - self.x, self.least
        low = torch.minimum(self.failed, high)
        for _ in range(BISECTIONS):
            middle = ((low + high) / 2).nan_to_num(nan=0.0)
            bound = per_image(middle, change)
            with torch.no_grad():
                logits = final(self.model((self.x + change.clamp(-bound, bound)).clamp(0, 1)))
            met = mask_dice(logits, self.target).to(self.limit) <= self.limit
            low, high = torch.where(met, low, middle), torch.where(met, middle, high)
        self.least = torch.where(self.least > 0, high, self.least)

    def result(self) -> Adversarial:
        """Return the images of the largest radius with their notes."""
        notes = {"dice": self.best.dice, **self.dice, "minimal_linf": self.least}
        return Adversarial(self.best.image, notes)


def check_curve(radii: Sequence[float], steps: int, losses: Sequence[ObjectiveName], fooled: float) -> None:
    """Raise InputError for options out of range."""
    if not radii or list(radii) != sorted(set(radii)):
        raise InputError(f"radii must be different and ascending, got {list(radii)}; try [1, 2, 4, 8]")
    for radius in radii:
        check_radius(radius / GREY, "linf")
    if steps < 1 or not 0 < fooled < 1:
        raise InputError(
            f"steps must be at least 1, fooled in (0, 1), got {steps} and {fooled}; try 20 and 0.5"
        )
    if not losses or len(set(losses)) < len(losses) or not set(losses) <= set(OBJECTIVES):
        raise InputError(f"losses must be different names of {', '.join(OBJECTIVES)}, got {list(losses)}")


class Curve(WhiteBox):
    """Configurable form of `robustness_curve`."""

    attacker_knowledge = "weights"
    function = staticmethod(robustness_curve)
    checks = (check_curve,)

    @property
    def radii(self) -> tuple[float, ...]:
        """The radii, in grey levels of 8 bits."""
        return tuple(self.settings["radii"])

    @property
    def worst_case(self) -> WorstCase:
        """The steps in all balls, with each loss; each ball begins at the worst case of the one before."""
        steps, losses, radius = self.settings["steps"], self.settings["losses"], max(self.radii) / GREY
        return WorstCase(
            norm="linf",
            radius=radius,
            gradients=dict.fromkeys(losses, steps * len(self.radii)),
            in_ball=dict.fromkeys(losses, steps),
            reach=steps * FIRST_STEP * radius,
        )

    def run(self, model: nn.Module, x: Tensor, target: Tensor) -> Adversarial:
        """Run `robustness_curve` with a progress bar."""
        settings = self.settings
        total = settings["steps"] * len(settings["losses"]) * len(settings["radii"])
        with steps_bar("robustness-curve", total) as show:
            return robustness_curve(self.differentiable(model), x, target, on_step=show, **self.knobs)
