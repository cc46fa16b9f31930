"""ASMA, the adaptive segmentation mask attack: Ozbulak, Van Messem, De Neve, MICCAI 2019 (1907.13124)."""

from collections.abc import Callable, Iterator
from typing import Literal, get_args

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
from seg_mia.attacks.targets import Targeted
from seg_mia.errors import InputError
from seg_mia.metrics.distance import l2_norm, linf_norm
from seg_mia.metrics.labels import IGNORE
from seg_mia.metrics.overlap import foreground_iou, pixel_accuracy
from seg_mia.metrics.shapes import per_image
from seg_mia.models.heads import class_count, class_logits, final, predicted

Keep = Literal["best", "last"]
OnStep = Callable[[int, Tensor, Tensor], None]


def asma(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    *,
    steps: int = 2501,
    tau: float = 1e-7,
    beta: float = 1e-6,
    keep: Keep = "best",
    history_every: int = 0,
    on_step: OnStep | None = None,
) -> Adversarial:
    """Drive the prediction to `target` by gradient ascent on unmatched pixels.

    With the adaptive mask M = [y = c][argmax g(x) != c] and the step a_n = beta IoU(y, argmax g(x_n)) + tau
    (a_0 = tau), the iterates are x_{n+1} = clip(x_n + a_n d/dx (sum M g(x)_c - ||x - x_0||^2), 0, 1):
    equations 1 to 4 of the paper. Each image has its own step and is independent of its batch. Each iteration
    costs one forward pass and one input gradient; one more forward pass evaluates the last iterate. Defaults
    are the published values.

    Args:
        model: maps images in [0, 1] to logits (N, K, *s), or to a tuple of them with the final head first.
        x: images (N, C, *S) in [0, 1].
        target: class indices (N, *s), 255 where the prediction is unconstrained.
        steps: iterations, at least 0.
        tau: constant part of the step, in grey levels of [0, 1] per unit of gradient.
        beta: part of the step that grows with the current foreground IoU.
        keep: "best" returns the iterate of highest IoU, and of lowest L2 among equals; "last" the final one,
            as published.
        history_every: record IoU, pixel accuracy, L2 and L-infinity of every n-th iterate and of the last; 0:
            none.
        on_step: callback on_step(n, images, prediction) for each of the steps + 1 iterates.

    Returns:
        images, with note `steps`, the index of the returned iterate.

    Raises:
        InputError: invalid inputs, or options out of range.
    """
    check_inputs(x, target)
    _check_knobs(steps, tau, beta, keep, history_every)
    with attack_mode(model):
        x, target = usable(x), usable(target)
        best = _Best(x)
        rows = list[dict[str, Tensor]]()
        for n, (image, logits, iou, distance) in enumerate(_iterates(model, x, target, steps, tau, beta)):
            prediction = predicted(logits)
            best.keep(n, image, iou, distance, always=keep == "last")
            if history_every and (n % history_every == 0 or n == steps):
                rows.append(_measures(n, image - x, iou, logits, target))
            if on_step is not None:
                on_step(n, image, prediction)
    recorded = {name: torch.stack([row[name] for row in rows]) for name in rows[0]} if rows else {}
    return Adversarial(best.image, {"steps": best.step}, recorded)


def _measures(n: int, change: Tensor, iou: Tensor, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Return the recorded measures of iterate n, (N,) each."""
    return {
        "step": torch.full_like(iou, n),
        "iou": iou,
        "pixel_accuracy": pixel_accuracy(predicted(logits), target, class_count(logits)),
        "l2": l2_norm(change),
        "linf": linf_norm(change),
    }


def _iterates(
    model: nn.Module, x0: Tensor, target: Tensor, steps: int, tau: float, beta: float
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Yield steps + 1 tuples of image, logits, IoU and L2 norm, the last two (N,)."""
    target_classes = target.masked_fill(target == IGNORE, 0).unsqueeze(1)
    image = x0.clone()
    for n in range(steps + 1):
        last = n == steps
        image.requires_grad_(not last)
        output = final(model(image))
        if n == 0:
            check_output(output, target)
        prediction = predicted(output.detach())
        iou = foreground_iou(prediction, target, class_count(output), checked=True).to(x0.dtype)
        iou = iou.nan_to_num(nan=1.0)  # a target that asks for nothing is met
        if not last:
            wrong = (prediction != target) & (target != IGNORE)
            reached = class_logits(output).gather(1, target_classes).squeeze(1)
            ascent = input_gradient((reached * wrong).sum(), image)
        image = image.detach()
        change = image - x0
        yield image, output.detach(), iou, l2_norm(change)
        if not last:
            step = beta * iou + tau if n else torch.full_like(iou, tau)
            image = (image + per_image(step, image) * (ascent - 2 * change)).clamp_(0, 1)


class _Best:
    """Best iterate of each image."""

    def __init__(self, x: Tensor) -> None:
        self.image = x.clone()
        self.iou = x.new_full((len(x),), -1)
        self.distance = x.new_full((len(x),), torch.inf)
        self.step = torch.zeros(len(x), dtype=torch.int64, device=x.device)

    def keep(self, n: int, image: Tensor, iou: Tensor, distance: Tensor, *, always: bool) -> None:
        better = (iou > self.iou) | ((iou == self.iou) & (distance < self.distance))
        if always:
            better = torch.ones_like(better)
        self.image = torch.where(per_image(better, image), image, self.image)
        self.iou = torch.where(better, iou, self.iou)
        self.distance = torch.where(better, distance.to(self.distance.dtype), self.distance)
        self.step = torch.where(better, n, self.step)


def _check_knobs(steps: int, tau: float, beta: float, keep: str, history_every: int) -> None:
    if steps < 0 or history_every < 0:
        raise InputError(f"steps and history_every must be at least 0, got {steps} and {history_every}")
    if not (0 <= tau < float("inf") and 0 <= beta < float("inf")):
        raise InputError(f"tau and beta must be finite and at least 0, got {tau} and {beta}")
    if keep not in get_args(Keep):
        raise InputError(f"keep must be best or last, got {keep!r}; best is the default")


class Asma(Targeted):
    """Configurable form of `asma`."""

    attacker_knowledge = "weights"
    function = staticmethod(asma)
    checks = (_check_knobs,)

    def run(self, model: nn.Module, x: Tensor, target: Tensor) -> Adversarial:
        """Run `asma` with a progress bar."""
        with steps_bar("asma", self.settings["steps"]) as show:
            return asma(self.differentiable(model), x, target, on_step=lambda n, *_: show(n), **self.knobs)
