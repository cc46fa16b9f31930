"""Independence of per-sample losses and gradients, tested on a few samples."""

import copy
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn

from seg_mia.callbacks.outputs import StepOutput
from seg_mia.data.base import SegmentationData
from seg_mia.data.samples import Batch
from seg_mia.errors import InputError
from seg_mia.grad_sample.clipping import Mode, clipped_sum
from seg_mia.grad_sample.recording import UnknownUseError
from seg_mia.models.group_norm import PerSampleNorm
from seg_mia.models.pretraining import PretrainedWeights

log = logging.getLogger(__name__)

TOLERANCE = 1e-6


class Trained(Protocol):
    """Required interface of a task, satisfied by `seg_mia.tasks.segmentation.Segmentation`."""

    network: nn.Module
    encoder_weights: str | None
    weights: str | None
    cache_features: bool
    pretrained: list[PretrainedWeights] | None

    @property
    def device(self) -> torch.device:
        """Device of the network."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return logits."""

    def forward_batch(self, batch: Batch) -> tuple[Tensor, StepOutput]:
        """Return each image's loss, with its graph, and the step's output."""

    def check(self, data: SegmentationData) -> None:
        """Let defences add training samples."""

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """Return the trainable parameters by name."""


def require_separable(task: Trained, data: SegmentationData) -> None:
    """Raise InputError if a sample's logits or loss depend on its batch, or a layer is in eval mode.

    Pairs that share one sample are run. Its logits must not depend on its neighbour, nor the gradient of its
    loss reach it. No buffer may change: it would enter the checkpoint without clipping or noise.
    """
    _require_training(task)
    batch = _few(data, task.device)
    with precise(task):
        before = {name: buffer.clone() for name, buffer in task.network.named_buffers()}
        reached = _touched(lambda part: task(part.image), batch)
        if reached:
            raise InputError(
                f"DP-SGD needs a network without mixing of samples, {reached}: {_suspect(task.network)}"
            )
        if name := _changed_buffer(task.network, before):
            raise InputError(
                f"DP-SGD needs a network without state besides its weights, got {name}, which changes with "
                "the images without noise; replace the layer by one without running statistics"
            )
        reached = _touched(lambda part: task.forward_batch(part)[0], batch)
        if reached:
            raise InputError(
                f"DP-SGD needs a per-sample loss, {reached}; return one value per image that depends only on "
                "that image"
            )


def choose_mode(task: Trained, data: SegmentationData, copies: int = 1) -> Mode:
    """Return `fused` if its norms and sums match single backward passes, else `loop`.

    Args:
        task: task with the network in training mode.
        data: data module after setup.
        copies: augmented copies of each sample that are compared.
    """
    batch = _few(data, task.device, copies)

    def objective(rows: Tensor) -> Tensor:
        losses: Tensor = task.forward_batch(Batch(*(part[rows] for part in batch)))[0]
        return losses

    units = torch.arange(len(batch.image), device=task.device) // copies
    with precise(task):
        parameters = task.trained_parameters()
        try:
            fused, loop = (
                clipped_sum(objective, parameters, units, clip=1.0, physical=len(units), mode=mode)
                for mode in ("fused", "loop")
            )
        except UnknownUseError as error:
            log.warning("gradients are computed image by image, which is slower: %s", error)
            return "loop"
    close = torch.allclose(fused.norms, loop.norms, rtol=TOLERANCE, atol=TOLERANCE)
    scale = max(float(gradient.abs().max()) for gradient in loop.sums.values())
    close &= all(
        torch.allclose(fused.sums[name], loop.sums[name], rtol=TOLERANCE, atol=TOLERANCE * scale)
        for name in parameters
    )
    if not close:
        log.warning(
            "gradients are computed image by image, which is slower: batched ones differ (norms %s and %s)",
            fused.norms.tolist(),
            loop.norms.tolist(),
        )
    return "fused" if close else "loop"


def _few(data: SegmentationData, device: torch.device, copies: int = 1) -> Batch:
    samples = data.dataset(data.trained()[:3], augmented=True)  # patches, where training has them
    rows = [samples[draw, position] for position in range(len(samples)) for draw in range(copies)]
    while len(rows) < 3 * copies:  # fewer samples than that are compared with a darker one
        rows.append(rows[0]._replace(image=rows[0].image * 0.5))
    image, mask, index = (torch.stack(part).to(device) for part in zip(*rows, strict=True))
    return Batch(image.double(), mask, index)


def _touched(values: Callable[[Batch], Tensor], batch: Batch) -> str | None:
    """Return how a sample's values depend on its neighbour, first or second, or None."""
    image = batch.image.clone().requires_grad_()
    for position, beside in ((0, ([0, 1], [0, 2])), (1, ([1, 0], [2, 0]))):
        pairs = [Batch(image[rows], batch.mask[rows], batch.index[rows]) for rows in beside]
        with torch.enable_grad():
            first, second = (values(pair) for pair in pairs)
        if first.shape[:1] != (2,):
            return f"got values of shape {tuple(first.shape)} for 2 images"
        gradients = torch.autograd.grad(first[position].sum(), image, allow_unused=True)
        if gradients[0] is not None and bool((gradients[0][1:] != 0).any()):
            return f"but sample {position + 1} of two has another value if the other sample changes"
        if not torch.allclose(first[position], second[position], rtol=TOLERANCE, atol=TOLERANCE):
            return f"but sample {position + 1} of two has another value beside another sample"
    return None


def _changed_buffer(network: nn.Module, before: Mapping[str, Tensor]) -> str | None:
    """Return the name of a buffer changed by a forward pass, or None."""
    after = network.named_buffers()
    return next((name for name, buffer in after if not torch.equal(buffer, before[name])), None)


def _require_training(task: Trained) -> None:
    wrappers = [module for module in task.network.modules() if isinstance(module, PerSampleNorm)]
    fixed = {layer for wrapper in wrappers for layer in wrapper.fixed}
    if any(bool((layer.running_var == 1).all()) for layer in fixed if layer.running_var is not None):
        raise InputError(
            "fixed statistics need a pre-trained encoder, got random weights; set --model.encoder_weights, "
            "or --model.defences.batch_norm group"
        )
    fixed_modules = {part for layer in fixed for part in layer.modules()}
    for name, module in task.network.named_modules():
        if not module.training and module not in fixed_modules:
            raise InputError(
                f"DP-SGD needs a network in training mode, got {name or 'the network'} "
                f"({type(module).__name__}) in evaluation mode, which would hide layers that mix "
                "samples; call train() on it"
            )


def _suspect(network: nn.Module) -> str:
    kinds = nn.modules.batchnorm._NormBase  # batch, instance and synchronised norms derive from it
    for name, module in network.named_modules():
        if isinstance(module, kinds):
            return (
                f"{type(module).__name__} {name} uses statistics of the batch; use group "
                "normalisation instead"
            )
    return "find the layer that computes over the batch axis and replace it"


@contextmanager
def precise(task: Trained) -> Iterator[None]:
    """Give the task a copy of its network in float64 without random dropout.

    In float32, rounding from another order of sums can change the side of zero of a ReLU's input.
    """
    network = task.network
    task.network = copy.deepcopy(network).double()
    for module in task.network.modules():
        if "Drop" in type(module).__name__:
            module.training = False
    try:
        with torch.random.fork_rng():
            yield
    finally:
        task.network = network
