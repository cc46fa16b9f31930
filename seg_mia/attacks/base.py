"""What every perturbation shares: its call signature, its input checks, and gradients under any mode."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn
from tqdm import tqdm

from seg_mia.errors import InputError
from seg_mia.metrics.labels import IGNORE
from seg_mia.models.heads import class_count


@dataclass(frozen=True)
class Adversarial:
    """What an attack returns.

    Attributes:
        images: (N, C, H, W) in [0, 1], detached.
        notes: a name to one value per image, shape (N,): steps used, success, overlap reached.
        history: a name to (T, N), one row per recorded iterate; empty unless asked for.
    """

    images: Tensor
    notes: dict[str, Tensor] = field(default_factory=dict)
    history: dict[str, Tensor] = field(default_factory=dict)


class Perturbation(ABC):
    """A map from images to adversarial images of the same shape, in [0, 1]."""

    sees: ClassVar[str]
    """What the attacker must see of the victim, as every table of results says it."""

    @abstractmethod
    def __call__(self, model: nn.Module, x: Tensor, target: Tensor) -> Adversarial:
        """Return `x` (N, C, H, W) changed so that `model` does with it what the attack wants of `target`."""

    def judged(
        self,
        model: nn.Module,
        x: Tensor,
        target: Tensor,
        truth: Tensor | None,  # noqa: ARG002
    ) -> Adversarial:
        """Return what a call does; an attack that also measures itself against the true masks overrides this.

        Args:
            model: as in a call.
            x: as in a call.
            target: as in a call.
            truth: the images' true masks (N, h, w), which change no perturbation.
        """
        return self(model, x, target)


@contextmanager
def attack_mode(model: nn.Module) -> Iterator[None]:
    """Give gradients with respect to inputs, and leave `model` as it was found.

    `Trainer.test` may run under inference mode, where `enable_grad` alone does nothing. Normalisation
    statistics
    and dropout must be frozen, and parameters need no gradient: theirs would cost as much as the image's.
    """
    modes = [(module, module.training) for module in model.modules()]
    needs = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    model.eval().requires_grad_(False)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, flag in needs:
            parameter.requires_grad_(flag)


def input_gradient(loss: Tensor, images: Tensor, *, again: bool = False) -> Tensor:
    """Return the gradient of a sum over images; zero where the network lets none through.

    Args:
        loss: a scalar.
        images: leaves that require gradients.
        again: keep the graph for another call.

    Raises:
        InputError: NaN or infinity.
    """
    if not loss.requires_grad:
        return torch.zeros_like(images)
    (gradient,) = torch.autograd.grad(loss, images, retain_graph=again)
    if not gradient.isfinite().all():
        raise InputError(
            "the network's gradient must be finite, got NaN or infinity; attack in full precision "
            "(--trainer.precision 32-true), or look for what overflows in the network"
        )
    return gradient


@contextmanager
def steps_bar(name: str, steps: int) -> Iterator[Callable[[int], None]]:
    """Give a function that shows how many of the steps are done; nothing is shown where nobody looks on."""
    with tqdm(total=steps, desc=name, unit="step", leave=False, disable=None) as bar:

        def show(done: int) -> None:
            bar.update(done - bar.n)

        yield show


def usable(x: Tensor) -> Tensor:
    """Return `x` detached, and cloned where it was made under inference mode: autograd cannot save it then.

    Call it with inference mode off.
    """
    return x.detach().clone() if x.is_inference() else x.detach()


def check_inputs(x: Tensor, target: Tensor) -> None:
    """Raise InputError for images or masks that an attack would silently misread, TypeError for no tensors.

    Args:
        x: images, floating point, (N, C, H, W), in [0, 1].
        target: class indices, int64, (N, h, w); 255 marks pixels without a wish.
    """
    for name, value in (("images", x), ("masks", target)):
        if not isinstance(value, Tensor):
            raise TypeError(
                f"{name} must be a torch tensor, got {type(value).__name__}; convert it, an array by "
                "torch.from_numpy"
            )
    if x.ndim != 4 or not x.is_floating_point():
        raise InputError(f"images must be floating point (N, C, H, W), got {x.dtype} {tuple(x.shape)}")
    if target.ndim != 3 or len(target) != len(x) or target.dtype != torch.int64:
        raise InputError(
            f"masks must be int64 class indices ({len(x)}, h, w), got {target.dtype} {tuple(target.shape)}; "
            "one-hot masks need .argmax(1)"
        )
    if x.numel() == 0:
        raise InputError("an attack needs at least one image, got an empty batch")
    low, high = x.min().item(), x.max().item()
    if not (low >= 0 and high <= 1):
        raise InputError(
            f"images must lie in [0, 1], got [{low:.3g}, {high:.3g}]; put normalisation inside the model "
            "(seg_mia.models.adapter.InputAdapter)"
        )


def check_output(logits: Tensor, target: Tensor) -> None:
    """Raise InputError when the logits (N, K, h, w) cannot be compared with `target` (N, h, w)."""
    if logits.ndim != 4 or logits.shape[0] != len(target) or logits.shape[2:] != target.shape[1:]:
        raise InputError(
            f"the network's logits must be (N, K, h, w) with the masks' {tuple(target.shape)}, "
            f"got {tuple(logits.shape)}; crop or resize the masks to the network's output"
        )
    classes = class_count(logits)
    known = (target >= 0) & ((target < classes) | (target == IGNORE))
    if not known.all():
        wrong = sorted(set(target[~known].tolist()))[:5]
        raise InputError(
            f"masks must hold the network's classes 0..{classes - 1} or {IGNORE} (ignored), got {wrong}; "
            "map the mask's values to class indices first"
        )
