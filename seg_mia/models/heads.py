"""Interpretation of network outputs: one or several heads, one logit or one per class.

Logits have shape (N, K, *S) with at least two spatial axes. K = 1 is binary, and the logit z represents the
pair (-z/2, z/2), whose softmax is sigmoid(z).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)
from torch import Tensor

from seg_mia.errors import InputError
from seg_mia.metrics.label_sets import LabelSets

_SETS: ContextVar[LabelSets | None] = ContextVar("sets", default=None)


def heads(output: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return all logits of a network's output, those of the final head first.

    Raises TypeError for anything but a tensor or a tuple or list of tensors, InputError for an empty one and
    for a shape other than (N, K, *S).
    """
    if isinstance(output, Tensor):
        return (_checked(output),)
    if not isinstance(output, (tuple, list)):
        raise TypeError(
            f"a network must return its logits as a tensor, or a tuple of them with the final head first, "
            f"got {type(output).__name__}; wrap the network in a module that returns only the logits"
        )
    if not output:
        raise InputError(
            "a network must return at least one tensor of logits, got an empty tuple; return the logits"
        )
    return tuple(_checked(head) for head in output)


def final(output: Tensor | Sequence[Tensor]) -> Tensor:
    """Return the logits (N, K, *S) of the final head; same errors as `heads`."""
    return heads(output)[0]


def at_size(logits: Tensor, like: Tensor) -> Tensor:
    """Return logits (N, K, *S) resized to the size of others, bilinearly or trilinearly."""
    if logits.shape[2:] == like.shape[2:]:
        return logits
    mode = {4: "bilinear", 5: "trilinear"}[logits.ndim]
    return F.interpolate(logits, size=like.shape[2:], mode=mode, align_corners=False)


def heads_alike(output: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return all logits of a network's output at the size of the final head's; same errors as `heads`."""
    maps = heads(output)
    return tuple(at_size(head, maps[0]) for head in maps)


def class_count(logits: Tensor) -> int:
    """Return the number of classes of logits (N, K, *S): 2 for K = 1, else K; see `measuring`."""
    count, sets = max(2, _checked(logits).shape[1]), _SETS.get()
    return sets if sets is not None and sets == count else count


@contextmanager
def measuring(classes: int | None) -> Iterator[None]:
    """Let `class_count` return the `LabelSets` of some data, whose labels may overlap; logits do not tell.

    Overlaps that attacks measure are then those of labels. Without effect for other classes.
    """
    token = _SETS.set(classes if isinstance(classes, LabelSets) else None)
    try:
        yield
    finally:
        _SETS.reset(token)


def class_logits(logits: Tensor) -> Tensor:
    """Return one map per class, (N, K >= 2, *S): a single logit z as its pair, others unchanged."""
    if _checked(logits).shape[1] > 1:
        return logits
    return torch.cat((-logits / 2, logits / 2), dim=1)


def probabilities(logits: Tensor) -> Tensor:
    """Return class probabilities (N, K >= 2, *S) that sum to 1 in every pixel."""
    return class_logits(logits).softmax(dim=1)


def predicted(logits: Tensor) -> Tensor:
    """Return the most likely class of each pixel, int64 (N, *S); ties yield the lowest class."""
    if _checked(logits).shape[1] > 1:
        return logits.argmax(dim=1)
    return (logits[:, 0] > 0).long()


def _checked(logits: Tensor) -> Tensor:
    if not isinstance(logits, Tensor):
        raise TypeError(
            f"logits must be a tensor, got {type(logits).__name__}; "
            "pass a network's output through `final` first"
        )
    if logits.ndim < 4 or logits.shape[1] == 0 or not logits.is_floating_point():
        raise InputError(
            f"logits must be floats of shape (N, K, h, w), or (N, K, d, h, w), with K of at least 1, got "
            f"{logits.dtype} of shape {tuple(logits.shape)}; return the scores of the last layer, batch and "
            "class axes included"
        )
    return logits
