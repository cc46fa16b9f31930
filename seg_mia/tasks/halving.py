"""Attacks and passes on batches that do not fit into memory, in halves."""

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from lightning.pytorch.utilities.memory import garbage_collection_cuda, is_oom_error
from torch import Tensor, nn

from seg_mia.attacks.base import Adversarial
from seg_mia.data.samples import Batch
from seg_mia.errors import InputError
from seg_mia.models.prompts import prompts_from, takes_prompts

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

Attack = Callable[[Batch, Tensor], Adversarial]
"""Attack on a batch and its target masks."""


class Halving:
    """Runs attacks and passes on batches, and on their halves where memory does not suffice.

    Both treat each image alone, so results do not depend on it. Promptable networks get the prompts of the
    part that they are shown: of one sample, as attacks show copies and parts of a batch.

    Args:
        networks: that are shown the images.

    Attributes:
        largest: images in a batch that fitted after one that did not, 1 for promptable networks; None before.
    """

    def __init__(self, *networks: nn.Module | None) -> None:
        prompted = any(network is not None and takes_prompts(network) for network in networks)
        self.largest: int | None = 1 if prompted else None

    def __call__(self, attack: Attack, batch: Batch, target: Tensor) -> Adversarial:
        """Return the attack's result on a batch; errors as of `parts`."""
        return joined(self.parts(attack, batch, target))

    def parts(self, compute: Callable[[Batch, Tensor], Answer], batch: Batch, target: Tensor) -> list[Answer]:
        """Return what is computed of the parts of a batch and its target masks, in order.

        Raises:
            InputError: a single image does not fit.
        """
        count = len(batch.image)
        size = min(self.largest or count, count)
        while True:
            answers = _computed(compute, batch, target, size)
            if answers is not None:
                return answers
            garbage_collection_cuda()
            if size == 1:
                raise InputError(
                    "memory must suffice to attack one image, got out of memory; set --trainer.precision "
                    "bf16-mixed or a smaller --data.size"
                )
            size = self.largest = (size + 1) // 2
            log.warning("out of memory: attacking at most %d images at a time from here on", size)


def _computed(
    compute: Callable[[Batch, Tensor], Answer], batch: Batch, target: Tensor, size: int
) -> list[Answer] | None:
    """Return the results of parts of at most `size` images; None if memory did not suffice."""
    answers = []
    for start in range(0, len(batch.image), size):
        chosen = slice(start, start + size)
        part = Batch(*(values[chosen] for values in batch))
        try:
            with prompts_from(part.mask):
                answers.append(compute(part, target[chosen]))
        except RuntimeError as error:
            if not (isinstance(error, torch.OutOfMemoryError) or is_oom_error(error)):
                raise
            return None
    return answers


def joined(parts: Sequence[Adversarial]) -> Adversarial:
    """Return the results of parts of a batch as one; a shorter history repeats its last row."""
    if len(parts) == 1:
        return parts[0]
    history = {}
    for name in parts[0].history:
        length = max(len(part.history[name]) for part in parts)
        history[name] = torch.cat([_lengthened(part.history[name], length) for part in parts], dim=1)
    return Adversarial(
        torch.cat([part.images for part in parts]),
        {name: torch.cat([part.notes[name] for part in parts]) for name in parts[0].notes},
        history,
    )


def _lengthened(rows: Tensor, length: int) -> Tensor:
    return torch.cat([rows, rows[-1:].expand(length - len(rows), -1)])
