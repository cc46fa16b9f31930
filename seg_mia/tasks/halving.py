"""Attacks on batches that do not fit into memory, in halves."""

import logging
from collections.abc import Callable, Sequence

import torch
from lightning.pytorch.utilities.memory import garbage_collection_cuda, is_oom_error
from torch import Tensor

from seg_mia.attacks.base import Adversarial
from seg_mia.data.samples import Batch
from seg_mia.errors import InputError

log = logging.getLogger(__name__)

Attack = Callable[[Batch, Tensor], Adversarial]
"""Attack on a batch and its target masks."""


class Halving:
    """Runs attacks on batches, and on their halves where memory does not suffice.

    Attacks treat each image alone, so results do not depend on it.

    Attributes:
        largest: images in a batch that fitted after one that did not; None before.
    """

    def __init__(self) -> None:
        self.largest: int | None = None

    def __call__(self, attack: Attack, batch: Batch, target: Tensor) -> Adversarial:
        """Return the attack's result on a batch.

        Raises:
            InputError: a single image does not fit.
        """
        count = len(batch.image)
        size = min(self.largest or count, count)
        while True:
            parts = _attacked(attack, batch, target, size)
            if parts is not None:
                return joined(parts)
            garbage_collection_cuda()
            if size == 1:
                raise InputError(
                    "memory must suffice to attack one image, got out of memory; set --model.checkpointing "
                    "true, --trainer.precision bf16-mixed or a smaller --data.size"
                )
            size = self.largest = (size + 1) // 2
            log.warning("out of memory: attacking at most %d images at a time from here on", size)


def _attacked(attack: Attack, batch: Batch, target: Tensor, size: int) -> list[Adversarial] | None:
    """Return the results of parts of at most `size` images; None if memory did not suffice."""
    parts = []
    for start in range(0, len(batch.image), size):
        chosen = slice(start, start + size)
        try:
            parts.append(attack(Batch(*(values[chosen] for values in batch)), target[chosen]))
        except RuntimeError as error:
            if not (isinstance(error, torch.OutOfMemoryError) or is_oom_error(error)):
                raise
            return None
    return parts


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
