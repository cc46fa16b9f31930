"""Memory of a network's passes: format of its tensors, and features computed again for the gradient."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from seg_mia.errors import InputError
from seg_mia.models.nnunet.unet import UNet
from seg_mia.models.smp import Smp
from seg_mia.models.unet3d import UNet3d
from seg_mia.models.unpadded_unet import UnpaddedUNet


def to_channels_last(network: nn.Module) -> None:
    """Store the weights of convolutions with their channels last, in place; features follow.

    Values do not change, results by rounding only.
    """
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for weight in network.parameters():
        if weight.ndim in formats:
            weight.data = weight.data.contiguous(memory_format=formats[weight.ndim])


def recompute_features(network: nn.Module) -> None:
    """Keep only the inputs of a network's blocks until the backward pass, which computes the rest again.

    Chen, Xu, Zhang, Guestrin, arXiv:1604.06174. Gradients do not change; one more forward pass is made.
    Running statistics of normalisation are updated once, and dropout draws the same twice.

    Raises:
        InputError: a network that is not the package's own.
    """
    blocks = list(_blocks(network))
    if not blocks:
        raise InputError(
            f"checkpointing needs a network of blocks (Smp, UNet3d, UnpaddedUNet, nnU-Net's), got "
            f"{type(network).__name__}; leave it out, or lower --data.batch_size"
        )
    for block in blocks:
        block.forward = RecomputedForward(block)


class RecomputedForward:
    """Forward pass of a block that keeps its inputs alone.

    Args:
        block: module whose class has the forward pass.
    """

    def __init__(self, block: nn.Module) -> None:
        self.block = block

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        """Return the block's output."""
        forward = partial(type(self.block).forward, self.block)
        if not torch.is_grad_enabled():
            return forward(*inputs, **options)
        return checkpoint(forward, *inputs, use_reentrant=False, context_fn=self._contexts, **options)

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), kept_statistics(self.block)


@contextmanager
def kept_statistics(block: nn.Module) -> Iterator[None]:
    """Let batch normalisation in training leave its running statistics as they are."""
    layers = [layer for layer in block.modules() if isinstance(layer, _BatchNorm)]
    settings = [(layer.momentum, layer.num_batches_tracked) for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
        if isinstance(layer.num_batches_tracked, Tensor):
            layer.num_batches_tracked = layer.num_batches_tracked.clone()
    try:
        yield
    finally:
        for layer, (momentum, tracked) in zip(layers, settings, strict=True):
            layer.momentum, layer.num_batches_tracked = momentum, tracked


def _blocks(network: nn.Module) -> Iterator[nn.Module]:
    """Yield the blocks of a network that are computed again; none of another class."""
    match network:
        case UNet3d():
            yield from (*network.down, *network.up)
        case UnpaddedUNet():
            yield from (part for part in network.children() if isinstance(part, nn.Sequential))
        case UNet():
            yield from (*network.encoder.stages, *network.decoder.stages)
        case Smp():
            for name in ("encoder", "decoder"):
                yield from _children(network.network.get_submodule(name))
        case _:
            for part in network.children():
                yield from _blocks(part)


def _children(part: nn.Module) -> Iterator[nn.Module]:
    """Yield the blocks of an encoder or a decoder: its sequences, and the members of its lists."""
    for child in part.children():
        if isinstance(child, nn.ModuleList):
            yield from child
        elif isinstance(child, nn.Sequential):
            yield child
