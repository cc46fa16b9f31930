"""What every perturbation shares: its call signature, its input checks, and gradients under any mode."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from inspect import signature
from typing import Any, ClassVar

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
        images: (N, C, *S) in [0, 1], detached.
        notes: a name to one value per image, shape (N,): steps used, success, overlap reached.
        history: a name to (T, N), one row per recorded iterate; empty unless asked for.
    """

    images: Tensor
    notes: dict[str, Tensor] = field(default_factory=dict)
    history: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class ParallelLosses:
    """Losses that an attack runs side by side; its notes hold NAME.success and NAME.steps of each.

    Attributes:
        target_kind: the kind of target mask, or "untargeted".
        losses: their names; a note `loss` is an index into these.
        steps: the most that each takes.
        fusion: whether the best run of each image is kept, instead of the first loss's.
    """

    target_kind: str
    losses: tuple[str, ...]
    steps: int
    fusion: bool


@dataclass(frozen=True)
class Preparation:
    """A training that an attack needs first, on data whose samples it is not judged by.

    Attributes:
        config: trains it.
        option: the attack's option that the training's folder goes to.
        task: class path of the task that the config must train.
        product: what comes out, in the plural.
        example: a shipped config of this kind.
    """

    config: str
    option: str
    task: str
    product: str
    example: str


class Perturbation(ABC):
    """A map from images to adversarial images of the same shape, in [0, 1].

    A subclass names the function that does the work. Signature and docstring of that function are the only
    place of a knob: `run` passes `self.knobs` on, and the command line reads the options off that call.
    """

    attacker_knowledge: ClassVar[str]
    """What the attacker must see of the victim, as every table of results says it."""
    function: ClassVar[Callable[..., Adversarial]]
    """What does the work, as a static method."""
    checks: ClassVar[tuple[Callable[..., object], ...]] = ()
    """Functions of some of the knobs, which raise InputError for values outside their range."""
    surrogate: str | None = None
    """Checkpoint or run's folder of a network of the attacker's, if there is one."""

    def __init__(self, **knobs: Any) -> None:
        self.knobs = knobs
        self.check_knobs()

    @abstractmethod
    def run(self, model: nn.Module, x: Tensor, target: Tensor) -> Adversarial:
        """Return `x` (N, C, *S) changed so that `model` does with it what the attack wants of `target`."""

    def judged(
        self,
        model: nn.Module,
        x: Tensor,
        target: Tensor,
        truth: Tensor | None,  # noqa: ARG002
    ) -> Adversarial:
        """Return what `run` does; an attack that also measures itself against the true masks overrides this.

        Args:
            model: as in `run`.
            x: as in `run`.
            target: as in `run`.
            truth: the images' true masks (N, *s), which change no perturbation.
        """
        return self.run(model, x, target)

    @property
    def settings(self) -> dict[str, Any]:
        """The function's options by name, with its defaults where no knob was given."""
        bound = signature(self.function).bind_partial(**self.knobs)
        bound.apply_defaults()
        return bound.arguments

    def check_knobs(self) -> None:
        """Raise InputError for knobs outside their range, TypeError for those that the function lacks."""
        settings = self.settings
        for check in self.checks:
            check(**{name: settings[name] for name in signature(check).parameters if name in settings})

    @property
    def is_targeted(self) -> bool:
        """Whether a mask is asked for; otherwise the target is the true mask."""
        return False

    @property
    def parallel_losses(self) -> ParallelLosses | None:
        """The losses that are run side by side, if any."""
        return None

    def succeeded(self, reached: Tensor) -> Tensor | None:  # noqa: ARG002
        """Say of mean IoUs with the target (N,) which are successes; None for an attack without success."""
        return None

    def prepares(self) -> Preparation | None:
        """Return the training that the attack needs first; None where it can run as it is."""
        return None

    def check(self, model: nn.Module | None = None) -> None:  # noqa: B027  # most attacks read nothing
        """Raise InputError where something is missing that the attack reads, or the victim has not."""


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
        x: images, floating point, (N, C, *S) with two spatial axes or more, in [0, 1].
        target: class indices, int64, (N, *s), as many spatial axes; 255 marks pixels without a wish.
    """
    for name, value in (("images", x), ("masks", target)):
        if not isinstance(value, Tensor):
            raise TypeError(
                f"{name} must be a torch tensor, got {type(value).__name__}; convert it, an array by "
                "torch.from_numpy"
            )
    if x.ndim < 4 or not x.is_floating_point():
        raise InputError(
            f"images must be floating point (N, C, H, W) or (N, C, D, H, W), got {x.dtype} {tuple(x.shape)}; "
            "add the axes of batch and channels, divide bytes by 255"
        )
    if target.ndim != x.ndim - 1 or len(target) != len(x) or target.dtype != torch.int64:
        raise InputError(
            f"masks must be int64 class indices ({len(x)}, ...) with "
            f"the images' {x.ndim - 2} spatial axes, got {target.dtype} {tuple(target.shape)}; one-hot masks "
            "need .argmax(1)"
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
    """Raise InputError when the logits (N, K, *s) cannot be compared with `target` (N, *s)."""
    if logits.shape[0] != len(target) or logits.shape[2:] != target.shape[1:]:
        raise InputError(
            f"the network's logits must be (N, K, ...) with the masks' {tuple(target.shape)}, "
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
