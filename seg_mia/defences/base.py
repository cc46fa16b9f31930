"""Interface of defences: changes of samples, batches, loss, network or teacher."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import ClassVar, Literal, NamedTuple, TypedDict

from lightning.pytorch import Callback
from torch import Tensor, nn

from seg_mia.callbacks.outputs import StepOutput
from seg_mia.config.spec import ClassSpec
from seg_mia.data.base import SegmentationData
from seg_mia.data.samples import Batch
from seg_mia.defences.traits import Trait, incompatible
from seg_mia.errors import InputError
from seg_mia.models.pretraining import PretrainedWeights


class DPGuaranteeContent(TypedDict):
    """Plain values of a `seg_mia.results.privacy.DPGuarantee`, stored in checkpoints."""

    epsilon: float
    replace_one: float
    delta: float
    budget: float | None
    unit: Literal["image", "patient"]
    neighbours: str
    units: int
    declared: bool
    batch: float | None
    permitted: dict[str, float | str]
    noise: float | None
    clip: float | None
    rate: float
    steps: int
    release: float
    accountant: str
    reproducible: bool
    pretrained: list[PretrainedWeights] | None


class Wrapping(NamedTuple):
    """A module around a network, as a class and plain arguments for the checkpoint metadata."""

    kind: type[nn.Module]
    arguments: Mapping[str, object]


Forward = Callable[[Batch], tuple[Tensor, StepOutput]]
"""Function from a batch to each image's loss (N,), with its graph, and the step's output."""


class GradientComputer(ABC):
    """Computes the gradient of a batch, in place of backpropagating its mean loss."""

    @abstractmethod
    def step(self, forward: Forward, batch: Batch, parameters: Mapping[str, nn.Parameter]) -> StepOutput:
        """Run the batch, which may be empty, and keep the data for its gradient."""

    @abstractmethod
    def write(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Set `.grad` of each parameter."""


class Defence:
    """A change to the training or deployment of a victim; the default of every hook changes nothing.

    Hooks receive the victim's network in its training state: wrapped by the defences, in training mode and
    with gradients for its parameters. A hook that queries the network in another mode must restore its state,
    as `seg_mia.attacks.base.attack_mode` does.

    Attributes:
        traits: properties that matter to other defences, each with a clause that describes it.
        teacher: name of a network trained first, without any defence, in a folder of this name within the
            run, if any; `learn` receives it.
        gradient_computer: computes the gradients, if not backpropagation; set before training starts.
        lr_factor: factor on the learning rate.
    """

    traits: ClassVar[Mapping[Trait, str]] = {}
    teacher: ClassVar[str | None] = None
    gradient_computer: GradientComputer | None = None
    lr_factor: float = 1.0

    def enter(self, data: SegmentationData) -> None:
        """Add training samples, once; called before every `check`, possibly several times."""

    def check(self, data: SegmentationData) -> None:
        """Raise InputError before training if the data, after setup, does not permit the defence."""

    def learn(self, teacher: nn.Module, data: SegmentationData) -> None:
        """Prepare with the teacher network; called before training and on resume."""

    def sample(self, batch: Batch, network: nn.Module) -> Batch:
        """Return the batch with each sample changed independently; all defences do so before any `batch`."""
        del network
        return batch

    def batch(self, batch: Batch, network: nn.Module) -> Batch:
        """Return the batch to train on, with new random draws for each batch."""
        del network
        return batch

    def perturb(self, batch: Batch, network: nn.Module) -> Batch:
        """Return the batch with its images perturbed against the network, after every `batch`."""
        del network
        return batch

    def penalty(self, logits: Tensor, batch: Batch, network: nn.Module) -> Tensor | None:
        """Return each image's contribution, (N,), to the mean loss of the batch, or None."""
        del logits, batch, network
        return None

    def wrapping(self) -> Wrapping | None:
        """Return the module around the network in training, evaluation and deployment."""
        return None

    def callbacks(self) -> list[Callback]:
        """Return callbacks for training and validation."""
        return []

    def dp_guarantee(self) -> DPGuaranteeContent | None:
        """Return the privacy guarantee of the training so far, in plain values, or None."""
        return None


def check_together(defences: Sequence[Defence]) -> None:
    """Raise InputError if two defences of a list are incompatible."""
    for first, second in combinations(defences, 2):
        twice = "it may be given only once" if type(first) is type(second) else None
        if reason := twice or incompatible(traits_of(first), traits_of(second)):
            names = f"{type(first).__name__} and {type(second).__name__}"
            raise InputError(f"{names} are incompatible: {reason}; leave one out")


def check_data(defences: Sequence[Defence], data: SegmentationData) -> None:
    """Let defences add training samples; raise InputError if the data, after setup, does not permit one."""
    for defence in defences:
        defence.enter(data)
    for defence in defences:
        defence.check(data)


def traits_of(defence: Defence) -> dict[Trait, str]:
    """Return the declared traits of a defence and those implied by its hooks."""
    traits = dict(defence.traits)
    if type(defence).penalty is not Defence.penalty:
        traits[Trait.ADDS_PENALTY] = "a penalty is added to the loss of the batch"
    if defence.teacher is not None:
        traits[Trait.HAS_TEACHER] = f"the {defence.teacher} was trained on the members without noise"
    return traits


def wrapped(network: nn.Module, defences: Sequence[Defence]) -> nn.Module:
    """Return the network wrapped by the defences, the first one innermost."""
    for defence in defences:
        around = defence.wrapping()
        if around is not None:
            network = around.kind(network, **around.arguments)
    return network


def wrapped_spec(spec: ClassSpec, defences: Sequence[Defence]) -> ClassSpec:
    """Return class path and arguments of the network from `wrapped`, given those of the bare one."""
    deployed = spec.copy()
    for defence in defences:
        around = defence.wrapping()
        if around is not None:
            path = f"{around.kind.__module__}.{around.kind.__qualname__}"
            deployed = {"class_path": path, "init_args": {"network": deployed, **around.arguments}}
    return deployed


def require_full_masks(data: SegmentationData, subject: str, why: str) -> None:
    """Raise InputError if masks are smaller than images, as for networks with unpadded convolutions."""
    image, mask = data.cached.images.shape[1:-1], data.cached.masks.shape[1:]
    if image != mask:
        raise InputError(
            f"{subject} needs masks as large as the images, got {tuple(mask)} and {tuple(image)}: {why}; "
            "leave it out, or take a padded network"
        )


def require_whole_training(data: SegmentationData, subject: str, why: str) -> None:
    """Raise InputError if the network is trained on patches of its samples."""
    if data.patch is not None:
        raise InputError(f"{subject} needs whole samples, got patch {list(data.patch)}: {why}; leave one out")
