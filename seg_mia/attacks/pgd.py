"""Projected gradient steps: FGSM and PGD (Goodfellow et al. 2015; Madry et al. 2018), SegPGD and CosPGD."""

from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from seg_mia.attacks.ball import Norm, check_ball, check_radius, direction, projected
from seg_mia.attacks.base import Adversarial, attack_mode, check_inputs, check_output, usable
from seg_mia.attacks.best import Best
from seg_mia.attacks.gradients import input_gradient
from seg_mia.attacks.objectives import OBJECTIVES, ObjectiveName, comparable
from seg_mia.attacks.targets import Directed
from seg_mia.models.heads import final
from seg_mia.results.robustness import WorstCase

Keep = Literal["best", "last"]


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
    loss: ObjectiveName = "cross_entropy",
    keep: Keep = "last",
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
        loss: a name in `seg_mia.attacks.objectives.OBJECTIVES`.
        keep: "last" returns the final iterate, "best" each image's iterate of lowest foreground Dice with the
            truth (of highest with a target mask), of highest (lowest) loss among equals.

    Returns:
        images, with notes `loss_clean` and `loss_adversarial`, the loss before and after; for a loss that
        depends on the step or leaves pixels out, the soft Dice loss.

    Raises:
        InputError: invalid inputs, or options out of range.
    """
    check_inputs(x, target)
    check_ball(epsilon, step_size, steps, norm)
    measure, values = comparable(loss), list[Tensor]()
    step = -step_size if targeted else step_size
    with attack_mode(model):
        x, target = usable(x), usable(target)
        best = Best(x, targeted=targeted) if keep == "best" else None

        def moved(image: Tensor, gradient: Tensor) -> Tensor:
            return projected(image + step * direction(gradient, norm), x, norm, epsilon)

        for n, (image, logits) in enumerate(_iterates(model, x, target, moved, steps, loss, targeted)):
            if best is not None or n in {0, steps}:
                values.append(measure(logits.detach(), target))
            if best is not None:
                best.keep(n, image, logits, target, values[-1])
    images, last = (image, values[-1]) if best is None else (best.image, best.loss)
    return Adversarial(images, {"loss_clean": values[0], "loss_adversarial": last})


def _iterates(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    moved: Callable[[Tensor, Tensor], Tensor],
    steps: int,
    loss: ObjectiveName,
    targeted: bool,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield each of the steps + 1 iterates with its logits; `moved` maps one and its gradient to the next."""
    image = x.clone()
    for n in range(steps):
        image.requires_grad_()
        logits = final(model(image))
        if n == 0:
            check_output(logits, target)
        yield image, logits
        gradient = input_gradient(OBJECTIVES[loss](logits, target, n / steps, targeted).sum(), image)
        image = moved(image.detach(), gradient)
    with torch.no_grad():
        logits = final(model(image))
    yield image, logits


def fgsm(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    *,
    targeted: bool = False,
    norm: Norm = "linf",
    epsilon: float = 8 / 255,
    loss: ObjectiveName = "cross_entropy",
) -> Adversarial:
    """Take one step of length epsilon: `pgd` with one step, same inputs and errors.

    Args:
        model: as in `pgd`.
        x: as in `pgd`.
        target: as in `pgd`.
        targeted: move to `target`; otherwise away from it.
        norm: norm of the step, over all channels and pixels of an image: "linf" or "l2".
        epsilon: length of the step, in grey levels of [0, 1].
        loss: a name in `seg_mia.attacks.objectives.OBJECTIVES`.
    """
    return pgd(
        model, x, target, targeted=targeted, norm=norm, epsilon=epsilon, step_size=epsilon, steps=1, loss=loss
    )


def segpgd(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    *,
    targeted: bool = False,
    norm: Norm = "linf",
    epsilon: float = 8 / 255,
    step_size: float = 0.01,
    steps: int = 20,
    keep: Keep = "best",
) -> Adversarial:
    """Weight the cross-entropy of correct and wrong pixels by the step: `pgd` with loss "segpgd".

    Correct pixels weigh 1 - n / 2T at step n of T, wrong ones n / 2T (Gu et al., ECCV 2022).

    Args:
        model: as in `pgd`.
        x: as in `pgd`.
        target: as in `pgd`.
        targeted: move to `target`; otherwise away from it.
        norm: norm of the ball, over all channels and pixels of an image: "linf" or "l2".
        epsilon: radius of the ball, in grey levels of [0, 1].
        step_size: step size, in the same unit.
        steps: iterations, at least 1.
        keep: as in `pgd`; published: "last".
    """
    return pgd(
        model, x, target, targeted=targeted, norm=norm, epsilon=epsilon, step_size=step_size, steps=steps,
        loss="segpgd", keep=keep,
    )  # fmt: skip


def cospgd(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    *,
    targeted: bool = False,
    norm: Norm = "linf",
    epsilon: float = 8 / 255,
    step_size: float = 0.01,
    steps: int = 20,
    keep: Keep = "best",
) -> Adversarial:
    """Weight the cross-entropy of a pixel by how well it agrees with the mask: `pgd` with loss "cospgd".

    The weight is the cosine of probabilities and one-hot mask (Agnihotri et al., ICML 2024).

    Args:
        model: as in `pgd`.
        x: as in `pgd`.
        target: as in `pgd`.
        targeted: move to `target`; otherwise away from it.
        norm: norm of the ball, over all channels and pixels of an image: "linf" or "l2".
        epsilon: radius of the ball, in grey levels of [0, 1].
        step_size: step size, in the same unit.
        steps: iterations, at least 1.
        keep: as in `pgd`; published: "last".
    """
    return pgd(
        model, x, target, targeted=targeted, norm=norm, epsilon=epsilon, step_size=step_size, steps=steps,
        loss="cospgd", keep=keep,
    )  # fmt: skip


class _Steps(Directed):
    """Several steps in a ball, which are a worst case where the best iterate of each image is kept."""

    @property
    def worst_case(self) -> WorstCase | None:
        """All steps, with the loss; None with a target, or for the last iterate."""
        made = self.settings
        if self.is_targeted or made["keep"] != "best":
            return None
        loss = made.get("loss", self.function.__name__)  # segpgd and cospgd are named as their losses
        gradients = {loss: made["steps"]}
        return WorstCase(
            norm=made["norm"],
            radius=made["epsilon"],
            gradients=gradients,
            in_ball=gradients,
            reach=made["steps"] * made["step_size"],
        )


class Fgsm(Directed):
    """Configurable form of `fgsm`."""

    attacker_knowledge = "weights"
    function = staticmethod(fgsm)
    checks = (check_radius,)

    def run(self, model: nn.Module, x: Tensor, target: Tensor) -> Adversarial:
        """Run `fgsm`."""
        return fgsm(self.differentiable(model), x, target, **self.knobs)


class Pgd(_Steps):
    """Configurable form of `pgd`."""

    attacker_knowledge = "weights"
    function = staticmethod(pgd)
    checks = (check_ball,)

    def run(self, model: nn.Module, x: Tensor, target: Tensor) -> Adversarial:
        """Run `pgd`."""
        return pgd(self.differentiable(model), x, target, **self.knobs)


class SegPgd(_Steps):
    """Configurable form of `segpgd`."""

    attacker_knowledge = "weights"
    function = staticmethod(segpgd)
    checks = (check_ball,)

    def run(self, model: nn.Module, x: Tensor, target: Tensor) -> Adversarial:
        """Run `segpgd`."""
        return segpgd(self.differentiable(model), x, target, **self.knobs)


class CosPgd(_Steps):
    """Configurable form of `cospgd`."""

    attacker_knowledge = "weights"
    function = staticmethod(cospgd)
    checks = (check_ball,)

    def run(self, model: nn.Module, x: Tensor, target: Tensor) -> Adversarial:
        """Run `cospgd`."""
        return cospgd(self.differentiable(model), x, target, **self.knobs)
