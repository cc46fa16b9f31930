"""ALMA prox, the smallest L-infinity change that fools most pixels: Rony, Pesquet, Ben Ayed, CVPR 2023."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from seg_mia.attacks.base import (
    Adversarial,
    attack_mode,
    check_inputs,
    check_output,
    steps_bar,
    usable,
)
from seg_mia.attacks.gradients import input_gradient
from seg_mia.attacks.objectives import pixel_margin
from seg_mia.attacks.white_box import WhiteBox
from seg_mia.errors import InputError
from seg_mia.metrics.distance import linf_norm
from seg_mia.metrics.labels import IGNORE
from seg_mia.metrics.shapes import axes, per_image
from seg_mia.models.heads import final, predicted

Pixels = Literal["all", "foreground"]
CHECK_EVERY = 10
TAU, GAMMA = 0.95, 2.0
"""A constraint that does not fall to TAU of its value between checks has its penalty multiplied by GAMMA."""
SMOOTHING = 0.8
WEIGHT_RATE, LEAST_WEIGHT = 0.02, 0.1
LEAST_MULTIPLIER = 1e-12
BISECTIONS = 24
CLIPPINGS = 8


def alma_prox(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    *,
    share: float = 0.99,
    pixels: Pixels = "all",
    steps: int = 500,
    step_size: float = 0.001,
    decay: float = 0.1,
    on_step: Callable[[int], None] | None = None,
) -> Adversarial:
    """Find the smallest L-infinity change of each image with which `share` of the pixels are wrong.

    Minimises the norm plus a penalty-Lagrangian of each pixel's margin (Rony et al. 2023, algorithm 1): a
    gradient step on the penalty P2 in the metric of RMSprop, then the proximal operator of the norm and of
    [0, 1] in the same metric. Margins are those of the true class over the best other one, in units of the
    image's mean absolute margin before the attack; the ratio of the paper needs three classes. The pixels
    of largest margin, up to 1 - share of them at the last step, are left out. At last the change is clipped
    to the smallest norm that still does, by eight forward passes.

    Args:
        model: maps images in [0, 1] to logits (N, K, *s), or to a tuple of them with the final head first.
        x: images (N, C, *S) in [0, 1].
        target: ground truth masks (N, *s), 255 where ignored.
        share: of the pixels that must be wrong, in (0, 1].
        pixels: which pixels: "all", or those of the "foreground" in the mask.
        steps: iterations, at least 2; one forward pass and one input gradient each.
        step_size: of the first step, in grey levels of [0, 1].
        decay: factor of the step size at the last step, in (0, 1].
        on_step: callback on_step(n) before iteration n.

    Returns:
        each image's smallest change found, else its iterate with the most wrong pixels, with notes `found`
        (0 or 1), `minimal_linf` (NaN if not found) and `wrong`, the share of wrong pixels.

    Raises:
        InputError: invalid inputs, or options out of range.
    """
    check_inputs(x, target)
    check_knobs(share, steps, step_size, decay)
    with attack_mode(model):
        x, target = usable(x), usable(target)
        counted = target != IGNORE if pixels == "all" else (target != IGNORE) & (target != 0)
        change, smallest = torch.zeros_like(x), _Smallest(x, share)
        state: _Lagrangian | None = None
        for n in range(steps):
            if on_step is not None:
                on_step(n)
            change.requires_grad_()
            logits = final(model(x + change))
            if state is None:
                check_output(logits, target)
                state = _Lagrangian(logits.detach(), target, counted, share)
            met = smallest.keep(n, change.detach(), logits.detach(), target, counted)
            gradient = input_gradient(state.penalty(logits, met, n, steps), change)
            size = step_size * smallest.decayed(n, steps, decay)
            change = state.descended(change.detach(), gradient, size, x, n)
        smallest.finish(model, change, target, counted, steps)
    return smallest.result()


class _Smallest:
    """The smallest change that meets the constraint, else the one that comes closest, of each image."""

    def __init__(self, x: Tensor, share: float) -> None:
        self.x, self.share = x, share
        self.change = torch.zeros_like(x)
        self.norm = x.new_full((len(x),), torch.inf)
        self.wrong = x.new_full((len(x),), -1.0)
        self.since = torch.full((len(x),), -1, dtype=torch.int64, device=x.device)

    def keep(self, n: int, change: Tensor, logits: Tensor, target: Tensor, counted: Tensor) -> Tensor:
        """Record an iterate; return which images meet the constraint, bool (N,)."""
        wrong = wrong_share(logits, target, counted).to(self.norm)
        norm, met = linf_norm(change), wrong >= self.share
        closer = ~self.found & (met | (wrong > self.wrong))
        better = (met & (norm < self.norm)) | closer
        self.since = torch.where(met & ~self.found, n, self.since)
        self.change = torch.where(per_image(better, change), change, self.change)
        self.wrong = torch.where(better, wrong, self.wrong)
        self.norm = torch.where(better & met, norm, self.norm)
        return met

    @property
    def found(self) -> Tensor:
        """Which images have met the constraint, bool (N,)."""
        return self.norm.isfinite()

    @torch.no_grad()
    def finish(self, model: nn.Module, change: Tensor, target: Tensor, counted: Tensor, steps: int) -> None:
        """Record the last iterate, and clip to smaller norms that still meet the constraint, by bisection."""
        self.keep(steps, change, final(model(self.x + change)), target, counted)
        low, high = torch.zeros_like(self.norm), torch.where(self.found, self.norm, 0)
        for _ in range(CLIPPINGS):
            middle = (low + high) / 2
            bound = per_image(middle, self.change)
            change = self.change.clamp(-bound, bound)
            met = self.keep(-1, change, final(model(self.x + change)), target, counted)
            low, high = torch.where(met, low, middle), torch.where(met, middle, high)

    def decayed(self, n: int, steps: int, decay: float) -> Tensor:
        """Return the factor of the step size, 1 until the constraint or half the steps are reached."""
        begun = torch.where(self.since < 0, steps // 2, self.since.clamp(max=steps // 2)).to(self.norm)
        progress = ((n - begun) / (steps - begun)).clamp(0, 1)
        return 1 / (1 + progress * (1 / decay - 1))

    def result(self) -> Adversarial:
        """Return the images with notes."""
        notes = {
            "found": self.found.to(self.norm),
            "minimal_linf": torch.where(self.found, self.norm, torch.nan),
            "wrong": self.wrong,
        }
        return Adversarial((self.x + self.change).clamp(0, 1), notes)


class _Lagrangian:
    """Multiplier and penalty of each pixel, and the metric of the steps."""

    def __init__(self, logits: Tensor, target: Tensor, counted: Tensor, share: float) -> None:
        self.target, self.counted, self.share = target, counted, share
        first = pixel_margin(logits, target).masked_fill(~counted, 0)
        self.total = counted.flatten(1).sum(1)
        mean = first.abs().flatten(1).sum(1) / self.total.clamp(min=1)
        self.unit = torch.where(mean > 0, mean, 1)
        self.multiplier = torch.ones_like(first, dtype=torch.float64)
        self.factor = torch.full_like(self.multiplier, 0.01)
        self.weight = torch.ones_like(self.unit)
        self.before, self.reached = first, torch.zeros_like(counted)
        self.square: Tensor | None = None

    def penalty(self, logits: Tensor, met: Tensor, n: int, steps: int) -> Tensor:
        """Update multipliers and return the sum of penalties."""
        step = torch.where(met, 1 / (1 + WEIGHT_RATE), 1 / (1 - WEIGHT_RATE)).to(self.weight)
        self.weight = (self.weight * step).clamp(LEAST_WEIGHT, 1)
        scale = per_image(self.weight / self.unit, self.target)
        constraint = pixel_margin(logits, self.target) * scale
        # a margin of 0 may be rounded to either class
        constraint = (constraint + 1e-4).double()
        value = constraint.detach()
        counted = self.counted & ~self._hardest(value, n, steps)
        self.reached |= predicted(logits.detach()) != self.target
        if n == 0:
            self.before = value
        elif (n + 1) % CHECK_EVERY == 0:
            improved = torch.where(counted, value, 0) <= TAU * self.before
            self.factor = torch.where(self.reached | improved, self.factor, GAMMA * self.factor)
            self.before, self.reached = value, torch.zeros_like(self.reached)
        if n:
            slope = torch.where(counted, slope_of_penalty(value, self.factor, self.multiplier), 0)
            mixed = SMOOTHING * self.multiplier + (1 - SMOOTHING) * slope
            self.multiplier = mixed.clamp(LEAST_MULTIPLIER, 1)
        # a linear function of the slope has the gradient of the penalty
        slope = torch.where(counted, slope_of_penalty(value, self.factor, self.multiplier), 0)
        return (slope * constraint).sum()

    def _hardest(self, value: Tensor, n: int, steps: int) -> Tensor:
        """Return the pixels of largest constraint that may stay correct, 1 - share of them at the end."""
        allowed = ((1 - self.share) * self.total * n / max(steps - 1, 1)).long()
        largest = int(allowed.max())
        if largest == 0:
            return torch.zeros_like(self.counted)
        flat = value.masked_fill(~self.counted, -torch.inf).flatten(1)
        top = flat.topk(largest).indices
        taken = torch.arange(largest, device=flat.device) < allowed[:, None]
        return torch.zeros_like(flat, dtype=torch.bool).scatter(1, top, taken).view_as(self.counted)

    def descended(self, change: Tensor, gradient: Tensor, size: Tensor, x: Tensor, n: int) -> Tensor:
        """Return the change after one step: along the gradient, then to a smaller norm within [0, 1]."""
        square = torch.zeros_like(gradient) if self.square is None else self.square
        self.square = SMOOTHING * square + (1 - SMOOTHING) * gradient.square()
        metric = (self.square / (1 - SMOOTHING ** (n + 1))).sqrt().clamp(min=1e-8)
        moved = change - per_image(size, change) * gradient / metric
        return smaller(moved, x, metric, size)


def slope_of_penalty(constraint: Tensor, factor: Tensor, multiplier: Tensor) -> Tensor:
    """Return the derivative of the penalty P2 (Birgin, Castillo, Martinez 2005) at a constraint's value.

    Above 0: mu + 2 mu rho y + rho^2 y^2 / 2; below: mu / (1 - max(rho, 1) y)^2.
    """
    above = multiplier * (1 + 2 * factor * constraint) + factor.square() * constraint.square() / 2
    below = multiplier / (1 - factor.clamp(min=1) * constraint.clamp(max=0)).square()
    return torch.where(constraint >= 0, above, below)


def smaller(change: Tensor, x: Tensor, metric: Tensor, weight: Tensor) -> Tensor:
    """Return the proximal point of weight |.|_inf and of x + change in [0, 1], in a diagonal metric.

    The minimum over d of weight |d|_inf + sum metric (d - change)^2, whose largest value t is found by
    bisection: the derivative weight - 2 sum metric (|change| - t) over the values beyond t rises with t.
    """
    limits = torch.where(change > 0, 1 - x, x)
    size = change.abs()
    reach = torch.minimum(size, limits).flatten(1)
    low = torch.zeros_like(weight)
    high = reach.amax(1)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        bound = middle[:, None]
        pull = 2 * (metric.flatten(1) * (size.flatten(1) - bound) * (reach > bound)).sum(1)
        low, high = torch.where(pull > weight, middle, low), torch.where(pull > weight, high, middle)
    bound = per_image(high, change)
    return torch.minimum(torch.maximum(change.clamp(-bound, bound), -x), 1 - x)


def wrong_share(logits: Tensor, target: Tensor, counted: Tensor) -> Tensor:
    """Return the share of counted pixels that are predicted wrongly, (N,); 0 without any."""
    wrong = (predicted(logits) != target) & counted
    space = axes(target, 1)
    return wrong.sum(space) / counted.sum(space).clamp(min=1)


def check_knobs(share: float, steps: int, step_size: float, decay: float) -> None:
    """Raise InputError for options out of range."""
    if not (0 < share <= 1 and 0 < decay <= 1 and 0 < step_size <= 1) or steps < 2:
        raise InputError(
            f"share, decay and step_size must lie in (0, 1], steps must be at least 2, got {share}, {decay}, "
            f"{step_size} and {steps}; try 0.99, 0.1, 0.001 and 500"
        )


class AlmaProx(WhiteBox):
    """Configurable form of `alma_prox`."""

    attacker_knowledge = "weights"
    function = staticmethod(alma_prox)
    checks = (check_knobs,)

    def run(self, model: nn.Module, x: Tensor, target: Tensor) -> Adversarial:
        """Run `alma_prox` with a progress bar."""
        with steps_bar("alma-prox", self.settings["steps"]) as show:
            return alma_prox(self.differentiable(model), x, target, on_step=show, **self.knobs)
