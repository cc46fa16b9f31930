"""MedIS: sign steps on six surrogate losses in parallel, fused per image: Shukla, Gupta, Gupta, MTAP 2023.

Losses use all heads of a network, smaller ones at the final one's size; success is that of the final one.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from seg_mia.attacks.base import (
    Adversarial,
    ParallelLosses,
    attack_mode,
    check_inputs,
    check_output,
    steps_bar,
    usable,
)
from seg_mia.attacks.fusion import AttackState, Keep, SuccessCriterion, fused
from seg_mia.attacks.gradients import input_gradient
from seg_mia.attacks.targets import Directed
from seg_mia.errors import InputError
from seg_mia.losses import SURROGATES, SurrogateName
from seg_mia.models.heads import heads_alike

ALL: tuple[SurrogateName, ...] = tuple(SURROGATES)


def medis(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    *,
    targeted: bool = True,
    losses: Sequence[SurrogateName] = ALL,
    steps: int = 10,
    step_size: float = 1 / 255,
    success: float | None = None,
    stop: float | None = None,
    fusion: bool = True,
    keep: Keep = "success",
    count_clean: bool = False,
    truth: Tensor | None = None,
    history: bool = False,
    largest_batch: int | None = None,
    on_step: Callable[[int], None] | None = None,
) -> Adversarial:
    """Drive the prediction to or away from `target` by signed gradient steps on several losses.

    x_{n+1} = clip(x_n -+ step_size * sign(d/dx loss), 0, 1): descent to a target mask, ascent from the ground
    truth (section 3 of the paper), at most steps * step_size in L-infinity. Each image is attacked with each
    loss, a separate run in one batch, which ends when the mean IoU over the target's classes meets `stop`.

    Args:
        model: maps images in [0, 1] to logits (N, K, *s), or to several heads, the final one first.
        x: images (N, C, *S) in [0, 1].
        target: class indices (N, *s), 255 where unconstrained: the target mask, or, untargeted, the truth.
        targeted: move to `target`; otherwise away from it.
        losses: names in `seg_mia.losses.SURROGATES`; ties go to the first.
        steps: iterations, at least 1.
        step_size: size of each step, in [0, 1].
        success: mean IoU of a success; None: at least 0.45, untargeted at most 0.5.
        stop: mean IoU that ends a run; None: at least 0.95, untargeted at most 0.2.
        fusion: keep each image's best run (`fusion.chosen`); otherwise the first loss's.
        keep: "success": a run's iterate of first success, otherwise of best mean IoU; "last": the final one.
        count_clean: count images that meet `success` before the attack as successes of 0 steps, as published.
        truth: ground truth masks (N, *s) for evaluation; images whose target equals theirs are not counted.
        history: record the measures of every iterate.
        largest_batch: images per pass; None: all runs, or on a CPU, whose caches are smaller, all images.
        on_step: callback on_step(n) before iterate n = 0 .. steps.

    Returns:
        images, with the notes and the history of `seg_mia.attacks.fusion.fused`.

    Raises:
        InputError: invalid inputs, or options out of range.
    """
    check_inputs(x, target)
    check_knobs(losses, steps, step_size, success, stop, largest_batch)
    criterion, beyond = success_criterion(targeted, success, stop), history or keep == "last"
    with attack_mode(model):
        x, target, truth = usable(x), usable(target), _usable_truth(x, target, truth)
        state = AttackState(x, target, criterion, truth, losses=len(losses), record=history, beyond=beyond)
        for n in range(steps + 1):
            if on_step is not None:
                on_step(n)
            _iterate(model, state, n, losses, step_size, largest_batch, last=n == steps)
    return fused(state, losses, fusion=fusion, keep=keep, count_clean=count_clean)


def _usable_truth(x: Tensor, target: Tensor, truth: Tensor | None) -> Tensor | None:
    """Return ground truth masks for evaluation, None without; raise InputError for other shapes."""
    if truth is None:
        return None
    check_inputs(x, truth)
    if truth.shape != target.shape:
        raise InputError(
            f"truth must have the targets' shape {tuple(target.shape)}, got {tuple(truth.shape)}; crop "
            "or resize it"
        )
    return usable(truth)


def _iterate(
    model: nn.Module,
    state: AttackState,
    n: int,
    losses: Sequence[SurrogateName],
    step_size: float,
    largest_batch: int | None,
    *,
    last: bool,
) -> None:
    """Evaluate iterate n of all runs, and step those that go on."""
    x = state.x
    largest = largest_batch or (len(x) if x.device.type == "cpu" else len(state.image))
    if n == 0:
        for images in torch.split(torch.arange(len(x), device=x.device), largest):
            _begin(model, state, images, losses, step_size)
    else:
        for part in state.parts(largest):
            _advance(model, state, part, n, losses, step_size, last=last)
    state.close()


def _begin(
    model: nn.Module, state: AttackState, images: Tensor, losses: Sequence[SurrogateName], step_size: float
) -> None:
    """Take the first step of all losses' runs, with one shared pass through the network."""
    x = state.x[images].requires_grad_()
    output = heads_alike(model(x))
    target = state.target[images]
    check_output(output[0], target)
    if state.truth is not None:
        check_output(output[0], state.truth[images])
    indices = state.all_of(images)
    state.measure(indices, output[0].detach(), 0)
    going = state.active[indices]
    for number, name in enumerate(losses):
        if going[number].any():
            loss = SURROGATES[name](output, target).sum()
            gradient = input_gradient(loss, x, again=bool(going[number + 1 :].any()))
            state.move(indices[number][going[number]], gradient[going[number]], step_size)


def _advance(
    model: nn.Module,
    state: AttackState,
    part: Tensor,
    n: int,
    losses: Sequence[SurrogateName],
    step_size: float,
    *,
    last: bool,
) -> None:
    """Evaluate iterate n of the runs `part` (m,) and step the active ones, all losses in one pass."""
    images = state.image[part].requires_grad_(not last)
    output = heads_alike(model(images))
    state.measure(part, output[0].detach(), n)
    going = state.active[part]
    if last or not going.any():
        return
    target, kind = state.target[part % len(state.x)], part // len(state.x)
    total = images.new_zeros(())
    for number, name in enumerate(losses):
        selected = going & (kind == number)
        if selected.any():
            loss = SURROGATES[name](tuple(head[selected] for head in output), target[selected])
            total = total + loss.sum()
    state.move(part[going], input_gradient(total, images)[going], step_size)


def success_criterion(targeted: bool, success: float | None, stop: float | None) -> SuccessCriterion:
    """Return the given thresholds, the published ones if None; success precedes stopping.

    Raises InputError for a `stop` that a run would meet before `success`.
    """
    published = (0.45, 0.95) if targeted else (0.5, 0.2)
    threshold = published[0] if success is None else success
    end = stop
    if end is None:
        end = max(published[1], threshold) if targeted else min(published[1], threshold)
    if end < threshold if targeted else end > threshold:
        raise InputError(
            f"stop must not be reached before success, got stop {end} and success {threshold}; set stop "
            f"{'above' if targeted else 'below'} it, or leave it out"
        )
    return SuccessCriterion(targeted, threshold, end)


def check_knobs(
    losses: Sequence[str],
    steps: int,
    step_size: float,
    success: float | None,
    stop: float | None,
    largest_batch: int | None,
) -> None:
    """Raise InputError for settings out of range."""
    unknown = [name for name in losses if name not in SURROGATES]
    if unknown or not losses or len(set(losses)) < len(losses):
        raise InputError(
            f"losses must name at least one of {', '.join(SURROGATES)}, each once, got "
            f"{', '.join(losses) or 'none'}"
        )
    if steps < 1 or not 0 < step_size <= 1:
        raise InputError(
            f"steps must be at least 1 and step_size in (0, 1], got {steps} and {step_size}; published "
            "are 10 and 1/255"
        )
    for name, value in (("success", success), ("stop", stop)):
        if value is not None and not 0 <= value <= 1:
            raise InputError(f"{name} is a mean IoU, in [0, 1], got {value}")
    if largest_batch is not None and largest_batch < 1:
        raise InputError(f"largest_batch must be at least 1, got {largest_batch}")


class Medis(Directed):
    """Configurable form of `medis`."""

    attacker_knowledge = "weights"
    function = staticmethod(medis)
    checks = (check_knobs, success_criterion)

    @property
    def parallel_losses(self) -> ParallelLosses:
        """The surrogate losses."""
        settings = self.settings
        target_kind = self.target if self.is_targeted else "untargeted"
        return ParallelLosses(target_kind, tuple(settings["losses"]), settings["steps"], settings["fusion"])

    def succeeded(self, reached: Tensor) -> Tensor:
        """Return which mean IoUs with the target (N,) count as success."""
        settings = self.settings
        criterion = success_criterion(settings["targeted"], settings["success"], settings["stop"])
        return criterion.met(reached, criterion.success)

    def run(self, model: nn.Module, x: Tensor, target: Tensor) -> Adversarial:
        """Run `medis` with a progress bar."""
        return self.judged(model, x, target, None)

    def judged(self, model: nn.Module, x: Tensor, target: Tensor, truth: Tensor | None) -> Adversarial:
        """Run `medis` and evaluate against the ground truth."""
        with steps_bar("medis", self.settings["steps"]) as show:
            return medis(self.differentiable(model), x, target, truth=truth, on_step=show, **self.knobs)
