"""Interface of perturbations: call signature, input checks, and gradients in any autograd mode."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from inspect import signature
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from tqdm import tqdm

from seg_mia.attacks.gradients import watched
from seg_mia.errors import InputError
from seg_mia.metrics.labels import IGNORE
from seg_mia.models.following import followed
from seg_mia.models.heads import class_count
from seg_mia.results.robustness import WorstCase


@dataclass(frozen=True)
class Adversarial:
    """Result of a perturbation.

    Attributes:
        images: (N, C, *S) in [0, 1], detached.
        notes: values per image by name, shape (N,): steps used, success, overlap reached.
        history: recorded iterates by name, (T, N), one row each; empty unless requested.
    """

    images: Tensor
    notes: dict[str, Tensor] = field(default_factory=dict)
    history: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class ParallelLosses:
    """Losses that an attack runs in parallel; its notes hold NAME.success and NAME.steps of each.

    Attributes:
        target_kind: kind of target mask, or "untargeted".
        losses: names of the losses; the note `loss` is an index into them.
        steps: maximum number of steps of each.
        fusion: whether the best run of each image is kept, instead of the first loss's.
    """

    target_kind: str
    losses: tuple[str, ...]
    steps: int
    fusion: bool


@dataclass(frozen=True)
class Preparation:
    """Training required before an attack, on data excluded from its evaluation.

    Attributes:
        config: config of the training.
        option: option of the attack that receives the training's folder.
        task: class path of the task that the config must train.
        product: name of the result, in the plural.
        example: a shipped config of this kind.
    """

    config: str
    option: str
    task: str
    product: str
    example: str


class Perturbation(ABC):
    """A map from images to adversarial images of the same shape, in [0, 1].

    A subclass names the function that implements it. Options are declared only in that function's signature
    and docstring: `run` passes `self.knobs` on, and the command line reads the options off that call.
    """

    function: ClassVar[Callable[..., Adversarial]]
    """Function that implements the perturbation, as a static method."""
    checks: ClassVar[tuple[Callable[..., object], ...]] = ()
    """Validators of some of the options; they raise InputError for values out of range."""
    surrogate: str | list[str] | None = None
    """Checkpoints or run folders of the attacker's surrogate networks, if any."""
    others: str | list[str] | None = None
    """Checkpoints or run folders of other victims that the changed images are shown to, if any."""
    on_surrogate: ClassVar[bool] = False
    """Whether images are crafted on the surrogates alone."""
    fits: ClassVar[bool] = False
    """Whether the attack is fitted to one half of the patients (`fit`) and evaluated on the other."""
    keeps_padding: ClassVar[bool] = True
    """Whether the padding of volumes is left as it was when the result is evaluated."""

    def __init__(self, **knobs: Any) -> None:
        self.knobs = knobs
        self.check_knobs()

    @property
    @abstractmethod
    def attacker_knowledge(self) -> str:
        """Attacker knowledge of the victim, as shown in result tables; a class attribute if fixed."""

    @abstractmethod
    def run(self, model: nn.Module, x: Tensor, target: Tensor) -> Adversarial:
        """Return adversarial versions of `x` (N, C, *S) against `model`, given `target`."""

    def judged(
        self,
        model: nn.Module,
        x: Tensor,
        target: Tensor,
        truth: Tensor | None,  # noqa: ARG002
    ) -> Adversarial:
        """Return the result of `run`; overridden by attacks that also evaluate against the ground truth.

        Args:
            model: as in `run`.
            x: as in `run`.
            target: as in `run`.
            truth: ground truth masks (N, *s), which do not influence the perturbation.
        """
        return self.run(model, x, target)

    @property
    def settings(self) -> dict[str, Any]:
        """Options of the function by name, completed with its defaults."""
        bound = signature(self.function).bind_partial(**self.knobs)
        bound.apply_defaults()
        return bound.arguments

    @property
    def fitting_seed(self) -> int:
        """Seed of the division into the half that the attack is fitted to and the other; 0 without `seed`."""
        return int(self.settings.get("seed", 0))

    def check_knobs(self) -> None:
        """Raise InputError for options out of range, TypeError for unknown ones."""
        settings = self.settings
        for check in self.checks:
            check(**{name: settings[name] for name in signature(check).parameters if name in settings})

    @property
    def is_targeted(self) -> bool:
        """Whether the attack has a target mask; otherwise the target is the ground truth."""
        return False

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the attacks of an ensemble, which the note `member` is an index into; empty otherwise."""
        return ()

    @property
    def parallel_losses(self) -> ParallelLosses | None:
        """Losses run in parallel, if any."""
        return None

    @property
    def radii(self) -> tuple[float, ...]:
        """Radii of an attack in several balls, in grey levels of 8 bits; empty otherwise."""
        return ()

    @property
    def worst_case(self) -> WorstCase | None:
        """Effort of an attack that keeps each image's strongest iterate in a ball; None for others."""
        return None

    def fit(self, model: nn.Module, x: Tensor, target: Tensor) -> dict[str, Tensor]:  # noqa: ARG002
        """Fit the attack for one network to images that it is not evaluated on.

        Args:
            model: as in `run`.
            x: as in `run`.
            target: as in `run`.

        Returns:
            what was fitted, by the name of the file that holds it.
        """
        return {}

    def succeeded(self, reached: Tensor) -> Tensor | None:  # noqa: ARG002
        """Return which mean IoUs with the target (N,) count as success; None if success is undefined."""
        return None

    def prepares(self) -> Preparation | None:
        """Return the training that the attack requires; None if there is none."""
        return None

    def check(self, model: nn.Module | None = None) -> None:  # noqa: B027  # most attacks read nothing
        """Raise InputError if a file the attack needs, or a required property of the victim, is missing."""

    def check_samples(self, classes: int, channels: int) -> None:  # noqa: B027  # most attacks take any
        """Raise InputError for numbers of classes or of image channels that the attack cannot treat."""


@contextmanager
def attack_mode(model: nn.Module, *, queries: bool = False) -> Iterator[None]:
    """Enable input gradients, and restore the state of `model` afterwards.

    `Trainer.test` may run under inference mode, where `enable_grad` alone has no effect. Normalisation
    statistics and dropout must be frozen. Parameter gradients are disabled: they would cost as much as those
    of the images.

    Args:
        model: the network.
        queries: whether its outputs are read as those of a query; otherwise a smoothed network answers with
            what its gradients belong to (`seg_mia.models.following`).

    Raises:
        InputError: NaN or infinity in a gradient (`seg_mia.attacks.gradients`).
    """
    modes = [(module, module.training) for module in model.modules()]
    needs = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    model.eval().requires_grad_(False)
    try:
        with torch.inference_mode(False), torch.enable_grad(), followed(not queries), watched():
            yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, flag in needs:
            parameter.requires_grad_(flag)


@contextmanager
def steps_bar(name: str, steps: int) -> Iterator[Callable[[int], None]]:
    """Yield a progress function; it shows nothing outside an interactive terminal."""
    with tqdm(total=steps, desc=name, unit="step", leave=False, disable=None) as bar:

        def show(done: int) -> None:
            bar.update(done - bar.n)

        yield show


def usable(x: Tensor) -> Tensor:
    """Return `x` detached, and cloned if it is an inference tensor, which autograd cannot save.

    Call it with inference mode off.
    """
    return x.detach().clone() if x.is_inference() else x.detach()


def check_inputs(x: Tensor, target: Tensor) -> None:
    """Raise InputError for invalid images or masks, TypeError for anything but tensors.

    Args:
        x: images, floating point, (N, C, *S) with at least two spatial axes, in [0, 1].
        target: class indices, int64, (N, *s), with as many spatial axes; 255 marks unconstrained pixels.
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
    """Raise InputError if the logits (N, K, *s) cannot be compared with `target` (N, *s)."""
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
