"""Labels that may overlap, such as whole tumour, tumour core and enhancing tumour, as classes.

A pixel's class is the set of its labels as a number: bit k is 1 where the pixel has label k, so that L labels
make 2^L classes, and 0 is background. A network with independent label logits z_k is a softmax network over
these classes with the logits sum_k b_k z_k, b_k the bits of a class. Losses, attacks and certificates of
classes therefore apply unchanged; overlaps are measured for each label.
"""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from seg_mia.errors import InputError
from seg_mia.metrics.labels import IGNORE

MOST: Final = 6
"""Labels at most; their 64 sets are the channels of logits."""


class LabelSets(int):
    """A number of classes that are sets of labels which may overlap: 2 to the power of the number of labels.

    Used in place of a number of classes; functions of `seg_mia.metrics.overlap` then measure labels, not
    sets.

    Args:
        names: one per label, in the order of the bits.

    Raises:
        InputError: no label, more than 6, or a name twice.
    """

    names: tuple[str, ...]

    def __new__(cls, names: Sequence[str]) -> "LabelSets":
        """Return the number of sets."""
        if not 1 <= len(names) <= MOST or len(set(names)) < len(names):
            raise InputError(
                f"labels that overlap must be 1 to {MOST} different names, got {', '.join(names) or 'none'}; "
                "leave some out"
            )
        number = super().__new__(cls, 1 << len(names))
        number.names = tuple(names)
        return number

    def __getnewargs__(self) -> tuple[tuple[str, ...]]:  # type: ignore[override]  # of pickle
        """Return the constructor's arguments."""
        return (self.names,)


def label_names(classes: int) -> tuple[str, ...]:
    """Return the names of labels that may overlap; none for exclusive classes."""
    return classes.names if isinstance(classes, LabelSets) else ()


def label_masks(mask: Tensor, labels: int) -> Tensor:
    """Return the mask of each label, int64 (N, L, *S) of 0, 1 and 255, from a mask of sets (N, *S)."""
    bits = torch.stack([mask >> label & 1 for label in range(labels)], dim=1)
    return bits.masked_fill((mask == IGNORE).unsqueeze(1), IGNORE)
