"""Steps that halve themselves: APGD of Croce and Hein, ICML 2020, with the radii of SEA, ECCV 2024."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from seg_mia.attacks.ball import Norm, check_radius, direction, projected
from seg_mia.attacks.base import (
    Adversarial,
    attack_mode,
    check_inputs,
    check_output,
    steps_bar,
    usable,
)
from seg_mia.attacks.best import Best
from seg_mia.attacks.gradients import input_gradient
from seg_mia.attacks.objectives import OBJECTIVES, ObjectiveName, comparable
from seg_mia.attacks.white_box import WhiteBox
from seg_mia.errors import InputError
from seg_mia.losses import Loss
from seg_mia.metrics.shapes import per_image
from seg_mia.models.heads import final
from seg_mia.results.robustness import WorstCase

STAGES = ((2.0, 0.3), (1.5, 0.3), (1.0, 0.4))
"""Radius of each stage in units of epsilon, and its share of the steps (SEA, section 3.3)."""
FIRST_STEP = 2
"""In units of epsilon."""
MOMENTUM = 0.75
RISING = 0.75
"""Share of steps that must raise the loss between two checkpoints for the step size to stay."""


def apgd(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    *,
    norm: Norm = "linf",
    epsilon: float = 8 / 255,
    steps: int = 100,
    loss: ObjectiveName = "dice",
    staged: bool = False,
    seed: int = 0,
    on_step: Callable[[int], None] | None = None,
) -> Adversarial:
    """Maximise a loss on the ground truth within a ball, without a step size to choose.

    Steps of 2 epsilon with momentum 0.75; at checkpoints, ever closer, an image's step is halved and the
    image returns to its iterate of highest loss, if fewer than 75 % of its steps raised the loss or neither
    step nor highest loss changed since the last checkpoint. Staged, as published for robustly trained
    networks: the first 30 % of the steps in a ball of 2 epsilon, the next 30 % in 1.5 epsilon, each stage
    from the best iterate of the one before, projected. Small plainly trained networks resisted that better,
    with 60 and with 300 steps: most steps then serve balls whose worst cases do not survive the projection.
    Every image has its own step. One forward pass and one input gradient per step, one more forward pass per
    stage.

    Args:
        model: maps images in [0, 1] to logits (N, K, *s), or to a tuple of them with the final head first.
        x: images (N, C, *S) in [0, 1].
        target: ground truth masks (N, *s), 255 where ignored.
        norm: norm of the ball, over all channels and pixels of an image: "linf" or "l2".
        epsilon: radius of the ball, in grey levels of [0, 1].
        steps: iterations in all, at least 1, staged at least 4.
        loss: a name in `seg_mia.attacks.objectives.OBJECTIVES`.
        staged: begin in larger balls, for networks trained against attacks.
        seed: of the random start, which is the same for all images.
        on_step: callback on_step(n) before iteration n.

    Returns:
        each image's iterate of lowest foreground Dice, of highest loss among equals, with notes `loss_clean`
        and `loss_adversarial` (for a loss that depends on the step or leaves pixels out, the soft Dice loss),
        and `dice`, which may be that of the image itself.

    Raises:
        InputError: invalid inputs, or options out of range.
    """
    check_inputs(x, target)
    check_radius(epsilon, norm)
    check_steps(steps, staged)
    measure = comparable(loss)
    with attack_mode(model):
        x, target = usable(x), usable(target)
        with torch.no_grad():
            logits = final(model(x))
        check_output(logits, target)
        clean = measure(logits, target)
        best = Best(x)
        best.keep(0, x, logits, target, clean)
        ball = Stage(x, target, norm, epsilon, loss, steps)
        _through_stages(model, ball, best, staged, seed, on_step)
    notes = {"loss_clean": clean, "loss_adversarial": best.loss, "dice": best.dice}
    return Adversarial(best.image, notes)


def _through_stages(
    model: nn.Module,
    ball: "Stage",
    best: Best,
    staged: bool,
    seed: int,
    on_step: Callable[[int], None] | None,
) -> None:
    """Run the stages, each from the best iterate of the one before; `best` is that of the last."""
    first = ball.epsilon * (STAGES[0][0] if staged else 1)
    start, done = random_start(ball.x, ball.norm, first, seed), 0
    for factor, budget in stages(ball.total, staged):
        stage = replace(ball, epsilon=factor * ball.epsilon, done=done)
        stage_best = best if factor == 1 else Best(ball.x)
        stage.run(model, projected(start, ball.x, ball.norm, stage.epsilon), budget, stage_best, on_step)
        start, done = stage_best.image, done + budget


def stages(steps: int, staged: bool) -> Iterator[tuple[float, int]]:
    """Yield the radius of each stage in units of epsilon, and its number of steps."""
    if not staged:
        yield 1.0, steps
        return
    early = [(factor, max(1, int(share * steps))) for factor, share in STAGES[:-1]]
    yield from early
    yield STAGES[-1][0], steps - sum(budget for _, budget in early)


def random_start(x: Tensor, norm: Norm, epsilon: float, seed: int) -> Tensor:
    """Return images moved to the surface of the ball by noise that is the same for all of them."""
    draw = torch.Generator().manual_seed(seed)
    noise = (2 * torch.rand(x.shape[1:], generator=draw, dtype=torch.float32) - 1).to(x)[None]
    length = noise.abs().amax() if norm == "linf" else noise.norm()
    return (x + epsilon * noise / length).clamp(0, 1)


def check_steps(steps: int, staged: bool) -> None:
    """Raise InputError for too few steps."""
    if steps < (4 if staged else 1):
        raise InputError(
            f"steps must be at least 1, of staged radii at least 4, got {steps}; try 100, or staged false"
        )


def checkpoints(steps: int) -> list[int]:
    """Return the iterations at which step sizes are reconsidered: 0.22 of the steps, then ever closer."""
    gap, shortest, closer = max(1, int(0.22 * steps)), max(1, int(0.06 * steps)), max(1, int(0.03 * steps))
    points = [gap]
    while points[-1] < steps:
        gap = max(gap - closer, shortest)
        points.append(points[-1] + gap)
    return points


@dataclass
class Stage:
    """APGD in one ball.

    Attributes:
        x: images, as in `apgd`.
        target: as in `apgd`.
        norm: as in `apgd`.
        epsilon: radius of this ball.
        loss: as in `apgd`.
        total: steps of all stages, for losses with a schedule.
        done: steps before this stage.
    """

    x: Tensor
    target: Tensor
    norm: Norm
    epsilon: float
    loss: ObjectiveName
    total: int
    done: int = 0

    def run(
        self,
        model: nn.Module,
        image: Tensor,
        steps: int,
        best: Best,
        on_step: Callable[[int], None] | None,
    ) -> None:
        """Take the steps from a first iterate, and show every iterate to `best`."""
        control, previous, due = _Control(image, FIRST_STEP * self.epsilon), image, checkpoints(steps)
        for n in range(steps):
            if on_step is not None:
                on_step(self.done + n)
            image = image.detach().requires_grad_()
            logits = final(model(image))
            objective = OBJECTIVES[self.loss](logits, self.target, (self.done + n) / self.total, False)
            gradient = input_gradient(objective.sum(), image)
            image = image.detach()
            value = self.measure(logits.detach(), self.target)
            best.keep(self.done + n + 1, image, logits, self.target, value)
            image, previous, gradient = control.take(
                image, previous, gradient, value, at_checkpoint=n in due, first=n == 0
            )
            image, previous = self._moved(image, previous, gradient, control.step, first=n == 0)
            if bool(best.finished.all()):
                return
        with torch.no_grad():
            logits = final(model(image))
            best.keep(self.done + steps + 1, image, logits, self.target, self.measure(logits, self.target))

    @property
    def measure(self) -> Loss:
        """The loss that compares iterates."""
        return comparable(self.loss)

    def _moved(
        self, image: Tensor, previous: Tensor, gradient: Tensor, step: Tensor, *, first: bool
    ) -> tuple[Tensor, Tensor]:
        """Return the next iterate and the one before it."""
        aim = image + per_image(step, image) * direction(gradient, self.norm)
        aim = projected(aim, self.x, self.norm, self.epsilon)
        share = 1.0 if first else MOMENTUM
        moved = image + share * (aim - image) + (1 - share) * (image - previous)
        return projected(moved, self.x, self.norm, self.epsilon), image


class _Control:
    """Step size of each image, halved at checkpoints where its loss no longer rises."""

    def __init__(self, image: Tensor, step: float) -> None:
        count = len(image)
        self.step = image.new_full((count,), step)
        self.image, self.gradient = image, torch.zeros_like(image)
        self.highest = image.new_full((count,), -torch.inf)
        self.last = self.highest.clone()
        self.rises = torch.zeros(count, dtype=torch.int64, device=image.device)
        self.taken = 0
        self.before = self.highest.clone()
        self.halved = torch.ones(count, dtype=torch.bool, device=image.device)

    def take(
        self,
        image: Tensor,
        previous: Tensor,
        gradient: Tensor,
        value: Tensor,
        *,
        at_checkpoint: bool,
        first: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Record an iterate; return it, the one before and its gradient, or those to return to."""
        value = value.to(self.highest)
        self.rises += (value > self.last) & (not first)
        self.taken += not first
        self.last = value
        higher = value > self.highest
        self.highest = torch.where(higher, value, self.highest)
        self.image = torch.where(per_image(higher, image), image, self.image)
        self.gradient = torch.where(per_image(higher, image), gradient, self.gradient)
        if not at_checkpoint:
            return image, previous, gradient
        halve = (self.rises < RISING * self.taken) | (~self.halved & (self.highest <= self.before))
        self.step = torch.where(halve, self.step / 2, self.step)
        self.halved, self.before, self.taken = halve, self.highest, 0
        self.rises = torch.zeros_like(self.rises)
        back = per_image(halve, image)
        image = torch.where(back, self.image, image)
        self.last = torch.where(halve, self.highest, self.last)
        return image, torch.where(back, image, previous), torch.where(back, self.gradient, gradient)


def effort_of(settings: Mapping[str, Any], losses: Sequence[str]) -> WorstCase:
    """Return the effort of `apgd` with these settings on each of the losses."""
    steps, radius = settings["steps"], settings["epsilon"]
    *_, (_, last) = stages(steps, settings["staged"])
    return WorstCase(
        norm=settings["norm"],
        radius=radius,
        gradients=dict.fromkeys(losses, steps),
        in_ball=dict.fromkeys(losses, last),
        reach=last * FIRST_STEP * radius,
    )


class Apgd(WhiteBox):
    """Configurable form of `apgd`."""

    attacker_knowledge = "weights"
    function = staticmethod(apgd)
    checks = (check_radius, check_steps)

    @property
    def worst_case(self) -> WorstCase:
        """All steps, with the loss."""
        return effort_of(self.settings, [self.settings["loss"]])

    def run(self, model: nn.Module, x: Tensor, target: Tensor) -> Adversarial:
        """Run `apgd` with a progress bar."""
        with steps_bar("apgd", self.settings["steps"]) as show:
            return apgd(self.differentiable(model), x, target, on_step=show, **self.knobs)
