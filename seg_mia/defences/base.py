"""The contract of defences: changes of samples, batches, loss, network or teacher."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any, ClassVar, Literal, NamedTuple, TypedDict

from lightning.pytorch import Callback
from torch import Tensor, nn

from seg_mia.callbacks.outputs import StepOutput
from seg_mia.data.base import SegmentationData
from seg_mia.data.samples import Batch
from seg_mia.defences.traits import Trait, incompatible
from seg_mia.errors import InputError


class DPGuaranteeContent(TypedDict):
    """Plain values of a `seg_mia.results.privacy.DPGuarantee`, as checkpoints keep them."""

    epsilon: float
    delta: float
    budget: float | None
    unit: Literal["image", "patient"]
    neighbours: str
    units: int
    declared: bool
    batch: float
    permitted: dict[str, float | str]
    noise: float
    clip: float
    rate: float
    steps: int
    accountant: str
    reproducible: bool


class Wrapping(NamedTuple):
    """A module to put around a network, as a class and plain arguments, so that a card can name it."""

    kind: type[nn.Module]
    arguments: Mapping[str, object]


Forward = Callable[[Batch], tuple[Tensor, StepOutput]]
"""From a batch to each image's loss (N,), with its graph, and what the step returns of it."""


class GradientComputer(ABC):
    """What makes the gradient of a batch, instead of backpropagation of its mean loss."""

    @abstractmethod
    def step(self, forward: Forward, batch: Batch, parameters: Mapping[str, nn.Parameter]) -> StepOutput:
        """Run the batch, which may be empty, and keep what its gradient is made of."""

    @abstractmethod
    def write(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Set `.grad` of each parameter."""


class Defence:
    """A change to how a victim is made or deployed; every hook's default changes nothing.

    Hooks are given the victim's network as it trains: inside what defences put around it, in training mode
    and with gradients for its parameters. One that asks the network in another way leaves it as it was, as
    `seg_mia.attacks.base.attack_mode` does.

    Attributes:
        traits: what other defences must know of this one, each with a clause that says it of this one.
        teacher: name of the network that is trained first, without any defence, in a folder of this name
            within the run's, if there is one; `learn` is then given it.
        gradient_computer: what makes the gradients, if not backpropagation; set before training starts.
        lr_factor: what the learning rate is multiplied with.
    """

    traits: ClassVar[Mapping[Trait, str]] = {}
    teacher: ClassVar[str | None] = None
    gradient_computer: GradientComputer | None = None
    lr_factor: float = 1.0

    def enter(self, data: SegmentationData) -> None:
        """Add to what is trained on, once; before any `check`, and called as often."""

    def check(self, data: SegmentationData) -> None:
        """Raise InputError where the data, after setup, does not allow the defence; before training."""

    def learn(self, teacher: nn.Module, data: SegmentationData) -> None:
        """Prepare with the network that was trained first; called before training, and when it is resumed."""

    def sample(self, batch: Batch, network: nn.Module) -> Batch:
        """Return the batch with each sample changed on its own; all defences do this before any `batch`."""
        del network
        return batch

    def batch(self, batch: Batch, network: nn.Module) -> Batch:
        """Return what the network trains on instead of the batch, drawn anew for each."""
        del network
        return batch

    def penalty(self, logits: Tensor, batch: Batch, network: nn.Module) -> Tensor | None:
        """Return what each image adds, (N,), to the mean of the batch's losses, or None."""
        del logits, batch, network
        return None

    def wrapping(self) -> Wrapping | None:
        """Return what stands around the network from the start, in training, evaluation and release."""
        return None

    def callbacks(self) -> list[Callback]:
        """Return callbacks for training and validation."""
        return []

    def dp_guarantee(self) -> DPGuaranteeContent | None:
        """Return what the training guarantees about privacy so far, in plain values, or None."""
        return None


def check_together(defences: Sequence[Defence]) -> None:
    """Raise InputError when two defences of a list are incompatible."""
    for first, second in combinations(defences, 2):
        twice = "it can stand there once" if type(first) is type(second) else None
        if reason := twice or incompatible(traits_of(first), traits_of(second)):
            names = f"{type(first).__name__} and {type(second).__name__}"
            raise InputError(f"{names} do not go together: {reason}; leave one out")


def traits_of(defence: Defence) -> dict[Trait, str]:
    """Return the traits that a defence declares, and those that follow from its hooks."""
    traits = dict(defence.traits)
    if type(defence).penalty is not Defence.penalty:
        traits[Trait.ADDS_PENALTY] = "a penalty is of the batch's loss"
    if defence.teacher is not None:
        traits[Trait.HAS_TEACHER] = f"the {defence.teacher} has learnt from the members without noise"
    return traits


def wrapped(network: nn.Module, defences: Sequence[Defence]) -> nn.Module:
    """Return the network with what the defences put around it, the first one innermost."""
    for defence in defences:
        around = defence.wrapping()
        if around is not None:
            network = around.kind(network, **around.arguments)
    return network


def wrapped_spec(spec: Mapping[str, Any], defences: Sequence[Defence]) -> dict[str, Any]:
    """Return class path and arguments of the network that `wrapped` returns, given those of the bare one."""
    deployed = dict(spec)
    for defence in defences:
        around = defence.wrapping()
        if around is not None:
            path = f"{around.kind.__module__}.{around.kind.__qualname__}"
            deployed = {"class_path": path, "init_args": {"network": deployed, **around.arguments}}
    return deployed


def require_full_masks(data: SegmentationData, subject: str, why: str) -> None:
    """Raise InputError where masks are smaller than images, as for networks with unpadded convolutions."""
    image, mask = data.cached.images.shape[1:3], data.cached.masks.shape[1:]
    if image != mask:
        raise InputError(
            f"{subject} needs masks as large as the images, got {tuple(mask)} and {tuple(image)}: {why}; "
            "leave it out, or take a padded network"
        )
