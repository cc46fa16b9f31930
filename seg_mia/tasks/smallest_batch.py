"""Check of the smallest training batch, which may lack batch statistics."""

from collections.abc import Callable

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from seg_mia.config.spec import parameters
from seg_mia.data.base import SegmentationData
from seg_mia.data.samples import Batch
from seg_mia.errors import InputError, reason_of
from seg_mia.models.prompts import prompts_from

REFUSED = "Expected more than 1"
"""Start of torch's error for normalisation of one value per channel in training mode."""


def check_batches(
    network: nn.Module,
    data: SegmentationData,
    trainer: Trainer,
    *,
    changed: Callable[[Batch], Batch] = lambda batch: batch,
) -> None:
    """Run the smallest batch of an epoch in training mode, then restore the network.

    Validation in evaluation mode does not reveal the problem, as normalisation layers accept any batch there;
    the epoch would fail at its last batch.

    Args:
        network: network from images (N, C, *S) in [0, 1] to logits.
        data: after setup; Poisson batches are skipped, as private training has no batch statistics.
        trainer: provides the number of ranks.
        changed: transformation of a batch before the network.

    Raises:
        InputError: a normalisation layer rejects the batch; the message gives a batch size that works.
    """
    if data.batches is not None or getattr(trainer.strategy, "_layer_sync", None) is not None:
        return
    per_rank = -(-len(data.trained()) // trainer.world_size)
    size = data.batch_size
    smallest = min(size, per_rank, per_rank % size or size)
    reason = _refusal(network, data, smallest, changed)
    if reason is None:
        return
    if smallest > 1 or _refusal(network, data, 2, changed) is not None:
        sides = "x".join(map(str, data.dataset(data.trained()[:1], augmented=True)[0, 0].mask.shape))
        larger = "raise --data.size, or" if "size" in parameters(type(data)) else "give larger images, or"
        raise InputError(
            f"the network cannot be trained on batches of {smallest} images of {sides}: {reason}; "
            f"{larger} use a shallower network or another normalisation"
        )
    sizes = (*range(size, 1, -1), *range(size + 1, per_rank + 1))
    fitting = next((batch_size for batch_size in sizes if per_rank % batch_size != 1), None)
    remedy = f"--data.batch_size {fitting}" if fitting else "more --data.members"
    raise InputError(
        f"{per_rank} images in batches of {size} leave a batch of one image, on which the network cannot be "
        f"trained: {reason}; set {remedy}, or use a normalisation without batch statistics, such as norm: "
        "group of seg_mia.models.smp.Smp"
    )


def _refusal(
    network: nn.Module, data: SegmentationData, count: int, changed: Callable[[Batch], Batch]
) -> str | None:
    """Return the error of a normalisation layer for a batch in training mode, None if there is none."""
    rows = data.dataset(data.trained(), augmented=True)
    samples = [rows[0, row % len(rows)] for row in range(count)]
    modes = [(module, module.training) for module in network.modules()]
    buffers = {name: value.clone() for name, value in network.named_buffers()}
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            drawn = Batch(*(torch.stack(part).to(device) for part in zip(*samples, strict=True)))
            network.train()
            shown = changed(drawn)
            with prompts_from(shown.mask):
                network(shown.image)
    except ValueError as error:
        if not str(error).startswith(REFUSED):
            raise
        return reason_of(error)
    finally:
        _restore(network, modes, buffers)
    return None


def _restore(network: nn.Module, modes: list[tuple[nn.Module, bool]], buffers: dict[str, Tensor]) -> None:
    for module, training in modes:
        module.training = training
    for name, value in network.named_buffers():
        value.copy_(buffers[name])
