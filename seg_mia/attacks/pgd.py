"""FGSM and its iterated form: Goodfellow et al., ICLR 2015; Kurakin et al. 2017; Madry et al., ICLR 2018."""

from typing import Literal, assert_never

import torch
from torch import Tensor, nn

from seg_mia.attacks.base import Adversarial, attack_mode, check_inputs, check_output, input_gradient, usable
from seg_mia.attacks.targets import Directed
from seg_mia.errors import InputError
from seg_mia.losses import LOSSES, LossName
from seg_mia.metrics.distance import l2_norm, linf_norm
from seg_mia.metrics.shapes import per_image
from seg_mia.models.heads import final

Norm = Literal["linf", "l2"]


def pgd(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    *,
    targeted: bool = False,
    norm: Norm = "linf",
    epsilon: float = 8 / 255,
    step_size: float = 2 / 255,
    steps: int = 10,
    loss: LossName = "cross_entropy",
) -> Adversarial:
    """Maximise the loss on the ground truth, or minimise it on a target mask, within a norm ball.

    x_{n+1} = P(x_n +- step_size * d). d is the gradient's sign for L-infinity and the normalised gradient for
    L2; P is the projection onto the ball of radius epsilon and onto [0, 1]. The attack starts at the image
    itself, as in the basic iterative method: without a random start, each image's result is deterministic.

    Args:
        model: maps images in [0, 1] to logits (N, K, *s), or to a tuple of them with the final head first.
        x: images (N, C, *S) in [0, 1].
        target: class indices (N, *s), 255 where ignored: the ground truth, or the target mask if targeted.
        targeted: move to `target`; otherwise away from it.
        norm: norm of the ball, over all channels and pixels of an image: "linf" or "l2".
        epsilon: radius of the ball, in grey levels of [0, 1].
        step_size: step size, in the same unit.
        steps: iterations, at least 1.
        loss: a name in `seg_mia.losses.LOSSES`.

    Returns:
        images, with notes `loss_clean` and `loss_adversarial`, the loss before and after.

    Raises:
        InputError: invalid inputs, or options out of range.
    """
    check_inputs(x, target)
    check_ball(epsilon, step_size, steps, norm)
    loss_of = LOSSES[loss]
    with attack_mode(model):
        x, target = usable(x), usable(target)
        image, first = x.clone(), None
        for _ in range(steps):
            image.requires_grad_()
            logits = final(model(image))
            if first is None:
                check_output(logits, target)
            value = loss_of(logits, target)
            first = value.detach() if first is None else first
            gradient = input_gradient(value.sum(), image)
            step = step_size if not targeted else -step_size
            moved = image.detach() + step * direction(gradient, norm)
            image = (x + within(moved - x, norm, epsilon)).clamp(0, 1)
        with torch.no_grad():
            last = loss_of(final(model(image)), target)
    assert first is not None
    return Adversarial(image, {"loss_clean": first, "loss_adversarial": last})


def fgsm(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    *,
    targeted: bool = False,
    norm: Norm = "linf",
    epsilon: float = 8 / 255,
    loss: LossName = "cross_entropy",
) -> Adversarial:
    """Take one step of length epsilon: `pgd` with one step, same inputs and errors.

    Args:
        model: as in `pgd`.
        x: as in `pgd`.
        target: as in `pgd`.
        targeted: move to `target`; otherwise away from it.
        norm: norm of the step, over all channels and pixels of an image: "linf" or "l2".
        epsilon: length of the step, in grey levels of [0, 1].
        loss: a name in `seg_mia.losses.LOSSES`.
    """
    return pgd(
        model, x, target, targeted=targeted, norm=norm, epsilon=epsilon, step_size=epsilon, steps=1, loss=loss
    )


def direction(gradient: Tensor, norm: Norm) -> Tensor:
    """Return the steepest ascent of unit length in a norm; 0 for a zero gradient."""
    match norm:
        case "linf":
            return gradient.sign()
        case "l2":
            largest = per_image(linf_norm(gradient), gradient)
            scaled = torch.where(largest > 0, gradient / largest, 0)  # 1e-26 squared would be 0 in float32
            return torch.where(largest > 0, scaled / per_image(l2_norm(scaled), scaled), 0)
        case _:
            assert_never(norm)


def within(change: Tensor, norm: Norm, epsilon: float) -> Tensor:
    """Return the projection of a change onto the ball of radius epsilon."""
    match norm:
        case "linf":
            return change.clamp(-epsilon, epsilon)
        case "l2":
            length = per_image(l2_norm(change), change)
            return change * torch.where(length > epsilon, epsilon / length, 1)
        case _:
            assert_never(norm)


def check_ball(epsilon: float, step_size: float, steps: int, norm: Norm) -> None:
    """Raise InputError for options out of range."""
    if not (0 < epsilon < float("inf") and 0 < step_size < float("inf")) or steps < 1:
        raise InputError(
            f"epsilon and step_size must be above 0 and finite, steps at least 1, got {epsilon}, {step_size} "
            f"and {steps}; 8/255 is 0.0314"
        )
    for name, value in (("epsilon", epsilon), ("step_size", step_size)):
        if norm == "linf" and value > 1:
            raise InputError(
                f"{name} must be at most 1 in L-infinity, for images in [0, 1], got {value:g}; "
                f"{value:g}/255 is {value / 255:.4f}"
            )


def _check_step(epsilon: float, norm: Norm) -> None:
    check_ball(epsilon, epsilon, 1, norm)


class Fgsm(Directed):
    """Configurable form of `fgsm`."""

    attacker_knowledge = "weights"
    function = staticmethod(fgsm)
    checks = (_check_step,)

    def run(self, model: nn.Module, x: Tensor, target: Tensor) -> Adversarial:
        """Run `fgsm`."""
        return fgsm(self.differentiable(model), x, target, **self.knobs)


class Pgd(Directed):
    """Configurable form of `pgd`."""

    attacker_knowledge = "weights"
    function = staticmethod(pgd)
    checks = (check_ball,)

    def run(self, model: nn.Module, x: Tensor, target: Tensor) -> Adversarial:
        """Run `pgd`."""
        return pgd(self.differentiable(model), x, target, **self.knobs)
